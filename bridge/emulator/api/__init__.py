"""What callers of the local Lambda see: the Invoke API, function URLs, and what is refused."""
