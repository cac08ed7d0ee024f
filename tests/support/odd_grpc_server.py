"""A gRPC server whose replies a test writes header by header: what no gRPC library would send, and HTTP/2 lets through.

It answers every unary call with one message. Header blocks use the dynamic table as far as the client allows it, as
real servers' do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

Fields = Sequence[tuple[str, str]]
Reply = tuple[Fields, Fields]
"""What stands in the head and in the trailers besides what every reply has."""

MESSAGE = b"hi"


class OddServer:
    """Its `reply` says for each path how the call is answered; None: when the next call of the connection has been
    answered.
    """

    def __init__(self, reply: Callable[[str], Reply | None]) -> None:
        self._reply = reply
        self._changed = Condition()
        self._paths: list[str] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def run(self) -> None:
        with suppress(OSError):  # the listener has been closed
            while True:
                accepted, _ = self._listener.accept()
                self.connections += 1
                self._open.append(accepted)
                Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()

    def wait_for(self, path: str) -> None:
        """Return when a call of this path has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: path in self._paths, 30)

    def _serve(self, accepted: socket.socket) -> None:
        connection = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        connection.initiate_connection()
        paths: dict[int, str] = {}
        waiting: list[int] = []
        with suppress(OSError):  # the client has gone
            accepted.sendall(connection.data_to_send())
            while data := accepted.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, RequestReceived):
                        paths[event.stream_id] = _path_in(event)
                    elif isinstance(event, StreamEnded):
                        self._answer(connection, event.stream_id, paths[event.stream_id], waiting)
                accepted.sendall(connection.data_to_send())

    def _answer(self, connection: H2Connection, stream: int, path: str, waiting: list[int]) -> None:
        with self._changed:
            self._paths.append(path)
            self._changed.notify_all()
        reply = self._reply(path)
        if reply is None:
            waiting.append(stream)
            return
        _send(connection, stream, reply)
        while waiting:
            _send(connection, waiting.pop(), ((), ()))


def _path_in(event: RequestReceived) -> str:
    fields: Any = event.headers  # text, although h2's types say bytes
    return str(dict(fields)[":path"])


def _send(connection: H2Connection, stream: int, reply: Reply) -> None:
    head, tail = reply
    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"), *head])
    connection.send_data(stream, b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE)
    connection.send_headers(stream, [("grpc-status", "0"), *tail], end_stream=True)


@contextmanager
def odd_server(reply: Callable[[str], Reply | None]) -> Iterator[OddServer]:
    server = OddServer(reply)
    thread = Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
