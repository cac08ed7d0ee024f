"""A TCP proxy in front of an HTTP/1.1 server that loses answers: the request arrives, and its connection is cut."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Moment = Literal["request", "head", "body"]
"""When a connection is cut: as soon as the request has been passed on, within the head of its reply, or before the last
byte of its reply.
"""


class CuttingProxy:
    """Passes requests on, one at a time on each connection, and replies back, unless they are to be lost."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.requests: list[bytes] = []
        """Head and body of each."""
        self._upstream = upstream
        self._cuts: list[Moment] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def lose(self, *moments: Moment) -> None:
        """Lose the answers to the next requests."""
        self._cuts += moments

    def bodies(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]

    def run(self) -> None:
        """Accept until `close`."""
        with suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server, suppress(OSError):
            while request := _message(client):
                self.requests.append(request)
                cut = self._cuts.pop(0) if self._cuts else None
                server.sendall(request)
                if cut == "request":
                    client.shutdown(socket.SHUT_RDWR)
                    _message(server)  # whose invocation goes on to its end
                    return
                reply = _message(server)
                client.sendall(reply[: {None: len(reply), "head": 20, "body": -1}[cut]])
                if cut is not None:
                    return


def _message(source: socket.socket) -> bytes:
    """Return the next request or response, whole; nothing if there is none. It has a content-length, or no body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = source.recv(1 << 16)
        if not part:
            return b""
        received += part
    head = received.partition(b"\r\n\r\n")[0]
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    whole = len(head) + 4 + (int(length[1]) if length else 0)
    while len(received) < whole:
        received += source.recv(1 << 16)
    return received


@contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    """A proxy in front of this port of the machine."""
    proxy = CuttingProxy(("127.0.0.1", port))
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
