"""The function of the example image: the Greeter. A function of one's own is a folder like this one, with its
requirements.txt.
"""

from lambda_fn.examples.greeter import handler

__all__ = ["handler"]
