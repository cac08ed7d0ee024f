"""Turns: work that holds the loop is spread over its turns, so that what is small gets through in between."""

from __future__ import annotations

import asyncio

LARGE = 256 << 10
"""Bytes of a reply from which it waits for its turn: its JSON and base64 take 1.5 ms to read, those of 4 MiB twenty."""


class LargeReplyGate:
    """One at a time, in the order asked for."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def next(self) -> None:
        """Return in a turn of the loop that nobody else was given; all else that is ready has been served before."""
        async with self._one:
            await asyncio.sleep(0)
