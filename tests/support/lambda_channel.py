"""Two ways to call a servicer with bytes and see everything that comes back: through LambdaServer's handler, and
through grpcio.

`LambdaChannel` builds the http-v2 event as the bridge does and reads the gRPC-Web reply by itself; `grpcio_outcome` is
the same call made by a real client on a real server. Both give an Outcome, so that a test can compare them.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any
from urllib.parse import unquote

import grpc

from lambda_fn import LambdaServer
from lambda_fn.streaming import PRELUDE_END, StreamingReply

Pairs = tuple[tuple[str, str | bytes], ...]

_HTTP_NAMES = frozenset(("content-type", "x-lambda-fn-cold-start"))


@dataclass(frozen=True)
class Outcome:
    """All that a caller sees of a call."""

    code: grpc.StatusCode
    details: str = ""
    messages: tuple[bytes, ...] = ()
    initial: Pairs = ()
    trailing: Pairs = ()


@dataclass
class LambdaContextDouble:
    """Lambda's context object, its clock standing still."""

    remaining: int = 3000
    """Milliseconds."""
    can_stream_replies: bool = False
    aws_request_id: str = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining


def frame(data: bytes, *, flags: int = 0) -> bytes:
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def http_v2_event(
    path: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    multi: Mapping[str, list[str]] | None = None,
    **request_context: Any,
) -> dict[str, Any]:
    """The function-URL event, as the bridge sends it."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "content-type": "application/grpc-web+proto",
            "accept": "application/grpc-web+proto",
            "x-grpc-web": "1",
            "host": "localhost",
            **(headers or {}),
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "bridge",
            "http": {"method": "POST", "path": path, "sourceIp": "192.0.2.7"},
            "stage": "$default",
            **request_context,
        },
        "body": b64encode(body).decode("ascii"),
        "isBase64Encoded": True,
    }
    return event if multi is None else event | {"multiValueHeaders": dict(multi)}


def body_of(reply: Mapping[str, Any]) -> bytes:
    body: str = reply["body"]
    return b64decode(body) if reply["isBase64Encoded"] else body.encode()


def outcome_of(head: Mapping[str, Any], body: bytes) -> Outcome:
    """What the bridge makes of a reply. Compressed messages stay as they are."""
    headers = head.get("multiValueHeaders") or {name: [value] for name, value in head["headers"].items()}
    messages: list[bytes] = []
    lines = None
    at = 0
    while at < len(body):
        flags, size = body[at], int.from_bytes(body[at + 1 : at + 5], "big")
        data, at = body[at + 5 : at + 5 + size], at + 5 + size
        if flags & 0x80:
            assert at == len(body), "the trailers frame is the last one"
            lines = data.decode("ascii")
        else:
            messages.append(data)
    found = [(name, value) for name, values in headers.items() for value in values if name not in _HTTP_NAMES]
    if lines is None:
        assert not messages, "messages without trailers"
        return _outcome(found, [], ())
    assert lines.endswith("\r\n")
    trailers = [(name, value) for name, _, value in (line.partition(":") for line in lines[:-2].split("\r\n"))]
    return _outcome(trailers, found, tuple(messages))


def _outcome(trailers: list[tuple[str, str]], initial: list[tuple[str, str]], messages: tuple[bytes, ...]) -> Outcome:
    status = dict(trailers)
    code = next(code for code in grpc.StatusCode if str(code.value[0]) == status["grpc-status"])
    rest = [pair for pair in trailers if pair[0] not in ("grpc-status", "grpc-message")]
    return Outcome(code, unquote(status.get("grpc-message", "")), messages, _decoded(initial), _decoded(rest))


def _decoded(pairs: list[tuple[str, str]]) -> Pairs:
    return tuple(
        (name, b64decode(part + "=" * (-len(part) % 4)) if name.endswith("-bin") else part)
        for name, value in pairs
        for part in (value.split(",") if name.endswith("-bin") else (value,))
    )


class LambdaChannel:
    """Calls a LambdaServer as the bridge would."""

    def __init__(self, server: LambdaServer, context: Any = None) -> None:
        self.server = server
        self.context = context
        self.reply: dict[str, Any] = {}
        """The last one, as the handler returned it."""

    def call(
        self,
        method: str,
        messages: Sequence[bytes] = (b"request",),
        *,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        multi = _multi(metadata)
        sent = {name: ",".join(values) for name, values in multi.items()} | dict(headers or {})
        if timeout is not None:
            sent["grpc-timeout"] = f"{round(timeout * 1000)}m"
        body = b"".join(frame(message) for message in messages)
        return self.send(http_v2_event(method, body, sent, multi=multi or None))

    def send(self, event: dict[str, Any]) -> Outcome:
        reply = self.server.handler(event, self.context)
        if isinstance(reply, StreamingReply):
            head, body = received(reply)
            return outcome_of(head, body)
        self.reply = json.loads(json.dumps(reply))
        return outcome_of(self.reply, body_of(self.reply))


Serve = Callable[..., LambdaChannel]
"""The fixture `serve` of tests/function: from methods, and LambdaServer's arguments, to a channel."""


def _multi(metadata: Sequence[tuple[str, str | bytes]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in metadata:
        text = b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        values.setdefault(name, []).append(text)
    return values


def received(reply: StreamingReply) -> tuple[dict[str, Any], bytes]:
    """Head and body of a streamed reply, as they arrive."""
    assert reply.head is not None
    prelude = json.dumps(reply.head).encode() + PRELUDE_END
    assert isinstance(reply.chunks, Iterable)
    payload = b"".join((prelude, *reply.chunks))
    head, _, body = payload.partition(PRELUDE_END)
    return json.loads(head), body


# -- the same through grpcio --


@contextmanager
def sync_server(add: Callable[[Any], None], **arguments: Any) -> Iterator[str]:
    """A `grpc.server` with what `add` registers; its address."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, **arguments)
        add(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            # grpcio sometimes never forgets a call whose metadata it refused; stop() alone would wait for it.
            server.stop(0).wait(1)


@contextmanager
def aio_server(add: Callable[[Any], None], **arguments: Any) -> Iterator[str]:
    """A `grpc.aio.server` in a thread of its own; its address."""
    ready, stop = Flag(), Flag()
    ports: list[int] = []

    async def serve() -> None:
        server = grpc.aio.server(**arguments)
        add(server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.stop(None)

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield f"127.0.0.1:{ports[0]}"
    finally:
        stop.set()
        thread.join()


def grpcio_outcome(
    address: str,
    method: str,
    messages: Sequence[bytes] = (b"request",),
    *,
    metadata: Sequence[tuple[str, str | bytes]] = (),
    timeout: float = 10.0,
) -> Outcome:
    """The outcome of a call made by grpcio's client."""
    with grpc.insecure_channel(address) as channel:
        return outcome_through(channel, method, messages, metadata=metadata, timeout=timeout)


def outcome_through(
    channel: grpc.Channel,
    method: str,
    messages: Sequence[bytes] = (b"request",),
    *,
    metadata: Sequence[tuple[str, str | bytes]] = (),
    timeout: float = 10.0,
) -> Outcome:
    """The outcome of a call on this channel."""
    requests: Iterator[Any] = iter(messages)
    call: Any = channel.stream_stream(method)(requests, metadata=tuple(metadata), timeout=timeout)
    received_messages: list[bytes] = []
    with suppress(grpc.RpcError):
        for message in call:
            received_messages.append(message)  # noqa: PERF402 - what came before the error counts
    return Outcome(
        call.code(),
        call.details(),
        tuple(received_messages),
        tuple((name, value) for name, value in call.initial_metadata()),
        tuple((name, value) for name, value in call.trailing_metadata()),
    )
