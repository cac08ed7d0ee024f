from __future__ import annotations

import json

from bridge.admin.overview import RouteLine, RouteTarget, routes_as_json, routes_as_text

ROUTES = (
    RouteLine("helloworld.Greeter", (RouteTarget("function:greeter"),), {"timeout": "2m", "event": "alb"}),
    RouteLine("search.v1.Search", (RouteTarget("arn:v1", 95), RouteTarget("arn:v2", 5))),
    RouteLine("*"),
)


def test_routes_as_json() -> None:
    """Programs read each entry's targets with their weights, and what differs from the defaults."""
    first, second, third = json.loads(routes_as_json(ROUTES))["routes"]

    assert {
        "service": "helloworld.Greeter",
        "targets": [{"target": "function:greeter", "weight": 1.0}],
        "settings": {"timeout": "2m", "event": "alb"},
    } == first
    assert [95, 5] == [target["weight"] for target in second["targets"]]
    assert [] == third["targets"]


def test_routes_as_text() -> None:
    """People read one line for each target, in columns."""
    expected = (
        "helloworld.Greeter  function:greeter  timeout=2m event=alb\n"
        "search.v1.Search    95%  arn:v1\n"
        "                    5%  arn:v2\n"
        "*                   UNIMPLEMENTED\n"
    )

    assert expected == routes_as_text(ROUTES)


def test_no_routes_are_no_text() -> None:
    """An empty table is empty."""
    assert "" == routes_as_text(())
