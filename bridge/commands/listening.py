"""Binds the sockets of `listen`."""

from __future__ import annotations

import errno
import socket

from bridge.commands.failure import CommandFailed
from bridge.config.schema import Config, Listener
from bridge.rpc.address import TcpAddress
from bridge.server.server import ListenAddress, bind


def bind_all(config: Config) -> list[tuple[ListenAddress, socket.socket]]:
    """Every listener's address with its socket. Raises CommandFailed, and then holds none."""
    bound: list[tuple[ListenAddress, socket.socket]] = []
    for listener in config.listen:
        address = listen_address(listener)
        try:
            bound.append((address, bind(address)))
        except OSError as error:
            for _, sock in bound:
                sock.close()
            question = " (is another bridge running?)" if error.errno == errno.EADDRINUSE else ""
            raise CommandFailed(
                f"cannot listen on {address}: {error.strerror or error}{question}; --listen chooses another address"
            ) from error
    return bound


def listen_address(listener: Listener, *, is_shared: bool = False) -> ListenAddress:
    if isinstance(listener.address, TcpAddress):
        return ListenAddress(listener.address.host, listener.address.port, tls=listener.tls, is_shared=is_shared)
    return ListenAddress(path=listener.address.path, tls=listener.tls, mode=listener.mode, is_shared=is_shared)
