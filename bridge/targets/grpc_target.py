"""The target for a native gRPC server. The call's messages pass one by one, in both directions at once.

Messages between the bridge and the server are not compressed. This module inflates requests, the carrier inflates
responses. A call that the server has provably not begun is put back unchanged, so that the retry layer may run it
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Protocol

from bridge.aws.events.event_body import message_format_of
from bridge.carriers.grpc.inflating import inflate_message
from bridge.codecs.identity import refuse_unknown, undecodable
from bridge.rpc.buffers import Account, Portion
from bridge.rpc.call import Call
from bridge.rpc.compression import IDENTITY
from bridge.rpc.envelope import data_of, envelope
from bridge.rpc.errors import (
    BadReply,
    BuffersFull,
    MalformedRequest,
    NotProcessed,
    RequestError,
)
from bridge.rpc.events import Message, ResponseEvent, Trailers
from bridge.rpc.hop import (
    AMAZON,
    TRACE_ID,
    Leg,
    forwarded_cert,
    forwarded_for,
    not_passed,
)
from bridge.rpc.metadata import Metadata, is_name, value_of
from bridge.rpc.status import StatusCode
from bridge.targets.reply import with_request_id

MAX_REPEATED = 256 << 10
"""Bytes of request messages that are kept until the server answers. A call that has sent more cannot be repeated."""

_MOST_AT_ONCE = 128
"""Messages that pass in one turn of the loop. They may be tiny and many, and other calls need their turn."""

_PLACE = "for a grpc:// target"

_REMADE = not_passed(Leg.GRPC)
"""Metadata that the bridge sets itself, or that is no longer true behind the bridge."""


class Upstream(Protocol):
    """One call on the server, as bridge.carriers.grpc.call.UpstreamCall says."""

    request_id: str
    """AWS's id of the invocation that serves the call; empty for a server, and before `connect`."""

    async def connect(self) -> None: ...
    async def send(self, envelope: bytes) -> bool: ...
    def half_close(self) -> None: ...
    async def receive(self) -> list[ResponseEvent]: ...
    def failed(self, error: BaseException) -> None: ...
    def finish(self) -> None: ...


class Carrier(Protocol):
    """Starts calls on a gRPC server."""

    def start(
        self,
        path: str,
        metadata: Metadata,
        *,
        account: Account,
        timeout: float | None,
        user_agent: str = "",
    ) -> Upstream: ...


class WrongMessageFormat(RequestError):
    """Content types of messages that a gRPC server would read as protobuf."""

    code = StatusCode.UNIMPLEMENTED


class GrpcTarget:
    """Payload and event shape are gRPC's own."""

    __slots__ = ("_carrier", "_clock", "_metadata_of")

    def __init__(
        self, carrier: Carrier, *, clock: Callable[[], float], metadata_of: Callable[[Call], Metadata]
    ) -> None:
        """`clock` reads the monotonic time (seconds). `metadata_of` makes the metadata for the server."""
        self._carrier = carrier
        self._clock = clock
        self._metadata_of = metadata_of

    async def handle(self, call: Call) -> None:
        """Handle the call. Raises RpcError."""
        _refuse_other_formats(call.content_type)
        encoding = value_of(call.metadata, "grpc-encoding") or IDENTITY
        refuse_unknown(encoding, place=_PLACE)
        started = self._clock()
        upstream = self._carrier.start(
            call.path,
            self._metadata_of(call),
            account=call,
            timeout=None if call.deadline is None else max(0.0, call.deadline - started),
            user_agent=value_of(call.metadata, "user-agent") or "",
        )
        requests = _Requests(call, upstream, encoding)
        try:
            await upstream.connect()
            call.request_id = upstream.request_id
            end = await _exchange(call, upstream, requests)
        except NotProcessed as error:
            if not requests.give_back():
                error.is_transient = False
            raise
        finally:
            upstream.finish()
            requests.close()
            call.upstream_seconds += self._clock() - started
        # This comes last, and no await may follow it. A client that sees the end may start its next call at once.
        # The layers must have freed this call's place in max_concurrency by then.
        call.send_all(with_request_id(end, upstream.request_id))


async def _exchange(call: Call, upstream: Upstream, requests: _Requests) -> list[ResponseEvent]:
    """Pass the messages both ways. Returns the last events unsent: Trailers, and what arrived with them."""
    sending = asyncio.get_running_loop().create_task(requests.pass_on())
    sending.add_done_callback(requests.passed_on)
    try:
        while True:
            events = await upstream.receive()
            if isinstance(events[-1], Trailers):
                return events
            requests.answered()
            for event in events:
                if not call.send(event) and isinstance(event, Message):
                    await call.writable()
    finally:
        if not sending.done():
            sending.cancel()
            await asyncio.wait((sending,))


class _Requests:
    """Sends the request messages of one attempt to the server."""

    __slots__ = ("_call", "_encoding", "_held", "_kept", "_kept_size", "_upstream")

    def __init__(self, call: Call, upstream: Upstream, encoding: str) -> None:
        self._call = call
        self._upstream = upstream
        self._encoding = encoding
        self._kept: list[bytes] | None = []
        """The call's messages read so far, kept for another attempt. None once they are too large, or the server has
        answered.
        """
        self._kept_size = 0
        self._held = Portion(call)

    async def pass_on(self) -> None:
        """Run until the client ends its side or the call ends. Raises an RpcError for a request that is refused."""
        call, upstream = self._call, self._upstream
        count = 0
        while (found := await call.read_envelope()) is not None:
            plain = found if not found[0] else await self._plain(found)
            self._hold(found, plain)
            if not await upstream.send(plain):
                return
            if self._kept is None:
                self._held.become(0)
            count += 1
            if not count % _MOST_AT_ONCE:
                await asyncio.sleep(0)
        upstream.half_close()

    def passed_on(self, sending: asyncio.Task[None]) -> None:
        """End the call if its request is refused, whatever the server does."""
        error = None if sending.cancelled() else sending.exception()
        if error is not None:
            self._upstream.failed(error)

    def _hold(self, found: bytes, plain: bytes) -> None:
        """Keep the message for another attempt, and count it while it is here. Raises BuffersFull."""
        kept = self._kept
        if kept is not None:
            kept.append(found)
            self._kept_size += len(found)
            if self._kept_size > MAX_REPEATED:
                self.answered()
        size = self._kept_size
        if self._kept is None or plain is not found:
            size += len(plain)
        if size > self._call.buffers.covered:
            self._held.become(size)

    def answered(self) -> None:
        """Forget the kept messages: the server has begun the call."""
        self._kept, self._kept_size = None, 0

    def give_back(self) -> bool:
        """Put the messages read so far back into the call. Returns False if they were not kept."""
        if self._kept is None:
            return False
        if self._kept:
            self._held.become(0)
            try:
                self._call.unread(self._kept)
            except BuffersFull:
                return False
        return True

    def close(self) -> None:
        """Release everything that is held."""
        self._held.become(0)

    async def _plain(self, found: bytes) -> bytes:
        """Inflate a compressed envelope, to at most max_request bytes and to what the call may hold."""
        if self._encoding == IDENTITY:
            raise MalformedRequest("a message has the compressed flag but the call names no grpc-encoding")
        try:
            return envelope(
                await inflate_message(
                    data_of(found),
                    self._encoding,
                    max_size=self._call.route.limits.max_request,
                    account=self._call,
                )
            )
        except BadReply as error:
            raise undecodable(self._encoding) from error


def _refuse_other_formats(content_type: str) -> None:
    message_format = message_format_of(content_type)
    if message_format != "proto":
        raise WrongMessageFormat(
            f"messages in {message_format[:40]} cannot pass to a grpc:// target: it takes application/grpc and +proto"
        )


# -- metadata ----------------------------------------------------------------------------------------------------------


def with_headers(headers: Mapping[str, str]) -> Callable[[Call], Metadata]:
    """Return what makes the metadata for a server, with `headers`, which replace the client's of the same name."""
    return partial(request_metadata, headers=dict(headers))


def request_metadata(call: Call, headers: Mapping[str, str]) -> Metadata:
    """Return the metadata for the server: the client's without names that the bridge sets, then the bridge's."""
    return (*passed_metadata(call, headers), *_forwarded(call), *headers.items())


def passed_metadata(call: Call, without: Container[str] = ()) -> Metadata:
    """Return the client's metadata, but for names that the bridge sets and these."""
    return tuple([(name, value) for name, value in call.metadata if name not in without and _is_passed(name)])


def _is_passed(name: str) -> bool:
    if name in _REMADE or not is_name(name):
        return False
    return not name.startswith(AMAZON) or name == TRACE_ID


def _forwarded(call: Call) -> Metadata:
    """Metadata that tells the client's address and the authority that it asked for."""
    earlier = [value for name, value in call.metadata if name == "x-forwarded-for"]
    fields = [("x-forwarded-for", forwarded_for(", ".join(earlier), call.peer))]
    if call.authority:
        fields.append(("x-forwarded-host", call.authority))
    if call.peer.certificate is not None:
        fields.append(("x-forwarded-client-cert", forwarded_cert(call.peer.certificate)))
    return tuple(fields)
