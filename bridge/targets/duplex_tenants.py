"""Full duplex with a function that has tenants: each tenant has a carrier, so that no instance serves two.

A tenant's carrier is taken for its first call, and given back when nobody has used it for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Overloaded

MAX_TENANTS = 1000
"""Tenants with a carrier at a time, of one target in one process."""

FORGOTTEN_AFTER = 60.0
"""Seconds without a call after which a tenant's carrier is given back, if its instances may not stay for longer."""


class _Carrier:
    __slots__ = ("calls", "handle", "last_used")

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.calls = 0
        """Under way."""
        self.last_used = 0.0


class DuplexTenants:
    """Sends each call to its tenant's carrier. Belongs to the running loop."""

    def __init__(
        self, name: str, *, take: Callable[[str], Handler], give_back: Callable[[str], None], idle: float
    ) -> None:
        """`name` is the target's in messages. `take` returns the handler of a tenant's calls. `idle`: seconds that an
        instance stays without a call.
        """
        self._name = name
        self._take = take
        self._give_back = give_back
        self._forgotten_after = max(FORGOTTEN_AFTER, 2 * idle)
        self._loop = asyncio.get_running_loop()
        self._carriers: OrderedDict[str, _Carrier] = OrderedDict()
        """By tenant; the one unused for the longest time is first."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many tenants have a carrier."""
        return len(self._carriers)

    async def handle(self, call: Call) -> None:
        """Handle the call. Raises RpcError."""
        tenant = call.tenant
        carrier = self._carriers.get(tenant) or self._begin(tenant)
        carrier.calls += 1
        try:
            await carrier.handle(call)
        finally:
            carrier.calls -= 1
            carrier.last_used = self._loop.time()
            self._carriers.move_to_end(tenant)
            if self._is_closed:
                self._forget_unused(since=0.0)

    def close(self) -> None:
        """Give back all carriers. Those with calls under way follow when these have ended."""
        self._is_closed = True
        self._forget_unused(since=0.0)
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self, tenant: str) -> _Carrier:
        if len(self._carriers) >= MAX_TENANTS:
            self._forget_longest_unused()
        carrier = self._carriers[tenant] = _Carrier(self._take(tenant))
        if self._timer is None and not self._is_closed:
            self._timer = self._loop.call_later(self._forgotten_after, self._look)
        return carrier

    def _forget_longest_unused(self) -> None:
        unused = next((tenant for tenant, carrier in self._carriers.items() if not carrier.calls), None)
        if unused is None:
            raise Overloaded(
                f"{MAX_TENANTS} tenants have calls in full duplex at {self._name}: try again later", kind="tenants"
            )
        self._forget(unused)

    def _look(self) -> None:
        """Forget who has not called for a while, and look again later if anybody is left."""
        self._forget_unused(since=self._forgotten_after)
        self._timer = self._loop.call_later(self._forgotten_after, self._look) if self._carriers else None

    def _forget_unused(self, *, since: float) -> None:
        latest = self._loop.time() - since
        for tenant, carrier in list(self._carriers.items()):
            if not carrier.calls and carrier.last_used <= latest:
                self._forget(tenant)

    def _forget(self, tenant: str) -> None:
        del self._carriers[tenant]
        self._give_back(tenant)
