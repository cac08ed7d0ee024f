"""What follows from a figure's declaration: its sum, what a process that has ended leaves of it, a copy of it."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from bridge.rpc.families import Family, Figures, Histogram, families_of


class Loaves(Figures):
    shop: str = ""
    baked: Annotated[int, Family("loaves_baked", "Loaves baked.")] = 0
    warm: Annotated[int, Family("loaves_warm", "Loaves still warm.", is_gauge=True)] = 0
    oldest: Annotated[float | None, Family("loaves_oldest", "Oldest.", is_gauge=True, choose=min)] = None
    by_kind: Annotated[dict[str, int], Family("loaves_kinds", "By kind.", "kind")] = field(default_factory=dict)
    weights: Annotated[Histogram, Family("loaves_weights", "Weights.")] = field(
        default_factory=lambda: Histogram((1.0, 2.0))
    )


class Town(Figures):
    shops: dict[str, Loaves] = field(default_factory=dict)


def loaves() -> Loaves:
    found = Loaves("corner", baked=3, warm=2, oldest=5.0, by_kind={"rye": 3})
    found.weights.observe([0.5, 1.5, 9.0])
    return found


def test_families_are_the_declared_fields() -> None:
    """In order, under the field's name; a plain field has none."""
    found = families_of(Loaves)

    assert ["baked", "warm", "oldest", "by_kind", "weights"] == list(found)
    assert "loaves_kinds" == found["by_kind"].name


def test_each_kind_of_value_adds_up() -> None:
    """Numbers, counts by name and histograms are summed, a chosen value is chosen, a name stays."""
    total, other = loaves(), loaves()
    other.oldest, other.by_kind = 4.0, {"rye": 1, "oat": 2}
    total.add(other)

    assert ("corner", 6, 4, 4.0) == (total.shop, total.baked, total.warm, total.oldest)
    assert {"rye": 4, "oat": 2} == total.by_kind
    assert ([2, 2, 2], 22.0) == (total.weights.counts, total.weights.total)


def test_what_one_does_not_know_is_taken_from_the_other() -> None:
    """In both directions, nested ones included."""
    unknown, known = loaves(), loaves()
    unknown.oldest = None
    town = Town({"a": unknown})
    town.add(Town({"a": known, "b": loaves()}))
    known.add(Loaves())

    assert 5.0 == town.shops["a"].oldest == known.oldest
    assert {"a", "b"} == set(town.shops)


def test_what_ended_leaves_counts_and_no_gauges() -> None:
    """Inside of others too; the figures that were asked stay as they are."""
    town = Town({"a": loaves()})
    left = town.counts().shops["a"]

    assert (3, 0, None) == (left.baked, left.warm, left.oldest)
    assert ({"rye": 3}, 3) == (left.by_kind, left.weights.count)
    assert loaves() == town.shops["a"]


def test_a_taken_copy_does_not_change() -> None:
    """Not even what lies in its containers."""
    counted = loaves()
    taken = counted.taken(Loaves, warm=9)
    counted.baked += 1
    counted.by_kind["rye"] += 1
    counted.weights.observe([0.1])

    assert (3, 9) == (taken.baked, taken.warm)
    assert ({"rye": 3}, 3) == (taken.by_kind, taken.weights.count)
