"""Spreads work on large replies over turns of the loop, so that small calls run in between."""

from __future__ import annotations

import asyncio

LARGE = 256 << 10
"""Bytes of a reply from which on it waits for its turn. Its JSON and base64 take 1.5 ms to read. 4 MiB take 20 ms."""


class LargeReplyGate:
    """Grants one turn at a time, in the order of requests."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def next(self) -> None:
        """Wait for a turn of the loop that no other caller gets. All other ready work runs first."""
        async with self._one:
            await asyncio.sleep(0)
