"""The request messages of `call`: JSON from the command line, a file or standard input, which is read as it comes."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bridge.commands.failure import CommandFailed
from bridge.config.problems import did_you_mean
from bridge.services import protojson

_PIECE = 64 << 10
_MAX_DOCUMENT = 256 << 20
"""Characters of one JSON document. A message that is larger than this does not travel anyway."""

_STDIN = ("@", "-", "@-")


class JsonSplitter:
    """Cuts text into the JSON values that stand in it one after the other. What a value means is not looked at."""

    _OUTSIDE = re.compile(r'["{}\[\]\s]')
    _IN_STRING = re.compile(r'["\\]')

    def __init__(self) -> None:
        self._text = ""
        """From the beginning of the value that is not complete."""
        self._at = 0
        """Up to here `_text` has been looked at."""
        self._depth = 0
        self._is_in_string = False

    def feed(self, text: str) -> Iterator[str]:
        """Take more text, and yield the values that it completes."""
        self._text += text
        if len(self._text) > _MAX_DOCUMENT:
            raise CommandFailed(f"a message has more than {_MAX_DOCUMENT:,} characters of JSON", exit_code=2)
        while (end := self._next_end()) is not None:
            value, self._text, self._at = self._text[:end].strip(), self._text[end:], 0
            if value:
                yield value

    def finish(self) -> Iterator[str]:
        """Yield what is left: a number or a word at the end, or a value that is cut off."""
        if self._text.strip():
            yield self._text.strip()
        self._text = ""

    def _next_end(self) -> int | None:
        """Return where the first value ends, or None if it is not complete."""
        while True:
            found = (self._IN_STRING if self._is_in_string else self._OUTSIDE).search(self._text, self._at)
            if found is None:
                self._at = len(self._text)
                return None
            char, start, self._at = found[0], found.start(), found.end()
            if self._is_in_string:
                if char == "\\":
                    if self._at == len(self._text):
                        self._at = start  # what is escaped has not come yet
                        return None
                    self._at += 1
                    continue
                self._is_in_string = False
            elif char == '"':
                if not self._depth and self._text[:start].strip():
                    return start  # a number or word ends here, too
                self._is_in_string = True
                self._at = start + 1
                continue
            elif char in "{[":
                if not self._depth and self._text[:start].strip():
                    return start
                self._depth += 1
                continue
            elif char in "}]":
                self._depth = max(0, self._depth - 1)
            elif self._depth or not self._text[:start].strip():
                continue  # white space inside or before a value
            if not self._depth:
                return self._at


def is_stdin(data: str) -> bool:
    """Whether the value of -d means standard input."""
    return data in _STDIN


def documents_in(data: str) -> Iterable[str]:
    """Return the JSON documents of `-d`: text, `@FILE`, or `@` for standard input. Raises CommandFailed."""
    if is_stdin(data):
        return _documents_of_stdin()
    if data.startswith("@"):
        return split(_text_of(Path(data[1:])))
    return split(data)


def split(text: str) -> Iterator[str]:
    """Yield the JSON values of a text."""
    splitter = JsonSplitter()
    yield from splitter.feed(text)
    yield from splitter.finish()


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise CommandFailed(f"-d @{path} cannot be read: {error.strerror}", exit_code=2) from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"-d @{path} is not UTF-8 text", exit_code=2) from error


def _documents_of_stdin() -> Iterator[str]:
    """Yield each document when its last byte has been read, not when a buffer is full."""
    splitter = JsonSplitter()
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while data := os.read(0, _PIECE):
            yield from splitter.feed(decoder.decode(data))
        yield from splitter.feed(decoder.decode(b"", final=True))
    except UnicodeDecodeError as error:
        raise CommandFailed("standard input is not UTF-8 text", exit_code=2) from error
    yield from splitter.finish()


def requests_in(documents: Iterable[str], method: MethodDescriptor) -> Iterator[Message]:
    """Yield each document as a request message of the method. Raises CommandFailed if one cannot be."""
    message_class, reader = GetMessageClass(method.input_type), protojson.Reader()
    for document in documents:
        try:
            message = message_class()
            reader.fill(message, protojson.loads(document.encode()), ignore_unknown=False)
        except (ValueError, RecursionError) as error:
            path = getattr(error, "path", "")
            place = f" (at {path})" if path else ""
            reason = _unknown_field(document, method.input_type) or error
            raise CommandFailed(
                f"{document[:60]!r} is not a {method.input_type.full_name} in JSON{place}: {reason}",
                exit_code=2,
            ) from error
        yield message


def _unknown_field(document: str, kind: Descriptor) -> str | None:
    """Return a text about the first name that is no field, and which one may be meant. None: all names are fields."""
    try:
        return next(_unknown_fields(json.loads(document), kind), None)
    except (ValueError, RecursionError):
        return None


def _unknown_fields(value: object, kind: Descriptor) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _unknown_fields(item, kind)
    if not isinstance(value, dict) or kind.full_name.startswith("google.protobuf."):
        return
    fields = {name: field for field in kind.fields for name in (field.json_name, field.name)}
    for name, inner in value.items():
        field = fields.get(name)
        if field is not None and field.message_type is not None:
            yield from _unknown_in(field, inner)
        elif field is None and not name.startswith("["):  # such is the name of an extension
            meant = did_you_mean(name, [each.json_name for each in kind.fields], listed=True)
            yield f'{kind.full_name} has no field named "{name[:60]}"{meant}'


def _unknown_in(field: FieldDescriptor, value: object) -> Iterator[str]:
    kind = field.message_type
    assert kind is not None
    if not kind.GetOptions().map_entry:
        yield from _unknown_fields(value, kind)
    elif isinstance(value, dict) and (of_values := kind.fields_by_name["value"].message_type) is not None:
        yield from _unknown_fields([*value.values()], of_values)


def only_request(requests: Iterable[Message], method: MethodDescriptor) -> Message:
    """Return the request of a method that takes one; without one, an empty message. Raises CommandFailed."""
    found = list(_first_two(requests))
    if len(found) > 1:
        raise CommandFailed(
            f"{method.full_name} takes one message, and several are given; only a method with a request stream"
            " takes more",
            exit_code=2,
        )
    return found[0] if found else GetMessageClass(method.input_type)()


def _first_two(requests: Iterable[Message]) -> Iterator[Message]:
    for index, request in enumerate(requests):
        yield request
        if index:
            return
