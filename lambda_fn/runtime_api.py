"""The Lambda Runtime API over one kept connection (AWS Lambda developer guide, "Using the Lambda runtime API").

HTTP/1.1 by hand: `http.client` takes 10 ms to import, a tenth of a cold start, and cannot send the trailers of a
streamed reply.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Iterable, Mapping
from io import BufferedReader
from typing import Any, NamedTuple

_BASE = "/2018-06-01/runtime"
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
_INVOCATION_ID = "Lambda-Runtime-Invocation-Id"
"""AWS's own runtime clients repeat this header of `next` in their answer; what it is for is not documented."""

_MAX_LINE = 1 << 16
_MAX_HEADERS = 200


class RuntimeApiError(Exception):
    """The Runtime API cannot be reached, or does not answer as documented."""


class NextRefused(RuntimeApiError):
    """The Runtime API is there, and gives no invocation."""


class Response(NamedTuple):
    """The answer of the Runtime API to one request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


Failure = Mapping[str, Any]
"""AWS's form of an error: errorMessage, errorType, requestId, stackTrace."""


class RuntimeApi:
    """The calls that a runtime makes. None has a timeout: the platform freezes and ends the process as it likes."""

    def __init__(self, address: str) -> None:
        """`address` is that of AWS_LAMBDA_RUNTIME_API: host and port."""
        host, _, port = address.rpartition(":")
        self._host = address
        self._address = (host or address, int(port) if host else 80)
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None
        self._echo: Mapping[str, str] = {}
        """What the answer to the last invocation must repeat."""

    def next(self) -> Response:
        """Return the next invocation. Raises NextRefused, RuntimeApiError."""
        response = self._exchange(f"GET {_BASE}/invocation/next", {}, b"")
        if response.status != 200:
            raise NextRefused(f"the Runtime API answered {response.status} to next")
        invocation_id = response.headers.get(_INVOCATION_ID.lower())
        self._echo = {} if invocation_id is None else {_INVOCATION_ID: invocation_id}
        return response

    def reply(self, request_id: str, body: bytes, *, content_type: str) -> int:
        """Post a reply, and return the HTTP status of the answer. Raises RuntimeApiError.

        413 means that the reply is too large, 410 that it is too late, 400 that the Runtime API does not know the
        invocation.
        """
        line = f"POST {_BASE}/invocation/{request_id}/response"
        return self._exchange(line, {"Content-Type": content_type, **self._echo}, body).status

    def stream(self, request_id: str, chunks: Iterable[bytes | Failure], *, content_type: str) -> int:
        """Post a reply chunk by chunk; a Failure among them ends it with trailers that tell. The HTTP status of the
        answer.
        """
        headers = {
            "Content-Type": content_type,
            "Lambda-Runtime-Function-Response-Mode": "streaming",
            "Transfer-Encoding": "chunked",
            "Trailer": f"{_ERROR_TYPE}, {_ERROR_BODY}",
            **self._echo,
        }
        try:
            connection = self._connected()
            connection.sendall(self._head(f"POST {_BASE}/invocation/{request_id}/response", headers))
            trailers = b""
            for chunk in chunks:
                if not isinstance(chunk, bytes):
                    trailers = _failure_trailers(chunk)
                    break
                if chunk:  # an empty chunk would end the body
                    connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.sendall(b"0\r\n" + trailers + b"\r\n")
            return self._receive().status
        except OSError as error:
            raise RuntimeApiError("the Runtime API went away during a streamed reply") from error
        finally:
            # Runtime API, "response streaming": the connection is not used again.
            self.close()

    def fail(self, request_id: str, failure: Failure) -> int:
        """Report that an invocation failed; the HTTP status of the answer. Raises RuntimeApiError."""
        return self._report(f"invocation/{request_id}/error", failure)

    def fail_init(self, failure: Failure) -> int:
        """Report that the function could not be loaded; the HTTP status of the answer. Raises RuntimeApiError."""
        return self._report("init/error", failure)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None

    def _report(self, path: str, failure: Failure) -> int:
        headers = {
            "Content-Type": "application/vnd.aws.lambda.error+json",
            _ERROR_TYPE: _one_line(failure["errorType"]),
            **self._echo,
        }
        return self._exchange(f"POST {_BASE}/{path}", headers, json.dumps(failure).encode()).status

    def _exchange(self, line: str, headers: Mapping[str, str], body: bytes) -> Response:
        message = self._head(line, {**headers, "Content-Length": str(len(body))}) + body
        is_kept = self._socket is not None
        try:
            return self._send_and_receive(message)
        except OSError as error:
            self.close()
            if not is_kept:
                raise RuntimeApiError("the Runtime API cannot be reached") from error
        # A kept connection may have been closed while the handler ran. Once more: the platform refuses what it has seen
        # before.
        try:
            return self._send_and_receive(message)
        except OSError as error:
            self.close()
            raise RuntimeApiError("the Runtime API cannot be reached") from error

    def _send_and_receive(self, message: bytes) -> Response:
        self._connected().sendall(message)
        return self._receive()

    def _head(self, line: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"{line} HTTP/1.1", f"Host: {self._host}", "User-Agent: lambda-fn"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader = self._socket.makefile("rb")
        return self._socket

    # -- the answer (RFC 9112) --

    def _receive(self) -> Response:
        """Receive a response. Raises OSError if the connection ends first, RuntimeApiError if it is not HTTP."""
        status_line = self._line().split(b" ", 2)
        if len(status_line) < 2 or not status_line[0].startswith(b"HTTP/1.") or not status_line[1].isdigit():
            raise RuntimeApiError("the Runtime API does not speak HTTP/1.1")
        headers = self._headers()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._chunked()
        else:
            body = self._exactly(_size(headers.get("content-length", "0"), 10))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(int(status_line[1]), headers, body)

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(_MAX_HEADERS):
            line = self._line()
            if not line:
                return headers
            name, _, value = line.partition(b":")
            # Client contexts may hold any text; the platform sends it as UTF-8.
            headers[name.decode("latin-1").lower()] = value.strip().decode("utf-8", "replace")
        raise RuntimeApiError("the Runtime API sends headers without end")

    def _chunked(self) -> bytes:
        chunks = []
        while size := _size(self._line().partition(b";")[0].decode("latin-1"), 16):
            chunks.append(self._exactly(size))
            self._line()
        self._headers()
        return b"".join(chunks)

    def _line(self) -> bytes:
        assert self._reader is not None
        line = self._reader.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the connection ended")
        return line.rstrip(b"\r\n")

    def _exactly(self, size: int) -> bytes:
        assert self._reader is not None
        data = self._reader.read(size)
        if len(data) < size:
            raise ConnectionResetError("the connection ended")
        return data


def _size(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise RuntimeApiError(f"the Runtime API sends a size that is no number: {text[:40]!r}") from None


def _failure_trailers(failure: Failure) -> bytes:
    body = b64encode(json.dumps(failure).encode()).decode("ascii")
    return f"{_ERROR_TYPE}: {_one_line(failure['errorType'])}\r\n{_ERROR_BODY}: {body}\r\n".encode("latin-1")


def _one_line(text: str) -> str:
    return "".join(character for character in text if " " <= character <= "~")
