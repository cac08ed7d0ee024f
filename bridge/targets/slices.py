"""Work on many messages, spread over turns of the loop: other calls get through in between, and the deadline as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

from bridge.codecs.codec import Reader
from bridge.rpc.call import Call
from bridge.rpc.events import ResponseEvent

MOST_AT_ONCE = 1000
"""Messages in one turn: each takes some microseconds, and a reply of Lambda's 6 MB has room for a million."""

PIECE = 16 << 10
"""Bytes of a body read at once: not many more messages than that."""

MADE_AT_ONCE = 64 << 10
"""Bytes that are inflated in one turn."""
_COST_OF_PART = 64
"""A part takes as long as so many bytes of it."""

_Item = TypeVar("_Item")


async def in_slices(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """The same items."""
    for count, item in enumerate(items, 1):
        yield item
        if not count % MOST_AT_ONCE:
            await asyncio.sleep(0)


async def join_in_turns(parts: Iterable[bytes | bytearray], large: asyncio.Lock) -> bytes:
    """All parts in one, which are made when they are taken. Raises what making them raises.

    `large`: shared by all whose work must not come together in one turn. What takes more than one turn waits for it, so that a hundred
    large bodies take a hundred times as many turns, not turns that are a hundred times as long.
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
    """Takes as many as one turn has time for; whether there may be more."""
    made = 0
    for part in parts:
        taken.append(part)
        made += len(part) + _COST_OF_PART
        if made >= MADE_AT_ONCE:
            return True
    return False


def in_pieces(body: bytes) -> Iterable[bytes]:
    """The body in parts, one after the other."""
    if len(body) <= PIECE:
        return (body,)
    return (body[at : at + PIECE] for at in range(0, len(body), PIECE))


async def read_in_turns(reader: Reader, body: bytes, *, into: list[ResponseEvent]) -> None:
    """Adds all events of this whole body. Raises what the reader raises; what came before it has been added then."""
    due = MOST_AT_ONCE
    for piece in in_pieces(body):
        into += reader.feed(piece)
        if len(into) > due:
            await asyncio.sleep(0)
            due = len(into) + MOST_AT_ONCE
    into += await finish(reader)


async def finish(reader: Reader) -> list[ResponseEvent]:
    """The last events of a body that is over. Raises what the reader raises."""
    convert = reader.convert
    if convert is not None:
        await convert()
    return reader.finish()


async def send_in_turns(call: Call, events: list[ResponseEvent]) -> None:
    """All of these, as `call.send_all` has it."""
    for at in range(0, len(events), MOST_AT_ONCE):
        if at:
            await asyncio.sleep(0)
        call.send_all(events[at : at + MOST_AT_ONCE])
