"""The event shapes, and how a function's reply is read."""
