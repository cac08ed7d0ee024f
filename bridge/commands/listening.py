"""Binds the sockets of `listen`."""

from __future__ import annotations

import errno

from bridge.commands.failure import CommandFailed
from bridge.config.schema import Config
from bridge.server.server import BoundSocket, bind


def bind_all(config: Config) -> list[BoundSocket]:
    """Bind a socket for every listener. Raises CommandFailed, and then holds none."""
    sockets: list[BoundSocket] = []
    for listener in config.listen:
        try:
            sockets.append(bind(listener))
        except OSError as error:
            for bound in sockets:
                bound.close()
            question = " (is another bridge running?)" if error.errno == errno.EADDRINUSE else ""
            raise CommandFailed(
                f"cannot listen on {listener.address}: {error.strerror or error}{question};"
                " --listen chooses another address"
            ) from error
    return sockets
