"""HTTP/2 engines for one connection: they turn bytes into events, and commands into bytes. They use no sockets and no
clock.
"""
