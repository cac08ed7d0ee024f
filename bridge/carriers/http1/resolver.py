"""Resolves names to addresses in threads. Answers are kept for a while, and longer while the resolver fails.

A host that was found once stays reachable when DNS does not answer, because calls must not stop with a resolver.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from itertools import chain, zip_longest
from typing import Any

from bridge.rpc.errors import Unreachable

SocketAddress = tuple[int, tuple[Any, ...]]
"""An address family and what `socket.connect` takes for it."""

Lookup = Callable[[str, int], Awaitable[list[SocketAddress]]]
"""Raises OSError."""

FRESH = 60.0
"""Seconds for which an answer is used without asking again."""

LOOKUP_PATIENCE = 1.0
"""Seconds that a lookup may take before the last answer is used instead."""

PAUSE = 5.0
"""Seconds for which the last answer is used after a lookup has failed."""

_logger = logging.getLogger(__name__)


class _Answer:
    __slots__ = ("addresses", "fresh_until", "turns")

    def __init__(self, addresses: list[SocketAddress], fresh_until: float) -> None:
        self.addresses = addresses
        self.fresh_until = fresh_until
        self.turns = 0

    def next_order(self) -> list[SocketAddress]:
        """All addresses, with alternating families (RFC 8305 4). Each call begins one address further, so that
        connections spread over a host's addresses.
        """
        families: dict[int, list[SocketAddress]] = {}
        for address in self.addresses:
            families.setdefault(address[0], []).append(address)
        turned = []
        for members in families.values():
            start = self.turns % len(members)
            turned.append(members[start:] + members[:start])
        self.turns += 1
        return [address for address in chain(*zip_longest(*turned)) if address is not None]


class Resolver:
    """Keeps one answer for each host that was asked for. All of them come from the configuration."""

    def __init__(self, lookup: Lookup | None = None, *, fresh: float = FRESH) -> None:
        self._lookup = lookup or look_up
        self._fresh = fresh
        self._answers: dict[tuple[str, int], _Answer] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._faults: dict[tuple[str, int], str] = {}

    async def resolve(self, host: str, port: int) -> list[SocketAddress]:
        """Return the addresses of a host, in the order to try them. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        place = (host, port)
        answer = self._answers.get(place)
        if answer is not None and loop.time() < answer.fresh_until:
            return answer.next_order()
        lookup = self._lookups.get(place)
        if lookup is None:
            lookup = loop.create_task(self._ask(place))
            self._lookups[place] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(place, None))
        # All waiting callers share a lookup. One that gives up does not end it.
        await asyncio.wait((lookup,), timeout=None if answer is None else LOOKUP_PATIENCE)
        answer = self._answers.get(place)
        if answer is None:
            raise Unreachable(f"no address is known for {host}")
        return answer.next_order()

    def doubt(self, host: str, port: int) -> None:
        """Forget the addresses when none accepted a connection: they may be old, so ask again next time."""
        answer = self._answers.get((host, port))
        if answer is not None:
            answer.fresh_until = 0.0

    async def _ask(self, place: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._lookup(*place)
        except OSError as error:
            addresses = []
            self._report(place, error.strerror or str(error))
        if addresses:
            self._faults.pop(place, None)
            self._answers[place] = _Answer(addresses, loop.time() + self._fresh)
        elif place in self._answers:
            self._answers[place].fresh_until = loop.time() + PAUSE

    def _report(self, place: tuple[str, int], fault: str) -> None:
        """Log why a host has no new address, once for each reason: each call asks again."""
        if self._faults.get(place) != fault:
            self._faults[place] = fault
            _logger.warning("DNS has no answer for %s: %s; check the name and the DNS", place[0], fault)

    async def close(self) -> None:
        """End the lookups under way."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)


async def look_up(host: str, port: int) -> list[SocketAddress]:
    """Ask the system in a thread. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]
