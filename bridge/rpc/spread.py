"""Spread: how values are spread out, in little memory. Each quantile is a value that really occurred.

Values within 5 % of each other share a bucket. A bucket knows how many values it has and the largest of them. So a
quantile is at most 5 % above the exact one, and never a number that nobody measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log

from msgspec import Struct, field

_WIDTH = log(1.05)
_LEAST = 1e-6
"""Values below this share one bucket. In seconds it is a microsecond. From here to a day there are 517 buckets."""


class Spread(Struct):
    """Values of one kind. Several add up, also those of several processes."""

    counts: dict[int, int] = field(default_factory=dict)
    """By bucket."""
    largest: dict[int, float] = field(default_factory=dict)
    """By bucket, the largest value in it."""

    def __add__(self, other: Spread) -> Spread:
        whole = self.copy()
        whole.add(other)
        return whole

    def add(self, other: Spread) -> None:
        """Take in another one's values."""
        counts, largest, theirs = self.counts, self.largest, other.largest
        for bucket, count in other.counts.items():
            if bucket in counts:
                counts[bucket] += count
                largest[bucket] = max(largest[bucket], theirs[bucket])
            else:
                counts[bucket], largest[bucket] = count, theirs[bucket]

    def observe(self, values: Iterable[float]) -> None:
        """Count these values."""
        counts, largest = self.counts, self.largest
        for value in values:
            bucket = round(log(max(value, _LEAST)) / _WIDTH)
            counts[bucket] = counts.get(bucket, 0) + 1
            if value > largest.get(bucket, -1.0):
                largest[bucket] = value

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def copy(self) -> Spread:
        return Spread(self.counts.copy(), self.largest.copy())

    def quantiles(self, parts: Iterable[float]) -> list[float] | None:
        """Return for each part (0 to 1, rising) the value that so many of all do not exceed. None without any value."""
        if not self.counts:
            return None
        whole, rising = self.count, sorted(self.counts)
        found: list[float] = []
        place, below = 0, self.counts[rising[0]]
        for part in parts:
            rank = max(1, ceil(part * whole))
            while below < rank:
                place += 1
                below += self.counts[rising[place]]
            found.append(self.largest[rising[place]])
        return found
