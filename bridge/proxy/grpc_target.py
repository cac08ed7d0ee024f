"""A native gRPC server: the call passes message by message, both ways at once.

Messages travel plain between the bridge and the server: request messages are inflated here, responses by the carrier. Nothing of
the request is read before a connection stands, so that the retry layer may run a call again that found none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from bridge.aws.event_body import message_format_of
from bridge.aws.event_context import forwarded_cert, source_of
from bridge.aws.event_headers import AMAZON, TRACE_ID
from bridge.codecs.identity import inflate_message
from bridge.rpc.call import Call
from bridge.rpc.compression import IDENTITY
from bridge.rpc.envelope import COMPRESSED, data_of, envelope
from bridge.rpc.errors import MalformedRequest, RequestError
from bridge.rpc.events import EMPTY_HEADERS, Headers, Message, Phase, Trailers
from bridge.rpc.metadata import Metadata, is_name, value_of
from bridge.rpc.status import StatusCode

END_WAITED_FOR = 0.005
"""Seconds that empty initial metadata waits for the status that may have come with it: clients may repeat a call by their own
policy only while no HEADERS have come (gRFC A6), and grpcio does not say whether there were any."""

_REMADE = frozenset(
    ("grpc-accept-encoding", "grpc-encoding", "host", "user-agent", "x-forwarded-client-cert", "x-forwarded-for",
     "x-forwarded-host"),
)  # fmt: skip
"""Names whose values are ours, or untrue behind the bridge."""


class Upstream(Protocol):
    """One call on the server, as bridge.carriers.grpc.UpstreamCall says."""

    async def connect(self) -> None: ...
    async def send(self, message: bytes) -> bool: ...
    async def half_close(self) -> None: ...
    async def initial_metadata(self) -> Metadata: ...
    async def receive(self) -> bytes | None: ...
    async def end(self) -> Trailers: ...
    def finish(self) -> None: ...


class Carrier(Protocol):
    def start(
        self, path: str, metadata: Metadata, *, timeout: float | None, user_agent: str = ""
    ) -> Upstream: ...


class WrongMessageFormat(RequestError):
    """Messages in a format that a gRPC server would take for protobuf."""

    code = StatusCode.UNIMPLEMENTED


class GrpcTarget:
    """Payload and event shape are gRPC's own."""

    __slots__ = ("_carrier", "_clock", "_headers")

    def __init__(
        self, carrier: Carrier, *, clock: Callable[[], float], headers: Mapping[str, str]
    ) -> None:
        """`clock` reads the monotonic time (seconds); `headers`: metadata added to each call, in place of the client's."""
        self._carrier = carrier
        self._clock = clock
        self._headers = dict(headers)

    async def handle(self, call: Call) -> None:
        """A Handler. Raises RpcError."""
        _refuse_other_formats(call.content_type)
        started = self._clock()
        upstream = self._carrier.start(
            call.path,
            request_metadata(call, self._headers),
            timeout=None if call.deadline is None else max(0.0, call.deadline - started),
            user_agent=value_of(call.metadata, "user-agent") or "",
        )
        try:
            await upstream.connect()
            end = await _exchange(call, upstream)
        finally:
            upstream.finish()
            call.upstream_seconds += self._clock() - started
        # Last, with no await behind it: a client that has the end may take its stream for the next call, and the layers must have
        # given back this one's place in max_concurrency by then.
        call.send(end)


async def _exchange(call: Call, upstream: Upstream) -> Trailers:
    """Passes the messages both ways; the end that the server gave."""
    requests = asyncio.get_running_loop().create_task(_pass_requests(call, upstream))
    responses = asyncio.get_running_loop().create_task(_pass_responses(call, upstream))
    try:
        # Requests that are over leave the responses to end the call; a request that is refused ends it now.
        await asyncio.wait((requests, responses), return_when=asyncio.FIRST_COMPLETED)
        if not responses.done():
            await requests
        return await responses
    finally:
        await _end(requests, responses)


async def _end(*tasks: asyncio.Task[None] | asyncio.Task[Trailers]) -> None:
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _pass_requests(call: Call, upstream: Upstream) -> None:
    encoding = value_of(call.metadata, "grpc-encoding") or IDENTITY
    limit = call.route.limits.max_request
    while True:
        found = await call.read_envelope()
        if found is None:
            return await upstream.half_close()
        if not await upstream.send(_plain(found, encoding, limit)):
            return None


async def _pass_responses(call: Call, upstream: Upstream) -> Trailers:
    metadata = await upstream.initial_metadata()
    if metadata:
        call.send(Headers(metadata))
        message = await upstream.receive()
    else:
        message = await _first_message(call, upstream)
    while message is not None:
        if not call.send(Message(envelope(message))):
            await call.writable()
        message = await upstream.receive()
    return await upstream.end()


async def _first_message(call: Call, upstream: Upstream) -> bytes | None:
    """The first message; HEADERS without metadata go ahead of it, or alone if it takes its time."""
    first = asyncio.get_running_loop().create_task(upstream.receive())
    try:
        await asyncio.wait((first,), timeout=END_WAITED_FOR)
        if not first.done():
            call.send(EMPTY_HEADERS)
        message = await first
    finally:
        first.cancel()
    if message is not None and call.phase is Phase.NEW:
        call.send(EMPTY_HEADERS)
    return message


def _plain(found: bytes, encoding: str, limit: int) -> bytes:
    """The message in an envelope, inflated to at most `limit` bytes."""
    message = data_of(found)
    if not found[0] & COMPRESSED:
        return message
    if encoding == IDENTITY:
        raise MalformedRequest(
            "a message has the compressed flag but the call names no grpc-encoding"
        )
    return inflate_message(message, encoding, limit, place="for a grpc:// target")


def _refuse_other_formats(content_type: str) -> None:
    message_format = message_format_of(content_type)
    if message_format != "proto":
        raise WrongMessageFormat(
            f"messages in {message_format[:40]} cannot pass to a grpc:// target: it takes application/grpc and +proto"
        )


# -- metadata --------------------------------------------------------------------------------------------------------------


def request_metadata(call: Call, headers: Mapping[str, str]) -> Metadata:
    """What the server sees: the client's metadata without what is remade, then ours."""
    kept = tuple(
        [(name, value) for name, value in call.metadata if name not in headers and _is_passed(name)]
    )
    return (*kept, *_forwarded(call), *headers.items())


def _is_passed(name: str) -> bool:
    if name in _REMADE or not is_name(name):
        return False
    return not name.startswith(AMAZON) or name == TRACE_ID


def _forwarded(call: Call) -> Metadata:
    """Who called, and whom it took us for."""
    earlier = [value for name, value in call.metadata if name == "x-forwarded-for"]
    fields = [("x-forwarded-for", ", ".join((*earlier, source_of(call.peer))))]
    if call.authority:
        fields.append(("x-forwarded-host", call.authority))
    if call.peer.certificate is not None:
        fields.append(("x-forwarded-client-cert", forwarded_cert(call.peer.certificate)))
    return tuple(fields)
