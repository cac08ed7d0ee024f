"""What `new` writes: an interface read from a .proto, and the files of a function that serves it."""
