"""The Runtime API of one instance, over HTTP on a loopback port of its own (AWS_LAMBDA_RUNTIME_API takes no path).

Bytes from the runtime come in, calls of its Session go out, and back. A runtime that is slow, sends garbage or
never stops sending cannot hurt others. Only the current chunk is held, and
bytes that are not HTTP end the connection.
httptools parses because the trailers of a streamed reply count, and aiohttp drops them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import cast

import httptools
from msgspec import json

from bridge.aws.events.prelude import HTTP_CONTENT_TYPE
from bridge.aws.invoke import MAX_REPLY
from bridge.emulator.instances import failures
from bridge.emulator.instances.concurrent_session import InvocationTimedOut, TooManyWaiting
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Reply
from bridge.emulator.instances.lifecycle import Act, InvalidTransition
from bridge.emulator.instances.runtime_session import Delivery, Session, UnknownInvocation
from bridge.server.hosts import Hosts

MAX_HEAD = 64 * 1024
"""Bytes that may pass without a byte of a body: a head, or trailers."""
MAX_RUNTIME_CONNECTIONS = 16
"""Connections of one runtime at a time; it needs one or two. One that serves many invocations at once gets two more for
each.
"""
CUT_GRACE = 0.1
"""Seconds between a connection that ends in the middle of a reply and the verdict: most often its process has died, and
that says more.
"""

PREFIX = "/2018-06-01/runtime/"

OF_BROWSERS = ("origin", "referer", "sec-fetch-site", "sec-fetch-dest")
"""Headers that browsers send with the requests of pages, and runtimes do not. (Node's fetch sends sec-fetch-mode.)"""

ERROR_TYPE = "lambda-runtime-function-error-type"
ERROR_BODY = "lambda-runtime-function-error-body"
RESPONSE_MODE = "lambda-runtime-function-response-mode"

ACCEPTED = b'{"status":"OK"}\n'


class RuntimeApi:
    """The listening port, and what is connected to it."""

    def __init__(self, session: Session, hosts: Hosts | None = None, *, concurrency: int = 1) -> None:
        """`hosts`: the names under which it answers; None: those that nobody else can have. `concurrency`: how many
        invocations the runtime may serve at once.
        """
        self._session = session
        self._max_connections = MAX_RUNTIME_CONNECTIONS + 2 * (concurrency - 1)
        self._hosts = hosts or Hosts("emulator.hosts")
        self._server: asyncio.Server | None = None
        self._connections: set[RuntimeConnection] = set()

    async def open(self) -> str:
        """Listen, and return the address as AWS_LAMBDA_RUNTIME_API wants it."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def last_words(self, *, seconds: float) -> None:
        """Return when all that a process sent before it died has been read: when its connections have ended, or after
        so long.
        """
        ended = [connection.ended for connection in self._connections]
        if ended:
            await asyncio.wait(ended, timeout=seconds)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    def _connection(self) -> RuntimeConnection:
        return RuntimeConnection(self._session, self._hosts, self._connections, self._max_connections)


class RuntimeConnection(asyncio.Protocol):
    """One connection of the runtime. Requests follow one another; nothing may be sent before the last was answered."""

    def __init__(self, session: Session, hosts: Hosts, siblings: set[RuntimeConnection], max_siblings: int) -> None:
        self._session = session
        self._max_siblings = max_siblings
        self._hosts = hosts
        self._siblings = siblings
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_answering = False
        """A request is complete and its response is not."""
        self._has_replied = False
        """Whether it has brought a reply, which takes a request id: then it is the runtime's."""
        self._is_unread = False
        """The runtime asks, but does not read."""
        self._bodiless = 0
        """Bytes since the last byte of a body."""
        self._had_body = False
        self._keeps_alive = True
        self._begin()

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._siblings) >= self._max_siblings:
            self._transport.abort()
            return
        self._siblings.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._siblings.discard(self)
        self.ended.set_result(None)
        self._session.forget(self._send_invocation)
        if self._is_replying:
            asyncio.get_running_loop().call_later(CUT_GRACE, self._session.cut, self._request_id)

    def data_received(self, data: bytes) -> None:
        if self._is_answering:
            self.abort()
            return
        self._had_body = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Java's HttpClient offers h2c in its first request; who ignores the offer (RFC 9110 7.8) goes on in
            # HTTP/1.1.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserCallbackError:
            raise  # ours; asyncio logs it and ends the connection
        except httptools.HttpParserError:
            self.abort()
        self._bodiless = 0 if self._had_body else self._bodiless + len(data)
        if self._bodiless > MAX_HEAD:
            self.abort()

    def pause_writing(self) -> None:
        self._is_unread = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_unread = False
        self._resume()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- httptools

    def on_message_begin(self) -> None:
        if self._is_answering or self._is_unread:
            self.abort()
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._path += url.decode("latin-1")

    def on_header(self, sent_name: bytes, sent_value: bytes) -> None:
        name, value = sent_name.decode("latin-1").lower(), sent_value.decode("latin-1")
        if name == "host":
            self._asked.append(value)
        fields = self._trailers if self._has_head else self._headers
        fields[name] = value

    def on_headers_complete(self) -> None:
        self._has_head = True
        refusal = self._hosts.refusal(self._asked)
        if refusal is None and any(name in self._headers for name in OF_BROWSERS):
            refusal = "web pages may not ask here"
        if refusal is not None:
            self._refuse(HTTPStatus.FORBIDDEN, "AccessDenied", refusal)
            return
        with self._refusing_what_is_out_of_turn():
            self._route(self._parser.get_method(), self._path.partition("?")[0])
        if self._headers.get("expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._had_body = True
        self._take(body)

    def on_message_complete(self) -> None:
        self._is_answering = True
        self._keeps_alive = self._parser.should_keep_alive()
        with self._refusing_what_is_out_of_turn():
            self._finish()
            return
        self._answer()

    # -- requests

    def _begin(self) -> None:
        self._path = ""
        self._asked: list[str] = []
        """The Host headers."""
        self._headers: dict[str, str] = {}
        self._trailers: dict[str, str] = {}
        self._has_head = False
        self._bodiless = 0
        self._error = bytearray()
        self._request_id = ""
        """The invocation whose reply this request brings."""
        self._reply: Reply | None = None
        """The reply that this request brings."""
        self._is_replying = False
        """Whether a reply was begun and is not yet whole."""
        self._verdict = HTTPStatus.ACCEPTED, ACCEPTED
        self._take: Callable[[bytes], None] = _drop
        self._finish: Callable[[], None] = self._answer

    def _route(self, method: bytes, path: str) -> None:
        match method, path.removeprefix(PREFIX).split("/"):
            case _ if not path.startswith(PREFIX):
                self._refuse_path(path)
            case b"GET", ["invocation", "next"]:
                self._finish = self._poll
            case b"POST", ["invocation", request_id, "response"]:
                self._begin_response(request_id)
            case b"POST", ["invocation", request_id, "error"]:
                self._begin_error(request_id)
            case b"POST", ["init" | "restore", "error"]:
                self._take, self._finish = self._gather_error, self._fail_init
            case b"GET", ["restore", "next"]:
                self._session.restore()
                self._verdict = HTTPStatus.OK, b""
            case _:
                self._refuse_path(path)

    def _poll(self) -> None:
        self._session.poll(self._send_invocation, is_known=self._has_replied, displaced=self._give_way)

    def _give_way(self) -> None:
        """Close this connection, because the runtime itself asks on another one."""
        self._refuse(HTTPStatus.FORBIDDEN, "InvalidStateTransition", "The runtime asks elsewhere")
        self._answer()

    def _begin_response(self, request_id: str) -> None:
        reply = self._open_reply(request_id, Act.RESPONSE)
        mode = self._headers.get(RESPONSE_MODE, "").lower()
        if mode not in ("", "streaming"):
            self._session.refuse_mode(request_id)
            self._refuse(HTTPStatus.BAD_REQUEST, "InvalidFunctionResponseMode", "Invalid function response mode")
            return
        content_type = self._headers.get("content-type", "application/octet-stream")
        # aws-lambda-go names no mode: its streams are told by their type.
        if mode or content_type == HTTP_CONTENT_TYPE:
            reply.is_streamed = True
            reply.content_type = content_type
        self._reply, self._is_replying = reply, True
        self._take, self._finish = self._pass_on, self._end_response

    def _open_reply(self, request_id: str, act: Act) -> Reply:
        reply = self._session.open_reply(request_id, act)
        self._request_id = request_id
        self._has_replied = True
        return reply

    def _pass_on(self, chunk: bytes) -> None:
        assert self._reply is not None
        if not self._reply.feed(chunk, self._resume) and self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _end_response(self) -> None:
        assert self._reply is not None
        self._end_reply(self._reply.failure or self._failure_in_trailers())

    def _failure_in_trailers(self) -> Failure | None:
        error_type = self._trailers.get(ERROR_TYPE)
        if error_type is None:
            return None
        return failures.reported_in_trailers(error_type, self._trailers.get(ERROR_BODY, ""))

    def _begin_error(self, request_id: str) -> None:
        self._reply, self._is_replying = self._open_reply(request_id, Act.ERROR), True
        self._take, self._finish = self._gather_error, self._end_error

    def _gather_error(self, chunk: bytes) -> None:
        # One byte more than allowed is kept, to tell that there were more.
        self._error += chunk[: MAX_REPLY + 1 - len(self._error)]

    def _end_error(self) -> None:
        self._end_reply(self._reported_failure())

    def _end_reply(self, failure: Failure | None) -> None:
        self._is_replying = False
        self._session.answer(self._request_id, failure)
        if failure is not None and failure.error_type == failures.TOO_LARGE:
            self._refuse_size(MAX_REPLY if self._reply is None else self._reply.limit)
        if failure is not None and failure.error_type == failures.TIMED_OUT:
            self._refuse_late_reply()
        self._answer()

    def _fail_init(self) -> None:
        self._session.fail_init(self._reported_failure())
        self._answer()

    def _reported_failure(self) -> Failure:
        if len(self._error) > MAX_REPLY:
            return failures.too_large(MAX_REPLY)
        return failures.reported(self._headers.get(ERROR_TYPE, ""), bytes(self._error))

    # -- responses

    @contextmanager
    def _refusing_what_is_out_of_turn(self) -> Iterator[None]:
        try:
            yield
        except InvalidTransition as error:
            self._refuse(HTTPStatus.FORBIDDEN, "InvalidStateTransition", str(error))
        except UnknownInvocation:
            self._refuse(HTTPStatus.BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
        except InvocationTimedOut:
            self._has_replied = True
            self._refuse_late_reply()
        except TooManyWaiting:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error")

    def _refuse_late_reply(self) -> None:
        self._refuse(HTTPStatus.GONE, "InvokeTimeout", "Invoke timeout")

    def _refuse_path(self, path: str) -> None:
        self._refuse(HTTPStatus.NOT_FOUND, "NotFound", f"Nothing is served at {path[:200]}")

    def _refuse_size(self, limit: int) -> None:
        message = f"Exceeded maximum allowed payload size ({limit} bytes)."
        self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", message)

    def _refuse(self, status: HTTPStatus, error_type: str, message: str) -> None:
        """Answer with an error once the request is complete; the rest of its body is dropped."""
        self._verdict = status, json.encode({"errorMessage": message, "errorType": error_type})
        self._take, self._finish = _drop, self._answer

    def _send_invocation(self, delivery: Delivery) -> None:
        invocation = delivery.invocation
        fields = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(delivery.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        if invocation.client_context is not None:
            fields["Lambda-Runtime-Client-Context"] = invocation.client_context
        if invocation.tenant is not None:
            fields["Lambda-Runtime-Aws-Tenant-Id"] = invocation.tenant
        self._respond(HTTPStatus.OK, invocation.payload, fields)

    def _answer(self) -> None:
        status, body = self._verdict
        self._respond(status, body, {})

    def _respond(self, status: HTTPStatus, body: bytes, fields: Mapping[str, str]) -> None:
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        head += [f"{name}: {value}" for name, value in fields.items()]
        self._write("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        self._is_answering = False
        if not self._keeps_alive and self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _drop(_chunk: bytes) -> None:
    """Drop what follows a refusal."""
