"""The sockets that requests leave by."""

from __future__ import annotations

import socket

from bridge.carriers.connect import open_socket_to


async def test_sockets_outlive_silent_invocations() -> None:
    """TCP keep-alive begins after a minute, for NAT gateways forget silent connections; small writes leave at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened = await open_socket_to((socket.AF_INET, server.getsockname()))
        accepted, _ = server.accept()
        read = opened.getsockopt
        options = (
            read(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            read(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            read(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            read(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            read(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        )
        accepted.close()
        opened.close()

    assert (1, 60, 15, 4, 1) == options
