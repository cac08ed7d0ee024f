"""A Snapshot as tables: each declared metric with the label values and the value of each of its rows.

What is scraped and what is exported are both made of these tables. They know no metric by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bridge.admin.snapshot import ProcessSnapshot, Snapshot, TargetSnapshot
from bridge.rpc.families import Family, Figures, Histogram, families_of
from bridge.rpc.figures import Counts, MethodCounts
from bridge.rpc.recent import Exemplar
from bridge.rpc.status import CAMEL_CASE_NAMES, OK
from bridge.rpc.value import FrozenValue

Labels = tuple[str, ...]

_METHOD_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_NO_EXEMPLARS: Mapping[str, Exemplar] = {}


class Number(FrozenValue, frozen=True):
    """A value of a counter or a gauge."""

    labels: Labels
    value: float
    exemplar: Exemplar | None


class Distribution(FrozenValue, frozen=True):
    """A value of a histogram."""

    labels: Labels
    value: Histogram
    exemplars: Mapping[str, Exemplar]
    """By the bucket's place."""


class Numbers(FrozenValue, frozen=True):
    """A counter or a gauge."""

    family: Family
    labels: Labels
    """Names, in the order of the rows' label values."""
    rows: Sequence[Number]


class Distributions(FrozenValue, frozen=True):
    """A histogram."""

    family: Family
    labels: Labels
    """Names, in the order of the rows' label values."""
    rows: Sequence[Distribution]


def tables_of(snapshot: Snapshot) -> Iterator[Numbers | Distributions]:
    """Return the metrics of a snapshot, without those whose value nobody knows."""
    methods = [((each.kind, each.service, each.method), each) for each in snapshot.methods.values()]
    targets = [((name,), each) for name, each in snapshot.targets.items()]
    exemplars: _Exemplars = {
        (name, (each.kind, each.service, each.method)): found[path]
        for name, found in (("seconds", snapshot.slow_exemplars), ("handled", snapshot.failure_exemplars))
        for path, each in snapshot.methods.items()
        if path in found
    }
    yield from _tables(MethodCounts, _METHOD_LABELS, methods, exemplars)
    yield from _tables(TargetSnapshot, ("target",), targets, {})
    yield from _tables(Snapshot, (), [((), snapshot)], {})
    yield from _tables(ProcessSnapshot, (), [((), snapshot.process)], {})


_Exemplars = Mapping[tuple[str, Labels], Mapping[str, Exemplar]]
"""By field and label values, then by bucket or by the entry of a counter."""


def _tables(
    kind: type[Figures], labels: Labels, figures: Sequence[tuple[Labels, Figures]], exemplars: _Exemplars
) -> Iterator[Numbers | Distributions]:
    empty = kind()
    for field, family in families_of(kind).items():
        values = [(of, value) for of, each in figures if (value := getattr(each, field)) is not None]
        if not values and figures:
            continue
        found = {of: exemplars.get((field, of), _NO_EXEMPLARS) for of, _ in values}
        if isinstance(getattr(empty, field), Histogram):
            yield Distributions(family, labels, [Distribution(of, value, found[of]) for of, value in values])
        elif not family.label:
            yield Numbers(family, labels, [Number(of, value, None) for of, value in values])
        else:
            rows = [
                Number((*of, entry), count, found[of].get(entry))
                for of, value in values
                for entry, count in (_by_code(value) if isinstance(value, list) else value).items()
            ]
            yield Numbers(family, (*labels, family.label), rows)


def _by_code(handled: list[int]) -> Counts:
    """Return the codes that occurred, and OK from the start, so that a rate of errors has something to be a part of."""
    return {CAMEL_CASE_NAMES[code]: count for code, count in enumerate(handled) if count or code == OK.code}
