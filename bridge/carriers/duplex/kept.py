"""The carriers in full duplex of a process. They outlive a reload, so that unchanged targets keep their instances."""

from __future__ import annotations

from collections.abc import Hashable

from bridge.carriers.duplex.carrier import DuplexCarrier, Invoker, MeetingPlace
from bridge.carriers.duplex.instances import Observer
from bridge.config.schema import Duplex
from bridge.rpc.limits import Limits


class KeptCarriers:
    """Belongs to the running loop. Each `take` needs its `release`."""

    def __init__(self, place: MeetingPlace) -> None:
        self._place = place
        self._carriers: dict[Hashable, DuplexCarrier] = {}
        self._invokers: dict[Hashable, list[Invoker]] = {}
        """Of those that have taken the carrier, the first one in front."""
        self._retired: list[DuplexCarrier] = []
        """Those whose last calls may still be under way."""

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
        """Return the carrier for this key: the one that is there, or a new one.

        It invokes by `invoker` once those who took it before have released it: a configuration that comes may be
        refused.
        """
        carrier = self._carriers.get(key)
        if carrier is None:
            carrier = self._carriers[key] = DuplexCarrier(
                name, invoker, place=self._place, settings=settings, limits=limits, observer=observer
            )
        self._invokers.setdefault(key, []).append(invoker)
        return carrier

    def release(self, key: Hashable, invoker: Invoker) -> None:
        """Let its instances end with their last calls, if nobody else has taken the carrier."""
        left = self._invokers[key]
        left.remove(invoker)
        if left:
            self._carriers[key].invoker = left[0]
            return
        del self._invokers[key]
        self._retired = [each for each in self._retired if not each.is_unused]
        carrier = self._carriers.pop(key)
        carrier.retire()
        self._retired.append(carrier)

    async def close(self) -> None:
        """End every instance. Calls under way end with UNAVAILABLE."""
        for carrier in (*self._carriers.values(), *self._retired):
            await carrier.close()
