"""Serves clients: listeners, TLS, connections, and the calls that arrive on them. Owns asyncio and the sockets."""
