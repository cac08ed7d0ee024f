"""turns: tenants take turns, within a tenant connections, within a connection first in, first out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from bridge.queueing.turns import Turns


@dataclass(frozen=True)
class Waiting:
    connection: str
    arrived: float
    tenant: str = "one"


def _turns(*waiting: Waiting) -> Turns[Waiting]:
    turns: Turns[Waiting] = Turns()
    for each in waiting:
        turns.add(each)
    return turns


def _all_of(turns: Turns[Waiting]) -> list[Waiting]:
    return [found for _ in range(len(turns)) if (found := turns.take()) is not None]


def _many(connection: str, count: int, tenant: str = "one") -> list[Waiting]:
    return [Waiting(connection, number, tenant) for number in range(count)]


def test_a_connection_is_served_in_order() -> None:
    calls = _many("a", 5)

    assert calls == _all_of(_turns(*calls))


def test_one_waiting_call_of_a_neighbour_waits_a_single_turn() -> None:
    """However many calls of another connection were there before."""
    turns = _turns(*_many("greedy", 1000), Waiting("new", 0))

    assert ["greedy", "new", "greedy"] == [each.connection for each in _all_of(turns)[:3]]


def test_tenants_take_turns_whatever_their_connections() -> None:
    """A tenant with ten connections has no more turns than a tenant with one."""
    many = [Waiting(f"c{number}", number, "large") for number in range(10)]
    turns = _turns(*many, *_many("s", 3, "small"))

    assert ["large", "small"] * 3 + ["large"] * 7 == [each.tenant for each in _all_of(turns)]


def test_a_call_that_comes_back_is_next() -> None:
    calls = _many("a", 3)
    turns = _turns(*calls, *_many("b", 2))
    back = turns.take()
    assert back is not None
    turns.put_back(back)

    assert back == turns.take()


def test_calls_that_come_back_keep_their_order() -> None:
    """A burst of throttles does not turn the queue around."""
    calls = _many("a", 5)
    turns = _turns(*calls)
    sent = [turns.take() for _ in range(4)]
    for back in (sent[2], sent[0], sent[3], sent[1]):
        assert back is not None
        turns.put_back(back)

    assert calls == _all_of(turns)


def test_calls_that_come_back_leave_the_others_their_turns() -> None:
    """A thousand throttled calls of one connection delay a neighbour by a single turn."""
    turns = _turns(Waiting("new", 0))
    for back in _many("greedy", 1000):
        turns.put_back(back)

    assert ["greedy", "new"] == [each.connection for each in _all_of(turns)[:2]]


def test_a_blocked_tenant_keeps_its_turn() -> None:
    """It is passed over, and comes first once it is no longer blocked."""
    turns = _turns(Waiting("a", 0, "blocked"), *_many("b", 3, "free"))
    first = turns.take(lambda tenant: tenant == "blocked")

    assert Waiting("b", 0, "free") == first
    assert Waiting("a", 0, "blocked") == turns.take()
    assert turns.take(lambda tenant: True) is None


def test_the_greediest_gives_up_its_newest() -> None:
    """For a connection with fewer waiting calls, until both have the same number."""
    turns = _turns(*_many("greedy", 6))
    evicted = []
    for number in range(6):
        victim = turns.to_evict("one", "new")
        if victim is not None:
            evicted.append(victim)
            turns.remove(victim)
            turns.add(Waiting("new", number))

    assert [Waiting("greedy", 5), Waiting("greedy", 4), Waiting("greedy", 3)] == evicted
    assert turns.to_evict("one", "greedy") is None


def test_a_tenant_gives_up_only_for_one_with_less() -> None:
    """The connections of one tenant share what their tenant has."""
    large = [Waiting(f"c{number}", 0, "large") for number in range(6)]
    turns = _turns(*large, Waiting("s", 0, "small"))

    assert turns.to_evict("large", "c7") is None
    assert "large" == getattr(turns.to_evict("small", "s2"), "tenant", None)


def test_nobody_gives_up_in_an_empty_queue() -> None:
    assert Turns[Waiting]().to_evict("one", "a") is None


_CONNECTIONS = st.sampled_from(["a", "b", "c", "d"])
_TENANTS = st.sampled_from(["t", "u"])


@given(st.lists(st.tuples(_TENANTS, _CONNECTIONS, st.sampled_from(["add", "take", "back", "remove"])), max_size=60))
def test_every_call_is_served_once_and_in_order(steps: list[tuple[str, str, str]]) -> None:
    """Whatever comes, goes and comes back: nothing is lost or doubled, and each connection is served in order."""
    turns: Turns[Waiting] = Turns()
    waiting: set[Waiting] = set()
    sent: list[Waiting] = []
    for number, (tenant, connection, step) in enumerate(steps):
        if step == "add":
            waiting.add(new := Waiting(connection, number, tenant))
            turns.add(new)
        elif step == "take" and (found := turns.take()) is not None:
            waiting.remove(found)
            sent.append(found)
        elif step == "back" and sent:
            waiting.add(back := sent.pop())
            turns.put_back(back)
        elif step == "remove" and waiting:
            gone = min(waiting, key=lambda each: each.arrived)
            waiting.remove(gone)
            turns.remove(gone)
        assert len(waiting) == len(turns)
    rest = _all_of(turns)
    by_connection = defaultdict(list)
    for each in rest:
        by_connection[each.tenant, each.connection].append(each.arrived)

    assert waiting == set(rest)
    assert len(rest) == len(waiting)
    assert all(sorted(order) == order for order in by_connection.values())


@given(st.lists(st.tuples(_TENANTS, _CONNECTIONS), max_size=40), _TENANTS, _CONNECTIONS)
def test_what_is_ahead_is_never_overestimated(waiting: list[tuple[str, str]], tenant: str, connection: str) -> None:
    """A call is refused for the time it would wait. So what is said to be ahead of it has its turn before it."""
    turns = _turns(*(Waiting(each, number, of) for number, (of, each) in enumerate(waiting)))
    told = turns.ahead_of(tenant, connection)
    new = Waiting(connection, 1000, tenant)
    turns.add(new)

    assert told <= _all_of(turns).index(new)
    assert told >= sum(each == (tenant, connection) for each in waiting)
