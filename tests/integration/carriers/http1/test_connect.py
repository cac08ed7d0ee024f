"""The sockets that requests leave by."""

from __future__ import annotations

import errno
import os
import resource
import socket

import pytest

from bridge.carriers.http1.connect import ADMIN_DESCRIPTORS, open_socket_to


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


async def test_the_last_descriptors_are_kept_for_the_admin_port() -> None:
    """However many calls are in flight: a socket that got one of them is given back."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = (socket.AF_INET, server.getsockname())
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + ADMIN_DESCRIPTORS, former[1]))
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                await open_socket_to(address)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, former)
        (await open_socket_to(address)).close()
