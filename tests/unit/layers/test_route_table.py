from __future__ import annotations

import random
from collections import Counter

from bridge.layers.route_table import MethodRegistry, RouteEntry, RouteTable, WeightedTarget
from bridge.routing.router import Router
from bridge.rpc.call import Call
from bridge.rpc.limits import Limits


async def old(call: Call) -> None:
    raise AssertionError("nothing is called here")


async def new(call: Call) -> None:
    raise AssertionError("nothing is called here")


def table(entry: RouteEntry, seed: int = 1) -> RouteTable:
    return RouteTable(
        Router({"a.B": entry}),
        builtin={},
        methods=MethodRegistry(lambda path: "unknown"),
        point=random.Random(seed).random,
    )


def test_calls_fall_on_the_legs_by_weight() -> None:
    """95 to 5 in 10,000 calls, within what chance leaves; all calls of a method share its figures."""
    split = RouteEntry("a.B", [WeightedTarget(old, 95), WeightedTarget(new, 5)], limits=Limits(), timeout=None)
    routes = table(split)
    picked = [routes.resolve("/a.B/C") for _ in range(10_000)]
    count = Counter(route.handler for route in picked)

    assert 400 <= count[new] <= 600
    assert 10_000 == count.total()
    assert 1 == len({id(route.figures) for route in picked})


def test_a_leg_may_have_an_end_of_its_own() -> None:
    """A function runs 30 minutes at most, a native stream as long as it likes; a configured timeout counts for both."""
    split = RouteEntry(
        "a.B",
        [WeightedTarget(old, max_call_seconds=1810.0), WeightedTarget(new)],
        limits=Limits(),
        timeout=5.0,
    )
    routes = [table(split).resolve("/a.B/C") for _ in range(100)]
    routes += [table(split, seed).resolve("/a.B/C") for seed in range(100)]

    assert {1810.0, None} == {route.max_call_seconds for route in routes}
    assert {5.0} == {route.timeout for route in routes}
