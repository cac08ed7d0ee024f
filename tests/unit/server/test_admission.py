from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import pytest

from bridge.rpc.limits import KEPT_DESCRIPTORS, MaxConnections
from bridge.server.admission import (
    ALWAYS_KEPT,
    QUIET,
    Admission,
    peer_key,
)


@dataclass(eq=False)
class Socket:
    """An accepted socket."""

    peer: str = "10.0.0.1"
    is_idle: bool = True
    has_given_up: bool = False

    def give_up(self) -> None:
        self.has_given_up = True


class Door:
    """An Admission, with what it has refused."""

    def __init__(self, total: int = 100, per_peer: int | None = None, descriptors: int | None = None) -> None:
        self.refused: Counter[str] = Counter()
        self.now = 0.0
        self.admission = Admission(MaxConnections(total, per_peer, descriptors), self.refused)

    def comes(self, peer: str, *, is_idle: bool = True, descriptor: int = 10) -> Socket | None:
        socket = Socket(peer, is_idle)
        return socket if self.admission.admit(socket, descriptor, now=self.now) else None

    def come(self, count: int, peer: str, *, is_idle: bool = True) -> list[Socket]:
        came = [self.comes(peer, is_idle=is_idle) for _ in range(count)]
        assert None not in came
        return [each for each in came if each is not None]


def test_the_peer_with_the_most_gives_up_its_oldest_idle_connection() -> None:
    """Those with few keep theirs, however long they have been idle."""
    door = Door(total=10)
    few = door.come(3, "few")
    many = door.come(7, "many")
    many[0].is_idle = False

    assert door.comes("new") is not None
    assert [many[1]] == [each for each in [*few, *many] if each.has_given_up]
    assert ({"idle": 1}, 10) == (door.refused, len(door.admission))


def test_without_an_idle_one_of_that_peer_the_new_one_is_refused() -> None:
    """Idle connections of others do not pay for it."""
    door = Door(total=10)
    few = door.come(3, "few")
    many = door.come(7, "many", is_idle=False)

    assert door.comes("new") is None
    assert not any(each.has_given_up for each in [*few, *many])
    assert ({"total": 1}, 10) == (door.refused, len(door.admission))


def test_peers_with_equally_many_are_all_looked_at() -> None:
    """The first of them may be busy."""
    door = Door(total=5)
    busy = [door.comes(f"busy{n}", is_idle=False) for n in range(4)]
    idle = door.comes("idle")

    assert door.comes("new") is not None
    assert idle is not None
    assert idle.has_given_up
    assert not any(each is not None and each.has_given_up for each in busy)


def test_who_left_makes_room() -> None:
    """A socket may be told to have left twice, or after it gave up its place."""
    door = Door(total=2)
    first, second = door.come(2, "a", is_idle=False)
    door.admission.leave(first)
    door.admission.leave(first)

    assert 1 == len(door.admission)
    assert door.comes("b", is_idle=False) is not None
    assert door.comes("b", is_idle=False) is None
    door.admission.leave(second)
    assert door.comes("b", is_idle=False) is not None


def test_the_most_is_known_when_peers_come_and_go() -> None:
    """Whoever has the most at that moment gives up, not who once had."""
    door = Door(total=6)
    once = door.come(4, "once")
    now = door.come(2, "now")
    for each in once[1:]:
        door.admission.leave(each)
    door.come(3, "other", is_idle=False)
    assert door.comes("new") is None
    other = door.come(0, "other")
    assert [] == [each for each in [*once, *now, *other] if each.has_given_up]


def test_one_peer_has_so_many_and_no_more() -> None:
    """It gives up none: `per_peer` is a limit, and not a share."""
    door = Door(per_peer=2)
    own = door.come(2, "a")

    assert door.comes("a") is None
    assert door.comes("b") is not None
    door.admission.leave(own[0])
    assert door.comes("a") is not None
    assert not own[1].has_given_up
    assert {"per_peer": 1} == door.refused


def test_descriptors_are_kept_for_others() -> None:
    """One that got a number of those may stay if an idle connection goes, whose number it takes; some are never
    lent.
    """
    door = Door(descriptors=50)
    idle = door.come(3, "a")

    assert door.comes("b", descriptor=49, is_idle=False) is not None
    assert door.comes("b", descriptor=50, is_idle=False) is not None
    assert door.comes("b", descriptor=50 + ALWAYS_KEPT, is_idle=False) is None
    assert [True, True, False] == [each.has_given_up for each in idle]
    assert door.comes("b", descriptor=50, is_idle=False) is None
    assert {"descriptors": 2, "idle": 2} == door.refused


@pytest.mark.parametrize(
    ("files", "total", "descriptors"),
    [(1024, 960, 960), (20_000, 10_000, 19_936), (None, 10_000, None), (64, 1, 1), (10, 1, 1)],
)
def test_the_limit_of_open_files_bounds_the_total(files: int | None, total: int, descriptors: int | None) -> None:
    found = MaxConnections(10_000).within(files)

    assert (total, descriptors) == (found.total, found.descriptors)
    assert KEPT_DESCRIPTORS == 64


def test_refusals_are_logged_once_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Again only after a quiet time; each reason for itself."""
    door = Door(total=1, per_peer=1)
    door.come(1, "a", is_idle=False)
    for _ in range(1000):
        door.comes("a")
        door.comes("b")
        door.now += QUIET / 2

    lines = [record.getMessage() for record in caplog.records]
    assert 2 == len(lines)
    assert all("bridge_connections_refused_total" in line for line in lines)
    assert {"`max_connections.per_peer`", "`max_connections.total`"} == {
        word.strip(",;") for line in lines for word in line.split() if "`" in word
    }
    assert [logging.WARNING] * 2 == [record.levelno for record in caplog.records]
    door.now += QUIET + 1
    door.comes("b")
    assert 3 == len(caplog.records)


def test_a_flood_from_one_peer_costs_as_much_with_many_busy_connections() -> None:
    """A look for an idle one is bounded."""
    looked = 0

    class Busy(Socket):
        @property
        def is_idle(self) -> bool:
            nonlocal looked
            looked += 1
            return False

        @is_idle.setter
        def is_idle(self, _: bool) -> None: ...

    admission = Admission(MaxConnections(2000), Counter())
    for _ in range(2000):
        assert admission.admit(Busy("a"), 1, now=0)
    assert not admission.admit(Busy("b"), 1, now=0)
    assert 0 < looked <= 100


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        ("", "unix"),
        (b"", "unix"),
    ],
)
def test_who_counts_as_one_peer(address: object, key: str) -> None:
    assert key == peer_key(address)
