from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from bridge.admin import overview as module
from bridge.admin.overview import (
    Overview,
    RouteLine,
    RouteTarget,
    routes_as_json,
    routes_as_text,
    status_page,
)
from bridge.admin.snapshot import Snapshot
from tests.support.figures import FULL_SNAPSHOT

ROUTES = (
    RouteLine("helloworld.Greeter", (RouteTarget("function:greeter"),), {"timeout": "2m", "event": "alb"}),
    RouteLine("search.v1.Search", (RouteTarget("arn:v1", 95), RouteTarget("arn:v2", 5))),
    RouteLine("*"),
)

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps the text of table cells by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row[0] == name)


def page(
    *,
    unready: tuple[str, ...] = (),
    routes: tuple[RouteLine, ...] = ROUTES,
    figures: Snapshot = FULL_SNAPSHOT,
) -> Page:
    state = Overview("1.2.3", 93_784.0, ("127.0.0.1:50051",), unready, routes, figures)
    return Page(status_page(state))


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


def test_the_page_says_how_the_bridge_is() -> None:
    """Version, uptime, listeners and connections stand at the top."""
    text = page().text

    for fact in ("1.2.3", "Up 1 d 2 h", "127.0.0.1:50051", "Connections: 7 of 8", "Ready"):
        assert fact in text


def test_a_route_shows_the_calls_of_its_methods() -> None:
    """Calls, errors and latency of a route are those of the methods that it matches."""
    assert [
        "helloworld.Greeter",
        "function:greeter",
        "timeout=2m event=alb",
        "3",
        "1",
        "50 ms",
        "2.47 s",
    ] == page().row("helloworld.Greeter")


def test_a_method_shows_its_figures() -> None:
    """Calls, errors, calls in flight and latencies."""
    assert [
        "helloworld.Greeter/SayHello",
        "unary",
        "3",
        "1",
        "1",
        "50 ms",
        "2.47 s",
        "17.5 ms",
    ] == page().row("helloworld.Greeter/SayHello")


def test_a_target_shows_its_figures() -> None:
    """Calls in flight, the learned limit, the queue, retries, throttles and cold starts."""
    shown = ["function:greeter", "1", "21", "22", "17.5 ms", "24.9 ms", "23 full", "4", "6", "5"]

    assert shown == page().rows[-1]


def test_the_page_says_why_calls_are_refused() -> None:
    """Reasons of unreadiness stand at the top."""
    assert "Not ready: draining; no credentials" in page(unready=("draining", "no credentials")).text


def test_a_bridge_without_anything_has_a_page() -> None:
    """Without routes and calls there are no tables."""
    assert [] == page(routes=(), figures=Snapshot()).rows


def test_texts_are_escaped() -> None:
    """Names from configuration and clients cannot become markup."""
    hostile = "<script>alert(1)</script>&\"'"
    found = page(routes=(RouteLine("*", (RouteTarget(hostile),), {"key": hostile}),), unready=(hostile,))

    assert ["*", hostile, f"key={hostile}"] == found.row("*")[:3]
    assert hostile in found.text


def test_nothing_is_loaded_from_elsewhere() -> None:
    """The page stands alone; its links lead to the admin server's own paths."""
    assert ["/metrics", "/routes", "/readyz"] == page().links


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    """Uptime is told in its two largest units."""
    assert text == module._duration(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0004, "0.4 ms"), (0.25, "250 ms"), (12.0, "12 s"), (float("inf"), "> 30 min")],
)
def test_latencies(seconds: float | None, text: str) -> None:
    """Latencies are told in the unit that fits."""
    assert text == module._latency(seconds)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (2048, "2 KiB"), (3 << 20, "3 MiB"), (5 << 30, "5 GiB")])
def test_sizes(size: int, text: str) -> None:
    """Sizes are told in the unit that fits."""
    assert text == module._size(size)
