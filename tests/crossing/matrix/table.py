"""docs/crossings.md, made from the matrix: `python -m tests.crossing.matrix.table > docs/crossings.md`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from tests.crossing.matrix.crossings import (
    CROSSINGS,
    FUNCTIONS,
    REFUSED,
    RULES,
    SCENARIOS,
    Crossing,
    Rule,
)

HEAD = """# What crosses

This page is made from `tests/crossing/matrix/crossings.py`. CI plays each call below on each crossing below, with a
grpcio client. The client gets what a gRPC server would give it: code, message, details, metadata and messages. The
notes tell the exceptions. `-` means that there is no event.
"""

CARRIERS = {"invoke": "Invoke", "response_stream": "InvokeWithResponseStream", "http": "HTTP", "native": "gRPC"}


def lines() -> Iterator[str]:
    yield HEAD
    yield "| Payload | Event | Carrier | Who answers | Notes |"
    yield "|---|---|---|---|---|"
    notes = _notes()
    for crossing in CROSSINGS:
        numbers = [str(at) for at, rules in enumerate(notes.values(), 1) if _concerns(rules, crossing)]
        yield (
            f"| {crossing.payload} | {crossing.event} | {CARRIERS[crossing.carrier]} "
            f"| {FUNCTIONS[crossing.function]} | {', '.join(numbers)} |"
        )
    yield "\n## Notes\n\nEach note ends with the calls that it concerns.\n"
    for number, (why, rules) in enumerate(notes.items(), 1):
        yield _item(f"{number}. ", f"{why}. ({_calls(rules)})")
    yield "\n## The calls\n"
    for kind in dict.fromkeys(scenario.kind for scenario in SCENARIOS):
        names = [scenario.name for scenario in SCENARIOS if scenario.kind == kind]
        yield _item("- ", f"{kind}: {', '.join(names)}")
    yield "\n## What the configuration refuses\n"
    for told in dict.fromkeys(told for _, told in REFUSED):
        yield _item("- ", told)


def _item(mark: str, text: str) -> str:
    """Return an entry of a list, in lines of 120 columns."""
    return textwrap.fill(
        text,
        120,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _notes() -> dict[str, list[Rule]]:
    """Rules that say the same are one note; those that change nothing but a text are none."""
    notes: dict[str, list[Rule]] = {}
    for rule in RULES:
        if set(rule.change) != {"message"}:
            notes.setdefault(rule.why, []).append(rule)
    return notes


def _concerns(rules: list[Rule], crossing: Crossing) -> bool:
    return any(rule.holds(crossing, scenario) for rule in rules for scenario in SCENARIOS)


def _calls(rules: list[Rule]) -> str:
    named = {scenario.id: f"{scenario.kind}: {scenario.name}" for scenario in SCENARIOS}
    return ", ".join(sorted({named[scenario] for rule in rules for scenario in rule.scenarios}))


if __name__ == "__main__":
    print("\n".join(lines()))
