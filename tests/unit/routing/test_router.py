from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.routing.router import Router, pick

ENTRIES = {
    "shop.v1.Cart/Add": "method",
    "shop.v1.Cart": "service",
    "shop.v1.*": "longer prefix",
    "shop.*": "prefix",
    "*": "any",
}


@pytest.mark.parametrize(
    ("expected", "path"),
    [
        ("method", "/shop.v1.Cart/Add"),
        ("service", "/shop.v1.Cart/Remove"),
        ("longer prefix", "/shop.v1.Order/Add"),
        ("longer prefix", "/shop.v1.deep.er.Order/Add"),
        ("prefix", "/shop.v2.Cart/Add"),
        ("prefix", "/shop.Cart/Add"),
        ("any", "/shop/Add"),
        ("any", "/shopping.Cart/Add"),
        ("any", "/Cart/Add"),
    ],
)
def test_the_most_specific_key_wins(expected: str, path: str) -> None:
    """Exact method, exact service, longest prefix, `*`, in that order."""
    assert expected == Router(ENTRIES).match(path)


@pytest.mark.parametrize("path", ["/a.b.C/M", "/a.b.c.D/M"])
def test_a_prefix_matches_below_it(path: str) -> None:
    """`a.b.*` matches a.b.C and a.b.c.D."""
    assert 1 == Router({"a.b.*": 1}).match(path)


@pytest.mark.parametrize("path", ["/a.b/M", "/a.bc.D/M", "/a/M", "/x.a.b.C/M"])
def test_a_prefix_does_not_match_beside_it(path: str) -> None:
    """`a.b.*` does not match a.b itself, nor a longer word."""
    assert Router({"a.b.*": 1}).match(path) is None


def test_a_method_does_not_match_other_methods() -> None:
    """A method's entry says nothing about its service."""
    assert Router({"a.B/M": 1}).match("/a.B/N") is None


@pytest.mark.parametrize("key", ["a.B/M", "a.B", "a.*"])
def test_null_hides_what_is_less_specific(key: str) -> None:
    """An entry of None has no route although `*` has a target."""
    assert Router({key: None, "*": 1}).match("/a.B/M") is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "a.B/M",
        "/a.B",
        "/a.B/",
        "//M",
        "/a.B/M/N",
        "/a..B/M",
        "/.a.B/M",
        "/a.B./M",
        "*",
        "/a.B/M ",
        "/a B/M",
        "/a.B/\n",
        "/ä.B/M",
        "/a.B/M\x00",
        "http://host/a.B/M",
    ],
)
def test_a_malformed_path_has_no_route(path: str) -> None:
    """Not even `*` matches what is not `/Service/Method`."""
    assert Router({"*": 1}).match(path) is None


def test_a_path_that_looks_like_a_key_is_only_a_path() -> None:
    """A client cannot call the entries of others by their keys."""
    router = Router({"a.*": "prefix", "a.B/M": "method"})

    assert router.match("/*/M") is None
    assert "prefix" == router.match("/a.*/M")


def test_a_service_is_looked_up_like_its_methods() -> None:
    """Health and reflection ask for services."""
    router = Router(ENTRIES)

    assert ["service", "longer prefix", "any"] == [
        router.match_service(name) for name in ("shop.v1.Cart", "shop.v1.X", "X")
    ]
    assert router.match_service("not a service") is None


def test_a_service_with_one_routed_method_is_served() -> None:
    """A method's entry alone makes its service one of ours."""
    router = Router({"a.B/M": 1, "a.C/M": None, "d.*": 2})

    assert [True, False, True, False] == [router.serves(name) for name in ("a.B", "a.C", "d.E", "e")]


def test_only_keys_written_in_full_name_a_path() -> None:
    """Health and reflection are overridden by their own keys only, null among them."""
    router = Router({"a.B": None, "c.D/M": 1, "*": 2})

    assert [True, True, False, False] == [router.names(path) for path in ("/a.B/M", "/c.D/M", "/c.D/N", "/e.F/M")]


def test_services_are_listed_from_keys_written_in_full() -> None:
    """Prefixes, `*` and null have no names to list."""
    router = Router({"b.B": 1, "a.A/M": 1, "a.A/N": 1, "c.C": None, "d.D/M": None, "e.*": 1, "*": 1})

    assert ("a.A", "b.B") == router.services


def test_a_hostile_name_costs_no_more_than_the_deepest_key() -> None:
    """A service with thousands of dots is looked up once for each level that keys have."""

    class Counting(dict[str, int | None]):
        looked_up = 0

        def get(self, key: str, default: int | None = None) -> int | None:  # type: ignore[override]  # narrower on purpose
            Counting.looked_up += 1
            return super().get(key, default)

    router = Router({"a.b.*": 1})
    router._prefixes = Counting(router._prefixes)

    assert router.match("/" + ".".join("x" * 4000) + "/M") is None
    assert 2 == Counting.looked_up


WORDS = st.sampled_from(["a", "b", "c"])
NAMES = st.lists(WORDS, min_size=1, max_size=4).map(".".join)
KEYS = st.one_of(
    NAMES,
    NAMES.map(lambda name: f"{name}.*"),
    st.builds("{}/{}".format, NAMES, WORDS),
    st.just("*"),
)


def naive(entries: Mapping[str, int | None], service: str, method: str) -> int | None:
    """The rule as one reads it."""
    if f"{service}/{method}" in entries:
        return entries[f"{service}/{method}"]
    if service in entries:
        return entries[service]
    prefixes = [key for key in entries if key.endswith(".*") and service.startswith(key.removesuffix("*"))]
    if prefixes:
        return entries[max(prefixes, key=len)]
    return entries.get("*")


@given(
    st.dictionaries(KEYS, st.one_of(st.none(), st.integers()), max_size=12),
    st.lists(st.tuples(NAMES, WORDS), max_size=8),
)
def test_the_router_agrees_with_the_naive_rule(entries: dict[str, int | None], calls: list[tuple[str, str]]) -> None:
    """Whatever the keys, the look-up finds what a scan of all keys finds."""
    router = Router(entries)

    for service, method in calls:
        assert naive(entries, service, method) == router.match(f"/{service}/{method}")
        assert naive(entries, service, "not-a-method") == router.match_service(service)


@given(st.text(max_size=30))
def test_any_text_is_a_path_or_is_not(path: str) -> None:
    """Garbage has no route, and nothing else happens."""
    found = Router({"*": 1}).match(path)

    assert found == (1 if path.count("/") == 2 and found else None)


# -- pick --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "point"), [(0, 0.0), (0, 0.949), (1, 0.951), (1, 0.999999999)])
def test_a_leg_is_picked_by_its_share(expected: int, point: float) -> None:
    assert expected == pick((95, 5), point)


def test_a_single_leg_is_always_picked() -> None:
    assert 0 == pick((0.5,), 0.99)


@given(
    st.lists(st.floats(min_value=1e-9, max_value=1e9), min_size=1, max_size=8),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_the_pick_is_always_a_leg(weights: list[float], point: float) -> None:
    """Rounding never leads past the last leg."""
    assert 0 <= pick(weights, point) < len(weights)


def test_shares_come_out_as_weighed() -> None:
    """Evenly spread points fall on the legs in proportion to their weights."""
    points = islice((index / 1000 for index in range(1000)), 1000)
    picked = [pick((1, 2, 7), point) for point in points]

    assert [100, 200, 700] == [picked.count(leg) for leg in range(3)]
