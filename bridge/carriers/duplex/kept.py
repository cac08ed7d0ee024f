"""The carriers in full duplex of a process. They outlive a reload, so that unchanged targets keep their instances."""

from __future__ import annotations

from collections.abc import Hashable

from bridge.carriers.duplex.carrier import DuplexCarrier, Invoker, Place
from bridge.carriers.duplex.instances import Observer
from bridge.config.schema import Duplex
from bridge.rpc.limits import Limits


class KeptCarriers:
    """Belongs to the running loop. Each `take` needs its `release`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._carriers: dict[Hashable, DuplexCarrier] = {}
        self._users: dict[Hashable, int] = {}

    def take(
        self,
        key: Hashable,
        name: str,
        invoker: Invoker,
        *,
        settings: Duplex,
        limits: Limits,
        observer: Observer,
    ) -> DuplexCarrier:
        """Return the carrier for this key: the one that is there, or a new one. It invokes by `invoker` from now on."""
        carrier = self._carriers.get(key)
        if carrier is None:
            carrier = self._carriers[key] = DuplexCarrier(
                name, invoker, place=self._place, settings=settings, limits=limits, observer=observer
            )
        carrier.invoker = invoker
        self._users[key] = self._users.get(key, 0) + 1
        return carrier

    def release(self, key: Hashable) -> None:
        """Let its instances end with their last calls, if nobody else has taken the carrier."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._carriers.pop(key).retire()

    async def close(self) -> None:
        """End every instance. Calls under way end with UNAVAILABLE."""
        for carrier in self._carriers.values():
            await carrier.close()
