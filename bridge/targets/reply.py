"""How a reply is sent: whole, or passed on while it arrives. Each message of a stream leaves when it is whole, and the
next is read when the client has room.

In: a reader of the payload format, and the body in parts of any size. Out: events to the call. Work on many messages is
spread over turns of the loop, so that other calls and deadlines run in between. It does not know the carrier.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Self, TypeVar

from bridge.aws.invoke import MAX_REPLY
from bridge.codecs.codec import BodyReader
from bridge.codecs.content_coding import ContentDecoder
from bridge.rpc.buffers import SMALL, Account, Portion
from bridge.rpc.call import Call
from bridge.rpc.errors import BadReply, ReplyTooLarge, RpcError
from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import LARGEST_MESSAGE
from bridge.rpc.metadata import EMPTY, REQUEST_ID, Metadata, value_of

_MOST_AT_ONCE = 1000
"""Messages in one turn. Each takes some microseconds, and a reply of 6 MB (Lambda's limit) can hold a million."""

_PIECE = 16 << 10
"""Bytes of a body read at once. They hold few more messages than one turn allows."""

_STEPS_AT_ONCE = 16
"""Pieces decoded in one turn of the loop. Each has at most 16 KiB, so a turn takes some tenths of a millisecond."""

COLD_START = "x-lambda-fn-cold-start"
"""The header by which lambda_fn marks the first reply of an instance."""

_Item = TypeVar("_Item")


# -- a reply that has arrived whole ------------------------------------------------------------------------------------


async def read_in_slices(reader: BodyReader, body: bytes, *, into: list[ResponseEvent]) -> None:
    """Add all events of this whole body to `into`. Raises what the reader raises. The events before the error have then
    been added.
    """
    due = _MOST_AT_ONCE
    for piece in in_pieces(body):
        into += reader.feed(piece)
        while reader.is_behind:
            await asyncio.sleep(0)
            into += reader.feed(b"")
        if len(into) > due:
            await asyncio.sleep(0)
            due = len(into) + _MOST_AT_ONCE
    into += await finish(reader)


async def read_decoded(
    reader: BodyReader,
    codings: tuple[str, ...],
    body: bytes,
    account: Account,
    *,
    http_status: int,
    into: list[ResponseEvent],
) -> None:
    """Add all events of this whole body to `into`. `account` is the call's and counts them. Raises what it, the reader
    and the decoder raise.
    The events before the error have then been added.

    Raises ReplyTooLarge beyond MAX_REPLY bytes: a coded reply may not be larger than Lambda allows for plain ones.
    """
    left = MAX_REPLY
    async with aclosing(decoded(codings, one_part(body), http_status=http_status)) as pieces:
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise ReplyTooLarge(
                    f"the function's reply decodes to more than {MAX_REPLY} bytes, Lambda's limit for replies:"
                    " invoke_mode: response_stream passes on larger ones"
                )
            account.hold(len(piece))
            into += reader.feed(piece)
            while reader.is_behind:
                await asyncio.sleep(0)
                into += reader.feed(b"")
            if not reader.wants_more:
                break
    into += await finish(reader)


async def send_in_slices(call: Call, events: list[ResponseEvent]) -> None:
    """Send all these events, as `call.send_all` does."""
    for at in range(0, len(events), _MOST_AT_ONCE):
        if at:
            await asyncio.sleep(0)
        call.send_all(events[at : at + _MOST_AT_ONCE])


# -- a reply that is still arriving ------------------------------------------------------------------------------------


def largest_message(max_response: int | None) -> int:
    """Return the bound on one streamed message (bytes)."""
    return LARGEST_MESSAGE if max_response is None else max_response


async def stream_reply(
    call: Call, reader: BodyReader, parts: AsyncIterator[bytes], *, begun: bytes = b"", request_id: str
) -> None:
    """Send the whole response. `begun` holds the bytes of the body that have arrived. `request_id` is AWS's, or empty.

    Raises what the reader, `parts` and the call's window raise.
    """
    held = Portion(call)
    await _send(call, reader.open())
    await _pass_on(call, reader, begun, held)
    while reader.wants_more:
        try:
            part = await anext(parts)
        except StopAsyncIteration:
            break
        await _pass_on(call, reader, part, held)
    call.hold(held.size)  # the last message, once more as an event
    call.send_all(with_request_id(await finish(reader), request_id))


class UntilEnd:
    """Yields the parts of a body as a carrier brings them. If the call's end has come, the carrier's failures no longer
    count.

    Only the carrier's: a content coding that is cut off proves that the body is not the one that was sent.
    """

    __slots__ = ("_parts", "_reader")

    def __init__(self, parts: AsyncIterator[bytes], reader: BodyReader) -> None:
        """Yield these parts, which this reader will read."""
        self._parts = parts
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._parts)
        except RpcError:
            if not self._reader.has_ended:
                raise
            raise StopAsyncIteration from None


async def _pass_on(call: Call, reader: BodyReader, part: bytes, held: Portion) -> None:
    """`held` is the part of the call's account for bytes in the reader."""
    for piece in in_pieces(part):
        before = call.held
        events = reader.feed(piece)
        inflated = call.held - before
        while reader.is_behind:
            await asyncio.sleep(0)  # the call may hold more or less after it
            before = call.held
            events += reader.feed(b"")
            inflated += call.held - before
        waiting = reader.held if reader.held > SMALL else 0
        if waiting > held.size:
            held.become(waiting)
        await _send(call, events)
        if waiting < held.size:
            held.become(waiting)
        if inflated:
            call.let_go(inflated)


async def _send(call: Call, events: list[ResponseEvent]) -> None:
    async for event in in_slices(events):
        if not call.send(event):
            await call.writable()


# -- for both ----------------------------------------------------------------------------------------------------------


async def finish(reader: BodyReader) -> list[ResponseEvent]:
    """Return the last events of a body that has ended. Raises what the reader raises."""
    convert = reader.convert
    if convert is not None:
        await convert()
    return reader.finish()


async def decoded(codings: tuple[str, ...], parts: AsyncIterator[bytes], *, http_status: int) -> AsyncGenerator[bytes]:
    """Yield the decoded body. If the body of an HTTP error does not decode, the rest is dropped: the HTTP status says
    enough.

    Raises what `parts` and the decoder raise.
    """
    decoder = ContentDecoder(codings)
    steps = 0
    try:
        async for part in parts:
            for data in in_pieces(part):
                for piece in decoder.feed(data):
                    if piece:
                        yield piece
                    steps += 1
                    if not steps % _STEPS_AT_ONCE:
                        await asyncio.sleep(0)
        decoder.finish()
    except BadReply:
        if 200 <= http_status <= 299:
            raise


async def one_part(part: bytes, rest: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    """Yield this part, then the rest."""
    if part:
        yield part
    if rest is not None:
        async for each in rest:
            yield each


async def in_slices(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """Return the same items."""
    for count, item in enumerate(items, 1):
        yield item
        if not count % _MOST_AT_ONCE:
            await asyncio.sleep(0)


def in_pieces(body: bytes) -> Iterable[bytes]:
    """Yield the body in parts."""
    if len(body) <= _PIECE:
        return (body,)
    return (body[at : at + _PIECE] for at in range(0, len(body), _PIECE))


# -- what AWS and lambda_fn add ----------------------------------------------------------------------------------------


def with_request_id(events: list[ResponseEvent], request_id: str, more: Metadata = EMPTY) -> list[ResponseEvent]:
    """Return the same list with AWS's id of the invocation in its Trailers, and `more` behind it. An empty id adds
    nothing.
    """
    end = events[-1]
    if request_id and isinstance(end, Trailers):
        events[-1] = Trailers(end.status, (*end.metadata, (REQUEST_ID, request_id), *more))
    return events


def strip_cold_start_mark(headers: Metadata, figures: TargetFigures, call: Call) -> Metadata:
    """Return a reply's headers without the mark. If the mark was there, notes a cold start in the figures and in the
    call.
    """
    if len(headers) < 2 or value_of(headers, COLD_START) is None:
        return headers
    figures.cold_starts += 1
    call.is_cold_start = True
    return tuple([field for field in headers if field[0] != COLD_START])
