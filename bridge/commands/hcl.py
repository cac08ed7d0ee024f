"""Writes Terraform's language (HCL), laid out as `terraform fmt` does. Only what `iam` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

_is_identifier = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*").fullmatch

_STEP = "  "


class Expression(str):
    """Text that is printed as it is, where a value may stand. Later lines are indented with the first one."""

    __slots__ = ()

    @classmethod
    def call(cls, function: str, argument: object, meanings: Mapping[str, str]) -> Expression:
        """Return the call of a function with a value. Each key of `meanings` in its texts becomes this expression."""
        text = _value(argument)
        for part, meant in meanings.items():
            text = text.replace(part, meant)
        return cls(f"{function}({text})")


def block(words: Sequence[str], attributes: Mapping[str, object]) -> str:
    """Write a block: its words (the first is its type, the others are labels) and its attributes."""
    head = " ".join((words[0], *map(_quoted, words[1:])))
    if not attributes:
        return f"{head} {{}}\n"
    return f"{head} {_object(attributes)}\n"


def _value(value: object) -> str:
    match value:
        case Expression():
            return str(value)
        case str():
            return _quoted(value)
        case Mapping():
            return _object(value)
        case [str()] | []:
            return f"[{', '.join(map(_value, value))}]"
        case list() | tuple():
            return _indented("[", (f"{_value(one)}," for one in value), "]")
        case _:
            raise TypeError(f"{type(value).__name__} has no form here")


def _object(entries: Mapping[str, object]) -> str:
    return _indented("{", _attributes(entries), "}")


def _attributes(entries: Mapping[str, object]) -> Iterator[str]:
    """Neighbours of one line each have their signs below each other."""
    run: list[tuple[str, str]] = []
    for key, value in entries.items():
        name, text = key if _is_identifier(key) else _quoted(key), _value(value)
        if "\n" in text:
            yield from _aligned(run)
            run = []
            yield f"{name} = {text}"
        else:
            run.append((name, text))
    yield from _aligned(run)


def _aligned(run: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max((len(name) for name, _ in run), default=0)
    return (f"{name.ljust(width)} = {text}" for name, text in run)


def _indented(opening: str, parts: Iterator[str], closing: str) -> str:
    lines = "\n".join(parts).split("\n")
    return "\n".join((opening, *(f"{_STEP}{line}" for line in lines), closing))


def _quoted(text: str) -> str:
    """Nothing in the text is an expression."""
    return json.dumps(text, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
