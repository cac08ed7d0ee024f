"""Spreads work on many messages over turns of the loop, so that other calls and deadlines run in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

from bridge.codecs.codec import Reader
from bridge.rpc.call import Call
from bridge.rpc.events import ResponseEvent

_MOST_AT_ONCE = 1000
"""Messages in one turn. Each takes some microseconds, and a reply of 6 MB (Lambda's limit) can hold a million."""

_PIECE = 16 << 10
"""Bytes of a body read at once. They hold few more messages than one turn allows."""

MADE_AT_ONCE = 64 << 10
"""Bytes that are inflated in one turn."""
_COST_OF_PART = 64
"""The fixed cost of a part, as a number of bytes that take as long."""

_Item = TypeVar("_Item")


async def in_slices(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """Return the same items."""
    for count, item in enumerate(items, 1):
        yield item
        if not count % _MOST_AT_ONCE:
            await asyncio.sleep(0)


async def join_in_slices(parts: Iterable[bytes | bytearray], large: asyncio.Lock) -> bytes:
    """Join all parts into one. Each part is made when it is taken. Raises what making them raises.

    `large` is shared by all callers whose work must not run together in one turn. Work of more than one turn waits for
    it. So a hundred large bodies make more turns, not longer ones.
    """
    rest = iter(parts)
    taken: list[bytes | bytearray] = []
    if _take_some(rest, taken):
        async with large:
            while True:
                await asyncio.sleep(0)
                if not _take_some(rest, taken):
                    return b"".join(taken)
    return bytes(taken[0]) if len(taken) == 1 else b"".join(taken)


def _take_some(parts: Iterator[bytes | bytearray], taken: list[bytes | bytearray]) -> bool:
    """Take as many parts as one turn has time for. Returns whether there may be more."""
    made = 0
    for part in parts:
        taken.append(part)
        made += len(part) + _COST_OF_PART
        if made >= MADE_AT_ONCE:
            return True
    return False


def in_pieces(body: bytes) -> Iterable[bytes]:
    """Yield the body in parts."""
    if len(body) <= _PIECE:
        return (body,)
    return (body[at : at + _PIECE] for at in range(0, len(body), _PIECE))


async def read_in_slices(reader: Reader, body: bytes, *, into: list[ResponseEvent]) -> None:
    """Add all events of this whole body to `into`. Raises what the reader raises. The events before the error have then
    been added.
    """
    due = _MOST_AT_ONCE
    for piece in in_pieces(body):
        into += reader.feed(piece)
        if len(into) > due:
            await asyncio.sleep(0)
            due = len(into) + _MOST_AT_ONCE
    into += await finish(reader)


async def finish(reader: Reader) -> list[ResponseEvent]:
    """Return the last events of a body that has ended. Raises what the reader raises."""
    convert = reader.convert
    if convert is not None:
        await convert()
    return reader.finish()


async def send_in_slices(call: Call, events: list[ResponseEvent]) -> None:
    """Send all these events, as `call.send_all` does."""
    for at in range(0, len(events), _MOST_AT_ONCE):
        if at:
            await asyncio.sleep(0)
        call.send_all(events[at : at + _MOST_AT_ONCE])
