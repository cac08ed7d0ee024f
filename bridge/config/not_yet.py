"""What the design allows and this version does not do: read and checked like everything else, then refused by name.

A feature that lands deletes its lines here, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bridge.config.problems import Place, Problem


@dataclass(frozen=True, slots=True)
class NotYet:
    key: str
    """The key's name in the schema; the keys of a service and of `defaults` are `services.…`."""
    is_meant: Callable[[object], bool]
    """Whether this value asks for the feature."""
    what: str


def equal(value: object) -> Callable[[object], bool]:
    return lambda found: found == value


def unlike(default: object) -> Callable[[object], bool]:
    return lambda found: found != default


NOT_YET: tuple[NotYet, ...] = ()


def not_yet(
    read: Iterable[tuple[str, object, Place]], table: Iterable[NotYet]
) -> Iterator[Problem]:
    """A problem for each value read that asks for something in the table."""
    rows: dict[str, list[NotYet]] = {}
    for row in table:
        rows.setdefault(row.key, []).append(row)
    for key, value, place in read:
        for row in rows.get(key, ()):
            if row.is_meant(value):
                yield Problem.at(place, f"not yet: {row.what}")
