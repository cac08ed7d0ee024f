from __future__ import annotations

import random
from collections import Counter

from bridge.layers.route_table import Builtin, MethodRegistry, RouteEntry, RouteTable, WeightedTarget
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
    """95 to 5 in 10,000 calls, within what chance leaves. Each leg has its own part of the method's figures."""
    split = RouteEntry(
        "a.B", [WeightedTarget(old, 95, name="old"), WeightedTarget(new, 5, name="new")], limits=Limits(), timeout=None
    )
    routes = table(split)
    picked = [routes.resolve("/a.B/C") for _ in range(10_000)]
    count = Counter(route.handler for route in picked)

    assert 400 <= count[new] <= 600
    assert 10_000 == count.total()
    assert {("old", "C"), ("new", "C")} == {(route.figures.target, route.figures.method) for route in picked}
    assert 2 == len({id(route.figures) for route in picked})


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


def test_a_route_names_its_leg() -> None:
    """The one that answers a call, not all that its entry has."""
    split = RouteEntry(
        "a.B",
        [WeightedTarget(old, name="function:old"), WeightedTarget(new, name="function:new")],
        limits=Limits(),
        timeout=None,
    )
    names: dict[object, str] = {old: "function:old", new: "function:new"}
    routes = [table(split, seed).resolve("/a.B/C") for seed in range(20)]

    assert all(names[route.handler] == route.target for route in routes)
    assert {"function:old", "function:new"} == {route.target for route in routes}


def test_calls_of_some_services_have_no_lines() -> None:
    """Those that the bridge answers itself, and those that it passes on, by the name of the service."""
    entry = RouteEntry("*", [WeightedTarget(old)], limits=Limits(), timeout=None)
    found = RouteTable(
        Router({"*": entry}),
        builtin={"x.Health": Builtin(old, {"Check"})},
        methods=MethodRegistry(lambda path: "unknown"),
        unlogged=("x.Health", "y.Reflection"),
    )

    assert [False, False, True, True] == [
        found.resolve(path).is_logged
        for path in ("/x.Health/Check", "/y.Reflection/Info", "/a.B/C", "/x.Healthy/Check")
    ]
