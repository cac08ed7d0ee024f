"""Servers that are programs of their own: a port for one, and when it listens."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import Any

_START_SECONDS = 20.0


def free_port() -> int:
    """Of 127.0.0.1, for who must name it before anybody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until_listening(port: int, process: subprocess.Popen[Any]) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "the program has ended"
            assert time.monotonic() < until, "the program does not listen"
            time.sleep(0.02)
        else:
            return
