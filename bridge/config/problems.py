"""What is wrong with a configuration, where, and all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is written."""

    file: str
    """The file as the user named it; or the variable or flag the value comes from."""
    line: int | None = None
    """From 1; None where lines mean nothing."""
    key_path: str = ""
    columns: tuple[int, int] | None = field(default=None, compare=False, repr=False)
    """The first column of the key in its line, from 1, and the first one after it. None where that is not known."""

    def key(self, name: str, line: int | None, columns: tuple[int, int] | None = None) -> Place:
        return Place(self.file, line, f"{self.key_path}.{name}" if self.key_path else name, columns)

    def item(self, index: int, line: int | None, columns: tuple[int, int] | None = None) -> Place:
        return Place(self.file, line, f"{self.key_path}[{index}]", columns)

    def __str__(self) -> str:
        file = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{file}: {self.key_path}" if self.key_path else file


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem to fix: `bridge.yaml:12: services.helloworld.Greeter.timout: unknown key, did you mean "timeout"?`"""

    file: str
    line: int | None
    key_path: str
    message: str
    columns: tuple[int, int] | None = field(default=None, compare=False, repr=False)
    """As those of `Place`."""

    @classmethod
    def at(cls, place: Place, message: str) -> Problem:
        return cls(place.file, place.line, place.key_path, message, place.columns)

    def __str__(self) -> str:
        return f"{Place(self.file, self.line, self.key_path)}: {self.message}"


class ConfigErrors(Exception):
    """The configuration is refused. Its text has one line for each problem, in the order of the file."""

    def __init__(self, problems: Iterable[Problem], *, named_files: Iterable[Path] = ()) -> None:
        """`named_files`: the files that the configuration names, as far as it was read."""
        self.named_files = frozenset(named_files)
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda found: found.line or 0))
        super().__init__("\n".join(map(str, self.problems)))


class Refused(Exception):
    """One value does not fit; whoever reads the key around it notes the problem and reads on."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.problem = Problem.at(place, message)


_MAX_COMPARED = 200
_MAX_LISTED = 5


def did_you_mean(name: str, known: Iterable[str], *, listed: bool = False) -> str:
    """`, did you mean "timeout"?`, or nothing if no known name is near. With `listed` the first names are told then, as
    in `; there are f, g and 3 more`.
    """
    names = list(known)
    if (meant := nearest(name, names)) is not None:
        return f', did you mean "{meant}"?'
    return _listed([word for word in names if word.isprintable()]) if listed else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one, or None if none is near."""
    plain = name.lower().replace("-", "_")
    printable = [word for word in islice(known, _MAX_COMPARED) if word.isprintable()]
    found = get_close_matches(plain, printable, n=1, cutoff=0.6)
    return found[0] if found else None


def _listed(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"; there {'are' if len(names) > 1 else 'is'} {', '.join(names[:_MAX_LISTED])}{more}"
