"""Attacks, one in each module: what one client can send to harm the others. Only for servers that you run yourself.

Each module has a docstring that says what is sent, `CONFIG` (YAML that the bridge's configuration needs besides, or None), and
`attack(host, port, seconds, tls=None)`, a coroutine function that attacks until the time is over and returns the bytes it sent.
"""
