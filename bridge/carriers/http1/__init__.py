"""The HTTP/1.1 client of the per-call path: pool, connections, and how they are opened."""
