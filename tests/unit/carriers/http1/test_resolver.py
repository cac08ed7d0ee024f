"""The resolver: answers are kept, shared, spread, and outlive a DNS that fails."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from bridge.carriers.http1.resolver import Resolver, SocketAddress, look_up
from bridge.rpc.errors import Unreachable

V4, V6 = socket.AF_INET, socket.AF_INET6


def address(host: str) -> SocketAddress:
    return (V6 if ":" in host else V4, (host, 443))


class FakeDns:
    """Answers in turn with lists of hosts, or fails."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, host: str, port: int) -> list[SocketAddress]:
        self.asked += 1
        await self.gate.wait()
        answer = self._answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return [address(found) for found in answer]


async def hosts(resolver: Resolver) -> list[str]:
    return [place[0] for _, place in await resolver.resolve("lambda.test", 443)]


async def test_fresh_answer_is_not_asked_for_again() -> None:
    dns = FakeDns(["10.0.0.1"])
    resolver = Resolver(dns)

    assert [["10.0.0.1"], ["10.0.0.1"]] == [await hosts(resolver), await hosts(resolver)]
    assert 1 == dns.asked


async def test_old_answer_is_asked_for_again() -> None:
    resolver = Resolver(FakeDns(["10.0.0.1"], ["10.0.0.2"]), fresh=0.0)

    assert [["10.0.0.1"], ["10.0.0.2"]] == [await hosts(resolver), await hosts(resolver)]


async def test_addresses_take_turns() -> None:
    """Each connection begins with the next address of a host, IPv6 and IPv4 in turn."""
    resolver = Resolver(FakeDns(["::1", "::2", "10.0.0.1", "10.0.0.2", "10.0.0.3"]))

    assert ["::1", "10.0.0.1", "::2", "10.0.0.2", "10.0.0.3"] == await hosts(resolver)
    assert ["::2", "10.0.0.2", "::1", "10.0.0.3", "10.0.0.1"] == await hosts(resolver)


async def test_one_lookup_serves_all_who_wait() -> None:
    """A caller who gives up does not take the lookup away from the others."""
    dns = FakeDns(["10.0.0.1"])
    dns.gate.clear()
    resolver = Resolver(dns)
    loop = asyncio.get_running_loop()
    first, second = (loop.create_task(hosts(resolver)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    dns.gate.set()

    assert ["10.0.0.1"] == await second
    assert first.cancelled()
    assert 1 == dns.asked


async def test_unknown_host_is_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing ran, a later attempt may succeed, and the log says what DNS said."""
    resolver = Resolver(FakeDns(socket.gaierror(-2, "Name or service not known"), ["10.0.0.1"]))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(Unreachable, match=r"lambda\.test") as caught,
    ):
        await hosts(resolver)

    assert (False, True) == (caught.value.may_have_run, caught.value.is_transient)
    assert "Name or service not known" in caplog.text
    assert ["10.0.0.1"] == await hosts(resolver)


async def test_each_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Calls ask again, and so do retries. The log has the host and the reason, and no number of the system's."""
    unknown, down = socket.gaierror(socket.EAI_NONAME, "no such name"), socket.gaierror(socket.EAI_AGAIN, "no server")
    resolver = Resolver(FakeDns(unknown, unknown, down, ["10.0.0.1"], unknown), fresh=0.0)
    for _ in range(3):
        with pytest.raises(Unreachable, match=r"^no address is known for lambda\.test$"):
            await resolver.resolve("lambda.test", 443)
    for _ in range(2):
        await hosts(resolver)

    told = [
        f"DNS has no answer for lambda.test: {reason}; check the name and the DNS"
        for reason in ("no such name", "no server", "no such name")
    ]
    assert told == [record.getMessage() for record in caplog.records]


async def test_last_answer_outlives_a_failing_resolver() -> None:
    """When DNS fails the old addresses serve, and are asked for again only after a pause."""
    dns = FakeDns(["10.0.0.1"], OSError("no DNS"))
    resolver = Resolver(dns, fresh=0.0)

    assert [["10.0.0.1"]] * 4 == [await hosts(resolver) for _ in range(4)]
    assert 2 == dns.asked


async def test_addresses_that_take_no_connection_are_asked_for_again() -> None:
    """A host may have moved before its answer is old."""
    resolver = Resolver(FakeDns(["10.0.0.1"], ["10.0.0.2"]))
    before = await hosts(resolver)
    resolver.doubt("lambda.test", 443)
    resolver.doubt("unknown.test", 443)

    assert (["10.0.0.1"], ["10.0.0.2"]) == (before, await hosts(resolver))


async def test_last_answer_serves_while_the_resolver_is_slow() -> None:
    """A call waits a moment for a new answer, not until DNS gives up."""
    dns = FakeDns(["10.0.0.1"], ["10.0.0.2"])
    resolver = Resolver(dns, fresh=0.0)
    before = await hosts(resolver)
    dns.gate.clear()
    meanwhile = await hosts(resolver)
    dns.gate.set()
    after = await hosts(resolver)

    assert (["10.0.0.1"], ["10.0.0.1"], ["10.0.0.2"]) == (before, meanwhile, after)


async def test_closing_ends_lookups() -> None:
    dns = FakeDns(["10.0.0.1"])
    dns.gate.clear()
    resolver = Resolver(dns)
    waiting = asyncio.get_running_loop().create_task(hosts(resolver))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await resolver.close()
    with pytest.raises(Unreachable):
        await waiting


async def test_addresses_need_no_dns() -> None:
    """The system's own lookup knows literal addresses."""
    assert [(V4, ("127.0.0.1", 80))] == await look_up("127.0.0.1", 80)
