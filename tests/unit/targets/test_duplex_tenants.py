"""Full duplex with tenants: a carrier for each, within bounds, and forgotten when nobody uses it."""

import asyncio

import pytest

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Overloaded
from bridge.targets import duplex_tenants
from bridge.targets.duplex_tenants import FORGOTTEN_AFTER, DuplexTenants
from tests.support.fakes import RecordingCall


class Carriers:
    """Notes what is taken, served and given back. Calls last until `end`."""

    def __init__(self, *, idle: float = 5.0) -> None:
        self.noted: list[str] = []
        self.end = asyncio.Event()
        self.tenants = DuplexTenants("greeter", take=self._take, give_back=self._give_back, idle=idle)

    def _take(self, tenant: str) -> Handler:
        self.noted.append(f"take {tenant}")

        async def handle(call: Call) -> None:
            self.noted.append(f"{tenant} serves {call.tenant}")
            await self.end.wait()

        return handle

    def _give_back(self, tenant: str) -> None:
        self.noted.append(f"give back {tenant}")

    def call(self, tenant: str) -> asyncio.Task[None]:
        call = RecordingCall()
        call.tenant = tenant
        return asyncio.get_running_loop().create_task(self.tenants.handle(call))

    async def ended_call(self, tenant: str) -> None:
        self.end.set()
        await self.call(tenant)
        self.end.clear()


async def test_each_tenant_is_served_by_its_own_carrier() -> None:
    carriers = Carriers()
    for tenant in ("a", "b", "a"):
        await carriers.ended_call(tenant)

    assert ["take a", "a serves a", "take b", "b serves b", "a serves a"] == carriers.noted
    carriers.tenants.close()


async def test_a_tenant_that_does_not_call_is_forgotten() -> None:
    """A busy one is not, however long its call lasts."""
    carriers = Carriers()
    await carriers.ended_call("a")
    busy = carriers.call("b")
    await asyncio.sleep(2 * FORGOTTEN_AFTER + 1)

    assert ["give back a"] == carriers.noted[-1:]
    assert 1 == len(carriers.tenants)
    carriers.end.set()
    await busy
    await asyncio.sleep(2 * FORGOTTEN_AFTER + 1)
    assert "give back b" == carriers.noted[-1]
    assert 0 == len(carriers.tenants)


async def test_instances_may_stay_as_long_as_they_are_told_to() -> None:
    carriers = Carriers(idle=FORGOTTEN_AFTER)
    await carriers.ended_call("a")
    await asyncio.sleep(1.5 * FORGOTTEN_AFTER)

    assert 1 == len(carriers.tenants)
    carriers.tenants.close()


async def test_tenants_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has not called for the longest time gives way; if all are busy, a new one is refused."""
    monkeypatch.setattr(duplex_tenants, "MAX_TENANTS", 2)
    carriers = Carriers()
    for tenant in ("a", "b", "a"):
        await carriers.ended_call(tenant)
    calls = [carriers.call("c"), carriers.call("a")]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await carriers.call("d")

    assert "2 tenants have calls in full duplex at greeter" in str(caught.value)
    assert ["give back b", "take c", "c serves c", "a serves a"] == carriers.noted[-4:]
    carriers.end.set()
    await asyncio.gather(*calls)
    carriers.tenants.close()


async def test_closed_ones_follow_with_their_last_call() -> None:
    """Also those of calls that began to wait before and come after it."""
    carriers = Carriers()
    busy = carriers.call("a")
    await carriers.ended_call("b")
    carriers.tenants.close()

    assert "give back b" == carriers.noted[-1]
    await carriers.ended_call("c")
    assert "give back c" == carriers.noted[-1]
    await busy
    assert "give back a" in carriers.noted
    assert 0 == len(carriers.tenants)
