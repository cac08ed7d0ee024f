"""The HTTP side of `LambdaServer.serve`: what a function URL gives the function, given by a server of this process.

In: HTTP/1.1 requests. Out: http-v2 events for the Lambda handler, and its replies, streamed ones in chunks. It knows no
protocol: whatever the handler answers (REST, gRPC-Web, Connect) is answered here.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, SHUT_RDWR, socket
from threading import BoundedSemaphore, Condition, Thread
from typing import Any
from uuid import uuid4

from lambda_fn.streaming import StreamingReply

_logger = logging.getLogger("lambda_fn")

_MAX_BODY = 16 << 20
_MAX_CONNECTIONS = 256
_AT_ONCE = 32
"""Calls served at once, as many as there are workers; further ones wait."""
_IDLE = 65.0
"""Seconds that a connection may stay silent: longer than load balancers keep one that they may still use (60)."""
_MAX_DIGITS = 18
"""Of a content-length."""
_MAX_CHUNK_LINE = 1024
_MAX_TRAILERS = 100
"""Lines behind a chunked body."""

_chunk_size = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n").fullmatch
_fold = re.compile(r"[\r\n]+[ \t]*")
"""RFC 9112 5.2: a value that goes on in the next line; it stands for a space."""

_COLD_START = "x-lambda-fn-cold-start"


class CannotListen(RuntimeError):
    """The address is in use, or not one of this machine."""


class LocalContext:
    """What a handler gets for Lambda's context: no time limit, and replies may be streamed."""

    can_stream_replies = True

    def __init__(self) -> None:
        self.aws_request_id = str(uuid4())


class HttpSide:
    """Serves `handler` at an address, from entering the block until `grace` seconds after leaving it, at most."""

    def __init__(self, handler: Callable[[Any, Any], Any], address: str, *, grace: float) -> None:
        """`address` is `HOST:PORT`; IPv6 in brackets. Raises ValueError for another, CannotListen if it cannot be
        bound.
        """
        self._grace = grace
        self._stops_at: float | None = None
        host, _, port = address.rpartition(":")
        if not port.isdecimal():
            raise ValueError(f"{address!r} is no HOST:PORT")

        class Listener(_Listener):
            address_family = AF_INET6 if ":" in host else _Listener.address_family

        try:
            self._listener = Listener((host.strip("[]"), int(port)), handler)
        except (OSError, OverflowError) as error:
            raise CannotListen(f"Failed to bind to {address} for HTTP: {error}") from error
        self._address = address
        self._thread = Thread(target=self._listener.serve_forever, name="lambda_fn http")

    @property
    def port(self) -> int:
        port: int = self._listener.server_address[1]
        return port

    def __enter__(self) -> HttpSide:  # noqa: PYI034 - Self is Python 3.11's; functions run on 3.10 too
        self._thread.start()
        # For whoever started it by hand: logging is not set up then.
        sys.stderr.write(f"serving HTTP on {self._address} (port {self.port})\n")
        sys.stderr.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_accepting()
        assert self._stops_at is not None
        self._listener.finish(max(0.0, self._stops_at - time.monotonic()))

    def stop_accepting(self) -> None:
        """Take no more connections, and close each after the answer that it waits for."""
        if self._stops_at is None:
            self._stops_at = time.monotonic() + self._grace
            self._listener.is_draining = True
            self._listener.shutdown()
            self._thread.join()
            self._listener.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Callable[[Any, Any], Any]) -> None:
        self.handler = handler
        self.is_draining = False
        self.at_once = BoundedSemaphore(_AT_ONCE)
        self._changed = Condition()
        self._open: set[socket] = set()
        self._busy = 0
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        # HTTPServer's asks the DNS for its own name, which may take seconds.
        from socketserver import TCPServer

        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base's signature
        with self._changed:
            if len(self._open) >= _MAX_CONNECTIONS:
                return False
            self._open.add(request)
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._changed:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base's signature
        _logger.debug("an HTTP connection ended early: %s", sys.exc_info()[1])

    def begin(self) -> None:
        with self._changed:
            self._busy += 1

    def end(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def finish(self, seconds: float) -> None:
        """Wait for the requests in flight, then close what is open."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, seconds)
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(SHUT_RDWR)
            except OSError:  # the peer was quicker
                continue


class _BadBody(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Connection(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    timeout = _IDLE
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        self.server.begin()
        try:
            self._answer_one()
        finally:
            self.server.end()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815 - the base's names

    def _answer_one(self) -> None:
        try:
            event = _event(self.command, self.path, self._headers(), self._body(), self._peer())
        except _BadBody as problem:
            self.close_connection = True
            self._send_plain(problem.status, str(problem))
            return
        with self.server.at_once:
            try:
                reply = self.server.handler(event, LocalContext())
            except BaseException:  # the outermost frame; a servicer's SystemExit ends its call, not the server
                _logger.exception("%s %s", self.command, event["rawPath"])
                self._send_plain(500, "the function failed")
                return
            if isinstance(reply, StreamingReply):
                self._stream(reply)
            else:
                self._send(reply, _bytes_of(reply))

    # -- the request --

    def _peer(self) -> str:
        return str(self.client_address[0])

    def _headers(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            values.setdefault(name.lower(), []).append(_fold.sub(" ", value))
        return values

    def _body(self) -> bytes:
        """Read the body. Raises _BadBody, also where the body's end is in doubt: whoever stands in front might see it
        elsewhere, and the next request with it (RFC 9112 6.3).
        """
        codings = [each.strip().lower() for each in self.headers.get_all("transfer-encoding", ())]
        lengths = {each.strip() for each in self.headers.get_all("content-length", ())}
        if self.headers.defects or len(codings) + len(lengths) > 1:
            raise _BadBody(400, "where the body ends is in doubt")
        if codings == ["chunked"]:
            return b"".join(self._chunks())
        if codings:
            raise _BadBody(400, "a transfer-encoding other than chunked")
        length = lengths.pop() if lengths else "0"
        if not (length.isascii() and length.isdecimal()):
            raise _BadBody(400, "content-length is no number")
        size = int(length) if len(length) <= _MAX_DIGITS else _MAX_BODY + 1
        _check_size(size)
        return self._exactly(size)

    def _chunks(self) -> Iterable[bytes]:
        total = 0
        while size := self._chunk_size():
            total += size
            _check_size(total)
            yield self._exactly(size)
            if self.rfile.readline(2) not in (b"\r\n", b"\n"):
                raise _BadBody(400, "the body is not chunked as it says")
        for _ in range(_MAX_TRAILERS):
            if not self.rfile.readline(_MAX_CHUNK_LINE).strip():
                return
        raise _BadBody(400, "too many lines behind the body")

    def _chunk_size(self) -> int:
        found = _chunk_size(self.rfile.readline(_MAX_CHUNK_LINE))
        if found is None:
            raise _BadBody(400, "the body is not chunked as it says")
        return int(found[1], 16)

    def _exactly(self, size: int) -> bytes:
        body = self.rfile.read(size)
        if len(body) < size:
            raise _BadBody(400, "the request ends early")
        return body

    # -- the reply --

    def _send(self, head: Mapping[str, Any], body: bytes) -> None:
        self._send_head(head)
        if not (self.command == "HEAD" and "content-length" in head.get("headers", {})):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_plain(self, status: int, text: str) -> None:
        headers = {"content-type": "text/plain; charset=utf-8"}
        self._send({"statusCode": status, "headers": headers}, f"{text}\n".encode())

    def _stream(self, reply: StreamingReply) -> None:
        """Send the chunks. A client that goes away ends the call: the chunks are closed."""
        chunks: Any = reply.chunks
        is_chunked = self.request_version >= "HTTP/1.1"
        try:
            self._send_head(reply.head or {"headers": {"content-type": reply.content_type}})
            if is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.close_connection = True
            self.end_headers()
            for chunk in chunks:
                if chunk:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if is_chunked else chunk)
            if is_chunked:
                self.wfile.write(b"0\r\n\r\n")
        finally:
            if hasattr(chunks, "close"):
                chunks.close()

    def _send_head(self, head: Mapping[str, Any]) -> None:
        self.send_response_only(head.get("statusCode", 200))
        values = head.get("multiValueHeaders") or {name: [value] for name, value in head.get("headers", {}).items()}
        for name, several in values.items():
            for value in several:
                if name != _COLD_START:  # for the bridge's figures; nothing is cold here
                    self.send_header(name, value)
        if self.server.is_draining:
            self.send_header("Connection", "close")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        _logger.debug(format, *args)


def _check_size(size: int) -> None:
    if size > _MAX_BODY:
        raise _BadBody(413, f"the body is larger than {_MAX_BODY} bytes")


def _event(method: str, target: str, headers: Mapping[str, list[str]], body: bytes, peer: str) -> dict[str, Any]:
    """Return the http-v2 event that a function URL would make of this request."""
    path, _, query = target.partition("?")
    now = time.time()  # noqa: TID251 - the event tells wall time
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name: ",".join(values) for name, values in headers.items()},
        "multiValueHeaders": headers,
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": peer},
            "stage": "$default",
            "timeEpoch": int(now * 1000),
        },
        "body": b64encode(body).decode("ascii"),
        "isBase64Encoded": True,
    }


def _bytes_of(reply: Mapping[str, Any]) -> bytes:
    body: str = reply.get("body") or ""
    return b64decode(body) if reply.get("isBase64Encoded") else body.encode()
