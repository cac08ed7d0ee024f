"""Makes what Lambda takes of a function: a zip file, or the folder from which an image is built.

In: a `Recipe`. Out: a `Built`. The function's own files come from its folder, as far as `.gitignore` leaves them. Its
dependencies come from uv or npm, for the machine of the function and never for this one. The handler is imported from
the finished package before it takes its place.
"""
