"""What all figures have in common: how those of several processes add up, and what /metrics calls each of them.

A metric is declared once, as a field of a `Figures` class: `started: Annotated[int, Family("name", "What it counts.")]
= 0`. Adding up, what stays of a process that has ended, and the export all follow from that declaration.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import cache
from typing import Any, Self, TypeVar, get_type_hints

from msgspec import Struct, field

from bridge.rpc.spread import Spread
from bridge.rpc.value import FrozenValue


class Family(FrozenValue, frozen=True):
    """A metric family, as Prometheus names it. docs/metrics.md says what each one means."""

    name: str
    """Without the `_total` that counters get when they are scraped."""
    text: str
    label: str = ""
    """What tells the counts of one field apart; empty for a number and for a histogram."""
    is_gauge: bool = False
    """Whether the value is what a process holds now. A process that has ended holds nothing; what it counted stays."""
    choose: Callable[[float, float], float] | None = None
    """Which of two processes' values counts; None: their sum."""


class Histogram(Struct):
    """How many values lie below which bound."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    """Not cumulative: one count for each bound, one for what lies above them all."""
    total: float = 0.0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)

    def __add__(self, other: Histogram) -> Histogram:
        """Both together. The other has the same bounds: both come from the same code."""
        counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        return Histogram(self.bounds, counts, self.total + other.total)

    def observe(self, values: Iterable[float]) -> None:
        """Count these values. A bound holds what is equal to it."""
        rising = sorted(values)
        self.total += sum(rising)
        counted = 0
        for place, bound in enumerate(self.bounds):
            if counted == len(rising):
                return
            below = bisect_right(rising, bound)
            self.counts[place] += below - counted
            counted = below
        self.counts[-1] += len(rising) - counted

    @property
    def count(self) -> int:
        return sum(self.counts)

    def copy(self) -> Histogram:
        return Histogram(self.bounds, self.counts.copy(), self.total)


F = TypeVar("F", bound="Figures")


class Figures(Struct):
    """Values that travel between processes and add up. None: not known."""

    def add(self, other: Self) -> None:
        """Take in another process's figures. What only that one has (a method, say) belongs to this one then."""
        families = families_of(type(self))
        for name in self.__struct_fields__:
            theirs = getattr(other, name)
            if theirs is not None:
                family = families.get(name)
                own = getattr(self, name)
                setattr(self, name, _together(own, theirs, family.choose if family else None))

    def taken(self, kind: type[F], **read: object) -> F:
        """Return these figures as they are now, as a `kind`, which changes no more when they do. `read`: the fields
        that only `kind` has.
        """
        values = {}
        for name in kind.__struct_fields__:
            if name not in read:
                value = getattr(self, name)
                is_shared = isinstance(value, (list, dict, Histogram, Spread))
                values[name] = value.copy() if is_shared else value
        return kind(**values, **read)

    def counts(self) -> Self:
        """Return what still counts when the process has ended: what it did, and nothing that it held."""
        left = copy(self)
        families = families_of(type(self))
        defaults = type(self)()
        for name in self.__struct_fields__:
            source = defaults if name in families and families[name].is_gauge else self
            setattr(left, name, _counts_in(getattr(source, name)))
        return left


@cache
def families_of(kind: type[Figures]) -> Mapping[str, Family]:
    """Return the families that this class declares, by field, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: note
        for name in kind.__struct_fields__
        for note in getattr(hints[name], "__metadata__", ())
        if isinstance(note, Family)
    }


def _together(one: Any, other: Any, choose: Callable[[float, float], float] | None) -> Any:
    if one is None:
        return other
    if choose is not None:
        return choose(one, other)
    match one:
        case str():
            return one
        case Figures():
            one.add(other)
            return one
        case dict():
            for key, value in other.items():
                one[key] = _together(one.get(key), value, None)
            return one
        case list():
            return [ours + theirs for ours, theirs in zip(one, other, strict=True)]
        case _:
            return one + other


def _counts_in(value: Any) -> Any:
    match value:
        case Figures():
            return value.counts()
        case dict():
            return {key: _counts_in(each) for key, each in value.items()}
        case _:
            return value
