"""Element: one value of the file and where it stands. YAML text in, elements out.

The tree is walked from the top, as the schema asks for keys, so aliases are never expanded. A file that multiplies
itself costs only what is read of it, and that is bounded. Scalars keep the text that the user wrote. The key decides
whether `12:30`, `on` or `0777` is a number, a word or a mistake, not
YAML 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from bridge.config.problems import ConfigErrors, Place, Problem, Refused

MAX_FILE = 1 << 20
"""Bytes of a configuration file."""

MAX_VALUES = 100_000
"""Values read from one file. An alias counts each time it is used."""

MAX_PROBLEMS = 1000
"""After so many nobody reads on, and looking for near words costs time."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_MAX_SHOWN = 100
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_VARIABLE = re.compile(
    r"""\$\$ | \$\{ (?P<name>[A-Za-z_][A-Za-z0-9_]*) (?: :- (?P<default>(?:(?!\$\{)[^}])*) )? \} | (?P<bad>\$\{)""",
    re.VERBOSE,
)


@dataclass(slots=True)
class Document:
    """What all elements of one source share."""

    file: str
    folder: Path
    """What relative paths are relative to."""
    environ: Mapping[str, str] | None
    """Fills `${…}`; None: the text stands for itself."""
    problems: list[Problem] = field(default_factory=list)
    overrides: dict[str, Element] = field(default_factory=dict)
    """What flags and variables put in the place of keys, by the keys' names in the schema."""
    values: int = 0
    filled: set[str] = field(default_factory=set, repr=False)
    """What `${…}` has brought in from the environment so far."""
    secrets: set[str] = field(default_factory=set, repr=False)
    """Those of them that stand in keys whose values are never shown."""
    named_files: set[Path] = field(default_factory=set)
    """The files and folders that have been read from it so far, there or not, but no folders of functions."""

    def literal(self, file: str, folder: Path) -> Document:
        """Return a further source that fills no variables and reports its problems with the file's."""
        return Document(file, folder, environ=None, problems=self.problems)

    def count(self, place: Place) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            message = f"more than {MAX_VALUES:,} values; an alias counts each time it is used"
            raise ConfigErrors([*self.problems, Problem.at(place, message)])

    def note(self, refused: Refused) -> None:
        self.problems.append(refused.problem)
        if len(self.problems) >= MAX_PROBLEMS:
            last = Problem(self.file, None, "", f"more than {MAX_PROBLEMS:,} problems")
            raise ConfigErrors([*self.problems, last])


@dataclass(frozen=True, slots=True)
class Element:
    """A node of the configuration's YAML with the place it came from. Its methods read it, and refuse it with that
    place.
    """

    node: yaml.Node
    place: Place
    document: Document
    is_secret: bool = False
    """Its text must not be seen in messages."""

    @classmethod
    def of_text(cls, text: str, place: Place, document: Document) -> Element:
        """Return a scalar from outside the file, as if it were written there without quotes."""
        return cls(yaml.ScalarNode("tag:yaml.org,2002:str", text), place, document)

    def refuse(self, message: str) -> Refused:
        return Refused(self.place, message)

    def hidden(self) -> Element:
        return replace(self, is_secret=True)

    @property
    def found(self) -> str:
        """How messages quote the value: as written, so that what `${…}` stood for stays unseen."""
        if self.is_list:
            return "a list"
        if self.is_mapping:
            return "a mapping"
        if self._is_written_null:
            return "null" if self.node.value else "nothing"
        return "text" if self.is_secret else f'"{shown(self.node.value)}"'

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_quoted(self) -> bool:
        """Whether it is text for YAML, too, whatever it looks like."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.style in ("'", '"')

    @property
    def is_null(self) -> bool:
        """`null`, `~` or nothing. In quotes these are text, unless a variable holds the word; an empty one does not."""
        if self._is_written_null:
            return True
        environ = self.document.environ
        is_filled = isinstance(self.node, yaml.ScalarNode) and "${" in self.node.value
        if not is_filled or environ is None:
            return False
        try:
            return (fill(self.node.value, environ) or "empty") in _NULL
        except ValueError:
            return False  # `text` says what is wrong

    @property
    def _is_written_null(self) -> bool:
        if not isinstance(self.node, yaml.ScalarNode):
            return False
        return self.node.style is None and self.node.value in _NULL

    def text(self, expected: str = "text") -> str:
        """Return the scalar's text with its variables filled in."""
        if self._is_written_null or not isinstance(self.node, yaml.ScalarNode):
            raise self.refuse(f"expected {expected}, found {self.found}")
        self._check_tag()
        text = self._fill(self.node.value)
        if _HALF_CHARACTER.search(text):
            raise self.refuse("holds half a character: a surrogate without its other half")
        return text

    def keys(self) -> dict[str, Element]:
        """Return a mapping's elements by key; none if nothing is written. What `<<` merges in stands after the
        mapping's own keys.
        """
        if self.is_null:
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            raise self.refuse(f"expected a mapping, found {self.found}")
        self._check_tag()
        elements: dict[str, Element] = {}
        merged: list[yaml.Node] = []
        for key_node, node in self.node.value:
            place = self.place.key(_shown_key(key_node), _line(key_node), _columns(key_node))
            self.document.count(place)
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.note(Refused(place, "a key must be text"))
                continue
            if _is_merge(key_node):
                merged.append(node)
                continue
            try:
                name = self._fill(key_node.value)
            except Refused as refused:
                self.document.note(Refused(place, str(refused)))
                continue
            if name in elements:
                first = elements[name].place.line
                self.document.note(Refused(place, f"written twice, first on line {first}"))
                continue
            elements[name] = replace(self, node=node, place=place)
        for node in merged:
            for name, element in self._merge(node):
                elements.setdefault(name, element)
        return elements

    def items(self) -> list[Element]:
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.refuse(f"expected a list, found {self.found}")
        self._check_tag()
        items = []
        for index, node in enumerate(self.node.value):
            place = self.place.item(index, _line(node), _columns(node))
            self.document.count(place)
            items.append(replace(self, node=node, place=place))
        return items

    def _merge(self, node: yaml.Node) -> Iterator[tuple[str, Element]]:
        """YAML 1.1's merge key: one mapping or a list of them, the first wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            self.document.count(self.place)
            element = replace(self, node=source)
            if not element.is_mapping:
                message = f"<< takes a mapping or a list of mappings, found {element.found}"
                self.document.note(self.refuse(message))
            elif any(_is_merge(key_node) for key_node, _ in source.value):
                self.document.note(self.refuse("<< takes a mapping that has no << of its own"))
            else:
                yield from element.keys().items()

    def _fill(self, text: str) -> str:
        if self.document.environ is None:
            return text
        try:
            filled = fill(text, self.document.environ)
        except ValueError as error:
            raise self.refuse(str(error)) from error
        values = values_in(text, self.document.environ)
        self.document.filled |= values
        if self.is_secret:
            self.document.secrets |= values
        return filled

    def _check_tag(self) -> None:
        if not self.node.tag.startswith("tag:yaml.org,2002:"):
            raise self.refuse(f"the tag {self.node.tag} means nothing here")


def fill(text: str, environ: Mapping[str, str]) -> str:
    """Put variables into a scalar: `${NAME}`, `${NAME:-default}` (also if NAME is empty), `$$` for `$`.

    Raises ValueError naming a variable that is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        if match["bad"]:
            raise ValueError("expected ${NAME} or ${NAME:-default}; $$ stands for $")
        name, default = match["name"], match["default"]
        if name is None:
            return "$"
        found = environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            raise ValueError(f"the variable {name} is not set; ${{{name}:-…}} would give it a default")
        return found

    return _VARIABLE.sub(value, text)


def values_in(text: str, environ: Mapping[str, str]) -> set[str]:
    """Return what the environment brings into this scalar."""
    names = [found["name"] for found in _VARIABLE.finditer(text) if found["name"]]
    return {environ[name] for name in names if environ.get(name)}


def shown(text: str) -> str:
    """Return the user's text as a message may hold it: short, on one line, without the credentials of a URL."""
    plain = _CREDENTIALS.sub("//…@", text)
    line = "".join(char if char.isprintable() else "�" for char in plain[: _MAX_SHOWN + 1])
    return line if len(line) <= _MAX_SHOWN else f"{line[:-1]}…"


def compose(text: str, document: Document) -> Element:
    """Return the file's outermost mapping. Raises ConfigErrors with the one problem that keeps it from being read."""

    def refused(line: int | None, message: str, columns: tuple[int, int] | None = None) -> ConfigErrors:
        return ConfigErrors([Problem(document.file, line, "", message, columns)])

    try:
        # Not the C loader: it is faster (1,000 services: 0.02 s against 0.2) but ends the process on deep nesting.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise refused(line, f"the character U+{error.character:04X} may not stand in YAML") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        number = mark.line + 1 if mark else None
        columns = (mark.column + 1, mark.column + 2) if mark else None
        raise refused(number, f"not YAML: {_explain(error, text)}", columns) from error
    except RecursionError as error:
        raise refused(None, "not a configuration: nested too deeply") from error
    except (ValueError, LookupError, OverflowError) as error:  # PyYAML on some escapes, directives
        raise refused(None, "not YAML: an escape or directive that cannot be read") from error
    if node is None:
        raise refused(None, "the file is empty; it needs services: and under it SERVICE: TARGET")
    if not isinstance(node, yaml.MappingNode):
        raise refused(_line(node), "expected keys at the top: listen, services, functions …")
    return Element(node, Place(document.file, _line(node)), document)


_HINTS = (
    (r"scanning an alias", r"\*", 'a key that begins with * needs quotes: "*": …'),
    (r"undefined alias", r"\*", 'text that begins with * needs quotes: "*": …'),
    (r"'\\t'", r"\t", "indent with spaces, not tabs"),
    (r"flow mapping|flow sequence", r"\$\{", 'between {} or [] a ${…} needs quotes: "${NAME}"'),
    (r"", r":\s*(?:- )?\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?:", 'an IPv6 address needs quotes: "[::1]:50051"'),
    (r"mapping values are not allowed", r":\s.*:", 'text with ": " in it needs quotes; or the indentation is off'),
    (r"cannot start any token", r"[@`%]", "text that begins with this character needs quotes"),
    (r"single document", r"", "one file is one document: remove the ---"),
    (r"<block end>|could not find expected ':'", r"", "is this line indented like its neighbours?"),
    (r"quoted scalar", r"", "is a quotation mark missing?"),
)
"""What PyYAML says, what is on the line it points at, and what is most likely meant."""


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    began, ended = error.context_mark, error.problem_mark
    since = f"from line {began.line + 1}:" if began and ended and began.line != ended.line else ""
    said = " ".join(part for part in (error.context, since, error.problem) if part)
    said = said.replace("'<stream end>'", "the end of the file")
    lines = text.splitlines()
    number = error.problem_mark.line if error.problem_mark else 0
    line = lines[number] if number < len(lines) else ""
    hint = next((hint for says, has, hint in _HINTS if re.search(says, said) and re.search(has, line)), "")
    said = " ".join(said.split())[:200]
    return f"{said} ({hint})" if hint else said


def _line(node: yaml.Node) -> int | None:
    return node.start_mark.line + 1 if node.start_mark else None


def _columns(node: yaml.Node) -> tuple[int, int] | None:
    start, end = node.start_mark, node.end_mark
    if not start or not end:
        return None
    return start.column + 1, (end.column if end.line == start.line else start.column + 1) + 1


def _shown_key(node: yaml.Node) -> str:
    return shown(node.value) if isinstance(node, yaml.ScalarNode) else "?"


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value == "<<"
