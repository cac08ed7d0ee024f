"""choose_road: sends a call to a function in full duplex, or gathers it, as `duplex.use` says.

With `auto` a call goes in full duplex if its client streams. The method's descriptor tells, if one is known: a function
is never started to ask for it. Otherwise the client tells: it has sent a message and does not end its side, or has sent
nothing for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import NotDuplex
from bridge.rpc.events import Phase

Use = Literal["auto", "always", "never"]

PATIENCE_AFTER_MESSAGE = 0.05
"""Seconds from a call's first whole message to the end of its side, if the client does not stream."""
PATIENCE_FOR_MESSAGE = 1.0
"""Seconds without any byte after which a client counts as one that streams."""
NOT_DUPLEX_FOR = 600.0
"""Seconds for which a function that does not connect is not asked again."""

ClientStreams = Callable[[str], bool | None]
"""From a path to whether clients stream requests to the method; None: nobody has said."""


def choose_road(
    gathered: Handler,
    duplex: Handler,
    *,
    use: Use,
    client_streams: ClientStreams,
    clock: Callable[[], float],
) -> Handler:
    """`gathered` serves calls whose requests are read whole, `duplex` those whose messages pass as they come. `clock`
    reads the monotonic time (seconds).
    """
    not_before = 0.0

    async def chosen(call: Call) -> None:
        nonlocal not_before
        if clock() < not_before or not (use == "always" or await _streams(call, client_streams)):
            return await gathered(call)
        call.pass_messages(singly=True)
        try:
            return await duplex(call)
        except NotDuplex:
            if use == "always" or call.phase is not Phase.NEW:
                raise
            not_before = clock() + NOT_DUPLEX_FOR
        call.pass_messages(singly=False)
        return await gathered(call)

    return chosen


async def _streams(call: Call, client_streams: ClientStreams) -> bool:
    """Whether the client of this call streams. Without a descriptor this waits for what the client does."""
    if call.has_ended:
        return False
    known = client_streams(call.path)
    if known is not None:
        return known
    if not await _within(PATIENCE_FOR_MESSAGE, call.arrival("bytes")):
        return True
    await call.arrival("message")
    return not await _within(PATIENCE_AFTER_MESSAGE, call.arrival("end"))


async def _within(seconds: float, waiting: Awaitable[None]) -> bool:
    """Wait for it. Returns False if it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True
