"""A Runtime API for tests: hands out the invocations it was given, keeps what the runtime posts, and reads streamed
bodies with trailers.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"


@dataclass
class Posted:
    """One POST of the runtime."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    trailers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RuntimeApiDouble:
    address: str
    invocations: list[tuple[bytes, Mapping[str, str]]]
    """Payload, and headers beside the usual ones; when they are used up, `next` hangs up."""
    max_reply: int = 6291556
    refusals: list[int] = field(default_factory=list)
    """HTTP statuses that `next` is answered with first."""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """The HTTP status for what is posted to an invocation, by request id; 202 for others."""
    drops: int = 0
    """How many connections to close while the handler runs."""
    posted: list[Posted] = field(default_factory=list)
    connections: int = 0


@contextmanager
def runtime_api(
    *payloads: bytes, headers: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[RuntimeApiDouble]:
    """Serves until the block ends."""
    double = RuntimeApiDouble("", [(payload, headers or {}) for payload in payloads], **settings)

    class Handler(_Handler):
        api = double

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    double.address = f"127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: RuntimeApiDouble
    disable_nagle_algorithm = True  # a head and a body are two writes: the second would wait 40 ms for an ACK

    def setup(self) -> None:
        super().setup()
        self.api.connections += 1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass

    def do_GET(self) -> None:
        assert self.path == "/2018-06-01/runtime/invocation/next"
        if self.api.refusals:
            self._answer(self.api.refusals.pop(0), b"{}", {})
            return
        if not self.api.invocations:
            self.close_connection = True
            return
        payload, headers = self.api.invocations.pop(0)
        usual = {
            "Lambda-Runtime-Aws-Request-Id": REQUEST_ID,
            "Lambda-Runtime-Deadline-Ms": "4102444800000",
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
        }
        self._answer(200, payload, usual | dict(headers))
        if self.api.drops:
            self.api.drops -= 1
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        trailers: dict[str, str] = {}
        if headers.get("transfer-encoding") == "chunked":
            body, trailers = self._chunked()
        else:
            body = self.rfile.read(int(headers["content-length"]))
        self.api.posted.append(Posted(self.path, headers, body, trailers))
        is_too_large = len(body) > self.api.max_reply
        request_id = self.path.split("/")[-2]
        self._answer(413 if is_too_large else self.api.verdicts.get(request_id, 202), b'{"status":"OK"}\n', {})

    def _chunked(self) -> tuple[bytes, dict[str, str]]:
        chunks: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            assert self.rfile.read(2) == b"\r\n"
        trailers = {}
        while (line := self.rfile.readline()) != b"\r\n":
            name, _, value = line.decode().partition(": ")
            trailers[name.lower()] = value.strip()
        return b"".join(chunks), trailers

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def paths(posted: Sequence[Posted]) -> list[str]:
    """Where the posts went, without what all have in common."""
    return [post.path.removeprefix("/2018-06-01/runtime/") for post in posted]
