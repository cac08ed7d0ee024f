"""Writes docs/configuration.md: every key of the configuration, from the schema and config.example.yaml.

    python -m docs.mkdocs.configuration > docs/configuration.md

The keys, their values and the targets on which they work come from the schema. Defaults and meanings come from the
example, whose tests keep it true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.aws.arn import FunctionName
from bridge.config.json_schema import json_schema
from bridge.config.reading import Plan
from bridge.config.reload import NEEDS_RESTART
from bridge.config.schema import Defaults, TargetShare
from bridge.config.target import Can, GrpcTargetSpec, HttpTargetSpec, LambdaTargetSpec, LocalTarget, TargetKind
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.url import Origin, Url

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"

GROUPS: Mapping[str, Sequence[str]] = {
    "Where it listens": ("listen", "admin", "emulator", "duplex"),
    "The process": ("workers", "drain", "drain_delay", "buffers", "reflection", "health", "log"),
    "Clients' connections": ("http2", "max_connections"),
    "AWS": ("aws",),
}
"""Top-level keys by heading. The others have a heading of their own."""

TARGETS: Mapping[str, TargetKind] = {
    "Lambda": LambdaTargetSpec(FunctionName.from_name("f")),
    "`local:`": LocalTarget("f"),
    "`https://`": HttpTargetSpec(Url(Origin("https", "h", 443))),
    "`http://`": HttpTargetSpec(Url(Origin("http", "h", 80))),
    "`grpcs://`": GrpcTargetSpec(TcpAddress("h", 443), tls=True),
    "`grpc://`": GrpcTargetSpec(TcpAddress("h", 80)),
    "`unix:`": GrpcTargetSpec(UnixAddress(Path("s"))),
}

ENTRY = "*"
"""Stands in a path for the name of an entry."""
NAMED = {("services",), ("functions",), ("services", ENTRY, "split")}
"""The mappings whose keys are names."""

DURATION = "^([0-9.]+(h|m|s|ms))+$"
SIZE = "^[0-9.]+ ?(TiB|GiB|MiB|KiB|B)$"

HEAD = """\
# Configuration

This page has every key. It is made from the schema and from [config.example.yaml](../config.example.yaml), which shows
each key in its place. `grpc-lambda-bridge check` reports all problems of a file together. Editors complete keys and
mark mistakes with [bridge.schema.json](bridge.schema.json): write
`# yaml-language-server: $schema=PATH` as the first line of the file.

- **Durations** are written `250ms`, `5s`, `2m`, `1h` or `1m30s`. **Sizes** are written `512B`, `64KiB`, `4MiB`.
  **Percentages** are written `20%`.
- **Paths** are relative to the file.
- **Variables.** `${VAR}` and `${VAR:-default}` take a value from the environment, in every text. `$$` is a `$`.
- **Precedence.** A flag replaces a variable, and a variable replaces the file. The variables are `BRIDGE_CONFIG`,
  `BRIDGE_LISTEN`, `BRIDGE_ADMIN`, `BRIDGE_WORKERS`, `BRIDGE_LOG_LEVEL` and `BRIDGE_LOG_FORMAT`.
- **Reload.** SIGHUP reads the file again. So does `serve --watch`, when the content of the file changes, or of a
  certificate, a descriptor set or a folder of .proto that it names, or of AWS's own files if `aws.profile` or a
  variable chooses them. Keys that are marked *restart* need a restart. All others hold for calls that begin after the
  reload. Files of certificates are read again when they change.
"""

SERVICES = """\
## services

A key is `package.Service`, `package.Service/Method`, `package.*` or `"*"`. The most specific key wins: one method, one
service, the longest prefix, `"*"`. The value is a target, `null` (calls end UNIMPLEMENTED), or a mapping with the keys
below.

A target is `arn:…[:QUALIFIER]`, `function:NAME[:QUALIFIER]`, `http://HOST/PREFIX`, `https://HOST/PREFIX`,
`grpc://HOST:PORT`, `grpcs://HOST:PORT`, `unix:PATH` or `local:NAME`.

The keys below except `target` and `split` may also stand under `defaults`, for all services. A method inherits each key
from the entry of its service. If the method has its own target, it inherits only timeout, limits, retry, `throttled_as`
and `descriptors`.
"""

FUNCTIONS = """\
## functions

Each entry is a function that [the local Lambda](local-lambda.md) runs. Its name is the key.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What the example says about a key."""

    value: str
    comment: str
    is_used: bool
    """Whether the line is in force, and not an example."""


def example_lines(text: str) -> dict[str, Line]:
    """Return what the example says of each key, by dotted name. Names of services and functions are left out."""
    used = [not re.match(r"#(?! [^ ]|$)", line) for line in text.splitlines()]
    whole = re.sub(r"^#(?! [^ ]|$)", "", text, flags=re.MULTILINE)
    rows = whole.splitlines()
    found: dict[str, Line] = {}
    tree = yaml.compose(whole)
    assert tree is not None
    for name, key, value in _keys(tree, ()):
        line = key.start_mark.line
        is_block = value.start_mark.line != line
        written = "" if is_block else whole[value.start_mark.index : value.end_mark.index]
        is_alone = rows[line].lstrip(" -").startswith(key.value)
        comment = _comment(rows, line) if is_alone else ""
        found.setdefault(name, Line(written, comment, used[line]))
    return found


def _keys(node: yaml.Node, path: tuple[str, ...]) -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node]]:
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _keys(each, path)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            is_name = path in NAMED
            inner = (*path, ENTRY if is_name else key.value)
            if not is_name:
                yield ".".join(part for part in inner if part != ENTRY), key, value
            yield from _keys(value, inner)


def _comment(rows: Sequence[str], line: int) -> str:
    """Return the comment behind a key, with the lines below that continue it."""
    begun = re.search(r"(?<=\s)# (.*)", rows[line])
    if begun is None:
        return ""
    parts = [begun[1]]
    for row in rows[line + 1 :]:
        continued = re.fullmatch(r" {20,}# (.*)", row)
        if continued is None:
            break
        parts.append(continued[1])
    return " ".join(parts)


# -- values in words ---------------------------------------------------------------------------------------------------


def in_words(shape: Mapping[str, Any]) -> str:
    """Say which values a key takes."""
    return " or ".join(dict.fromkeys(_words(shape)))


def _words(shape: Mapping[str, Any]) -> Iterator[str]:
    if "anyOf" in shape:
        for each in shape["anyOf"]:
            yield from () if _is_variable(each) else _words(each)
    elif "enum" in shape:
        values = shape["enum"]
        yield from ("true", "false") if True in values else (f"`{value}`" for value in values)
    elif shape.get("pattern") == DURATION:
        yield "duration"
    elif shape.get("pattern") == SIZE:
        yield "size"
    elif "%" in shape.get("pattern", ""):
        yield "percentage"
    elif shape.get("type") in ("integer", "number"):
        least, most = shape.get("minimum"), shape.get("maximum")
        yield "number" if most is None else f"{least:,} to {most:,}"
    elif shape.get("type") == "array":
        yield "list"
    elif shape.get("type") == "null":
        yield "null"
    elif "object" in shape.get("type", ""):
        yield "mapping"
    else:
        yield "text"


def _is_variable(shape: Mapping[str, Any]) -> bool:
    return shape.get("pattern") == r"\$\{"


def mappings(shape: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings that a key takes, also as the items of a list."""
    if "properties" in shape:
        yield shape
    for each in shape.get("anyOf", ()):
        yield from mappings(each)
    if "items" in shape:
        yield from mappings(shape["items"])


# -- the page ----------------------------------------------------------------------------------------------------------


class Writer:
    """Writes the rows of tables."""

    def __init__(self, lines: Mapping[str, Line]) -> None:
        self._lines = lines
        self._slots = {**Plan.of(Defaults).slots, **Plan.of(TargetShare).slots}

    def rows(self, names: Sequence[str], shapes: Mapping[str, Any], *, at: str = "") -> Iterator[str]:
        """Yield a row for each key and for those inside it. `at` is where the example shows them."""
        for name in names:
            yield from self._rows(name, shapes[name], at, is_needed=False)

    def _rows(self, name: str, shape: Mapping[str, Any], at: str, *, is_needed: bool) -> Iterator[str]:
        inner = {key: (each, whole) for whole in mappings(shape) for key, each in whole["properties"].items()}
        words = in_words(shape)
        if words != "mapping" or self._line(name, at).comment or not inner or name in NEEDS_RESTART:
            yield f"| {self._cells(name, words, at, is_needed=is_needed)} |"
        for key, (each, whole) in inner.items():
            yield from self._rows(f"{name}.{key}", each, at, is_needed=key in whole.get("required", ()))

    def _line(self, name: str, at: str) -> Line:
        nothing = Line("", "", is_used=False)
        places = [f"{place}.{name}".strip(".") for place in (at, "services")] if at else [name]
        found = [self._lines[place] for place in places if place in self._lines]
        return next((line for line in found if line.comment), found[0] if found else nothing)

    def _cells(self, name: str, words: str, at: str, *, is_needed: bool) -> str:
        line = self._line(name, at)
        can_be_null = "null" in words.split(" or ")
        is_default = line.is_used and line.value and not (at == "functions" and can_be_null)
        default = "required" if is_needed else f"`{line.value}`" if is_default else "`null`" if can_be_null else ""
        marks = ["*restart*"] if not at and name in NEEDS_RESTART else []
        values = [value.strip("`") for value in words.split(" or ")]
        comment = "" if line.comment.split(" | ") == values else line.comment.replace("*", r"\*")
        cells = [f"`{name}`", words, default, ". ".join(part for part in (comment, *marks) if part)]
        if at == "defaults":
            cells.append(self._works_on(name))
        return " | ".join(cell.replace("|", "/") for cell in cells)

    def _works_on(self, name: str) -> str:
        """Name the targets. A key inside another one works where that works."""
        top = name.partition(".")[0]
        slot = self._slots.get(name) or next(slot for key, slot in self._slots.items() if key.partition(".")[0] == top)
        needed = {trait for trait in slot.traits if isinstance(trait, Can)}
        names = [text for text, target in TARGETS.items() if needed <= target.can]
        return "all" if len(names) == len(TARGETS) else ", ".join(names)


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    shapes = json_schema()["properties"]
    write = Writer(example_lines(EXAMPLE.read_text()))
    yield HEAD
    named = {name for names in GROUPS.values() for name in names} | {"services", "defaults", "functions"}
    others = {"Other keys": [name for name in shapes if name not in named]}
    for heading, names in {**GROUPS, **others}.items():
        if names:
            yield f"## {heading}\n"
            yield "| Key | Value | Default | Meaning |\n|---|---|---|---|"
            yield from write.rows(names, shapes)
            yield ""
    yield SERVICES
    yield "| Key | Value | Default | Meaning | Works on |\n|---|---|---|---|---|"
    entry = next(mappings(shapes["services"]["anyOf"][0]["additionalProperties"]))["properties"]
    yield "| `target` | text or null | | where the calls go | |"
    yield "| `split` | mapping | | targets by weight: a number, or `weight` and keys that say how to speak to it | |"
    yield from write.rows([name for name in entry if name not in ("target", "split")], entry, at="defaults")
    yield ""
    yield FUNCTIONS
    yield "| Key | Value | Default | Meaning |\n|---|---|---|---|"
    function = next(mappings(shapes["functions"]["anyOf"][0]["additionalProperties"]))["properties"]
    yield from write.rows(list(function), function, at="functions")


if __name__ == "__main__":
    print("\n".join(page()))
