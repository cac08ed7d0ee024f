"""Reads a call's request for targets that take it whole. Work on a large one is spread over turns of the loop, so that
other calls and deadlines run in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Literal

from bridge.codecs.identity import uncompressed
from bridge.rpc.call import Call
from bridge.rpc.metadata import Metadata

MADE_AT_ONCE = 64 << 10
"""Bytes that are inflated in one turn."""
_COST_OF_PART = 64
"""The fixed cost of a part, as a number of bytes that take as long."""

CompressionMode = Literal["pass", "identity"]
"""Messages as the client sent them, or inflated here."""


async def read_inflated(call: Call, large: asyncio.Lock) -> tuple[Metadata, bytes]:
    """Return metadata and body with every message inflated. All targets share `large`, so that one large body at a
    time is inflated.

    Raises what `read_all` and `uncompressed` raise.
    """
    body, limits = await call.read_all(), call.route.limits
    metadata, parts = uncompressed(
        call.metadata,
        body,
        max_message=limits.max_request,
        max_body=limits.max_buffered,
        account=call,
    )
    return metadata, await join_in_slices(parts, large)


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
