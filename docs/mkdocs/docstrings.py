"""How the site reads this project's docstrings: the paragraph of arguments becomes a section that Griffe knows.

A docstring describes arguments as lines of the form `name: text`, which further lines continue with an indent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import griffe

ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*): (?P<text>\S.*)")


def with_section(text: str, parameters: frozenset[str]) -> str:
    """Return the docstring with `Args:` above the paragraph that describes these parameters.

    An entry for several parameters becomes one entry for each of them.
    """
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if _names(line) & parameters), None)
    if first is None:
        return text
    end = next((number for number in range(first, len(lines)) if not lines[number].strip()), len(lines))
    return "\n".join([*lines[:first], "", "Args:", *_entries(lines[first:end]), "", *lines[end:]])


def _names(line: str) -> frozenset[str]:
    found = ENTRY.match(line)
    return frozenset(found["names"].split(", ")) if found else frozenset()


def _entries(lines: list[str]) -> Iterator[str]:
    starts = [number for number, line in enumerate(lines) if ENTRY.match(line)]
    for start, end in pairwise([*starts, len(lines)]):
        names, text = lines[start].split(": ", 1)
        for name in names.split(", "):
            yield f"    {name}: {text}"
            yield from (f"    {line}" for line in lines[start + 1 : end])


class Arguments(griffe.Extension):  # type: ignore[misc]  # the environment of mypy lacks Griffe
    """Applies `with_section` to every function."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Rewrite the docstring of a function that Griffe has read."""
        if func.docstring is not None:
            names = frozenset(parameter.name for parameter in func.parameters)
            func.docstring.value = with_section(func.docstring.value, names)
