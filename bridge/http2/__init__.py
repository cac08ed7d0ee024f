"""The server side of one HTTP/2 connection: bytes in and events out, commands in and bytes out. No sockets, no clock."""
