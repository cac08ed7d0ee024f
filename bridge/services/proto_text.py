"""Descriptors as the text of a .proto file, whole or one symbol of it.

In: a serialized FileDescriptorProto, and the pool that knows the extensions among its options. Out: text that protoc
reads again. Types are written by their full names with a leading dot, so each symbol can be read by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from typing import Any

from google.protobuf import descriptor_pb2, text_encoding, text_format
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    EnumValueDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from bridge.services.conflicts import default_json_name

_INDENT = "  "
_MAX_FIELD = 536_870_911
"""The highest field number. Extension ranges that reach it, or above it, end with `max`."""
_MAX_ENUM = 2_147_483_647

_Lines = Iterator[str]
_Path = tuple[int, ...]
_Field = FieldDescriptorProto

_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in _Field.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}


@dataclass(frozen=True, slots=True)
class Symbol:
    """One thing that a file defines."""

    name: str
    """In full."""
    kind: str
    """As the .proto has it: message, enum, service, rpc, field, value, extension, oneof."""
    print: Callable[[], _Lines]


def file_text(file: bytes, pool: DescriptorPool) -> str:
    """Return the .proto of a serialized FileDescriptorProto."""
    printer = _Printer(FileDescriptorProto.FromString(file), pool)
    return "\n".join(printer.file()) + "\n"


def symbol_text(file: bytes, pool: DescriptorPool, name: str) -> tuple[str, str] | None:
    """Return what kind of thing a symbol of the file is, and its text. None if the file does not define it."""
    printer = _Printer(FileDescriptorProto.FromString(file), pool)
    for symbol in printer.symbols():
        if symbol.name == name:
            return symbol.kind, "\n".join(symbol.print()) + "\n"
    return None


def symbol_names(file: bytes) -> list[str]:
    """Return the full names of all that a file defines."""
    return [symbol.name for symbol in _Printer(FileDescriptorProto.FromString(file), DescriptorPool()).symbols()]


class _Printer:
    """Prints what one file defines. A path is where a thing stands in the file, as SourceCodeInfo says it."""

    def __init__(self, file: FileDescriptorProto, pool: DescriptorPool) -> None:
        self._file = file
        self._pool = pool
        self._has_labels = file.syntax in ("", "proto2")
        self._is_edition = file.syntax == "editions"
        self._comments = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
            if location.leading_comments
        }

    # -- the symbols of the file ---------------------------------------------------------------------------------------

    def symbols(self) -> Iterator[Symbol]:
        file = self._file
        scope = file.package
        for index, message in enumerate(file.message_type):
            yield from self._symbols_of_message(message, scope, (4, index))
        for index, enum in enumerate(file.enum_type):
            yield from self._symbols_of_enum(enum, scope, (5, index))
        yield from self._symbols_of_extensions(file.extension, scope, (7,))
        for index, service in enumerate(file.service):
            yield from self._symbols_of_service(service, scope, (6, index))

    def _symbols_of_message(self, message: DescriptorProto, scope: str, path: _Path) -> Iterator[Symbol]:
        name = _full(scope, message.name)
        if message.options.map_entry:
            return
        yield Symbol(name, "message", lambda: self._message(message, path))
        for index, field in enumerate(message.field):
            yield self._symbol_of_field("field", field, name, message, (*path, 2, index))
        for index, nested in enumerate(message.nested_type):
            yield from self._symbols_of_message(nested, name, (*path, 3, index))
        for index, enum in enumerate(message.enum_type):
            yield from self._symbols_of_enum(enum, name, (*path, 4, index))
        yield from self._symbols_of_extensions(message.extension, name, (*path, 6), message)

    def _symbols_of_extensions(
        self, extensions: Iterable[_Field], scope: str, path: _Path, parent: DescriptorProto | None = None
    ) -> Iterator[Symbol]:
        for index, field in enumerate(extensions):
            yield self._symbol_of_field("extension", field, scope, parent, (*path, index))

    def _symbol_of_field(
        self, kind: str, field: _Field, scope: str, parent: DescriptorProto | None, path: _Path
    ) -> Symbol:
        if kind == "extension":
            return Symbol(_full(scope, field.name), kind, lambda: self._extensions([(field, path)], parent))
        return Symbol(_full(scope, field.name), kind, lambda: self._one_field(field, parent, path))

    def _symbols_of_enum(self, enum: EnumDescriptorProto, scope: str, path: _Path) -> Iterator[Symbol]:
        yield Symbol(_full(scope, enum.name), "enum", lambda: self._enum(enum, path))
        for index, value in enumerate(enum.value):  # the names of values stand next to the enum's
            yield self._symbol_of_value(value, scope, (*path, 2, index))

    def _symbol_of_value(self, value: EnumValueDescriptorProto, scope: str, path: _Path) -> Symbol:
        return Symbol(_full(scope, value.name), "value", lambda: self._value(value, path))

    def _symbols_of_service(self, service: ServiceDescriptorProto, scope: str, path: _Path) -> Iterator[Symbol]:
        name = _full(scope, service.name)
        yield Symbol(name, "service", lambda: self._service(service, path))
        for index, method in enumerate(service.method):
            yield self._symbol_of_method(method, name, (*path, 2, index))

    def _symbol_of_method(self, method: MethodDescriptorProto, scope: str, path: _Path) -> Symbol:
        return Symbol(_full(scope, method.name), "rpc", lambda: self._method(method, path))

    # -- the whole file ------------------------------------------------------------------------------------------------

    def file(self) -> _Lines:
        file = self._file
        if self._is_edition:
            yield f'edition = "{descriptor_pb2.Edition.Name(file.edition).removeprefix("EDITION_")}";'
        else:
            yield f'syntax = "{file.syntax or "proto2"}";'
        if file.package:
            yield f"\npackage {file.package};"
        kinds = dict.fromkeys(file.public_dependency, "public ") | dict.fromkeys(file.weak_dependency, "weak ")
        yield from self._after_blank(
            f"import {kinds.get(index, '')}{_quoted(name)};" for index, name in enumerate(file.dependency)
        )
        yield from self._after_blank(self._option_lines(file.options))
        for index, service in enumerate(file.service):
            yield from self._after_blank(self._service(service, (6, index)))
        for index, message in enumerate(file.message_type):
            if message.name not in _names_of_groups(file.extension):
                yield from self._after_blank(self._message(message, (4, index)))
        for index, enum in enumerate(file.enum_type):
            yield from self._after_blank(self._enum(enum, (5, index)))
        extensions = [(field, (7, index)) for index, field in enumerate(file.extension)]
        yield from self._after_blank(self._extensions(extensions, None))

    def _after_blank(self, lines: Iterable[str]) -> _Lines:
        for index, line in enumerate(lines):
            yield line if index else f"\n{line}"

    # -- definitions ---------------------------------------------------------------------------------------------------

    def _service(self, service: ServiceDescriptorProto, path: _Path) -> _Lines:
        body = [*self._option_lines(service.options)]
        for index, method in enumerate(service.method):
            body += self._method(method, (*path, 2, index))
        yield from self._block(f"service {service.name}", body, path)

    def _method(self, method: MethodDescriptorProto, path: _Path) -> _Lines:
        takes = f"{'stream ' if method.client_streaming else ''}{method.input_type}"
        gives = f"{'stream ' if method.server_streaming else ''}{method.output_type}"
        head = f"rpc {method.name}({takes}) returns ({gives})"
        options = [*self._option_lines(method.options)]
        if options:
            yield from self._block(head, options, path)
        else:
            yield from self._commented(path, f"{head};")

    def _message(self, message: DescriptorProto, path: _Path, head: str = "") -> _Lines:
        yield from self._block(head or f"message {message.name}", [*self._body(message, path)], path)

    def _body(self, message: DescriptorProto, path: _Path) -> _Lines:
        yield from self._option_lines(message.options)
        groups = _names_of_groups((*message.field, *message.extension))
        for index, nested in enumerate(message.nested_type):
            if not nested.options.map_entry and nested.name not in groups:
                yield from self._message(nested, (*path, 3, index))
        for index, enum in enumerate(message.enum_type):
            yield from self._enum(enum, (*path, 4, index))
        yield from self._fields(message, path)
        for extension_range in message.extension_range:
            options = self._bracketed(self._options(extension_range.options))
            yield f"extensions {_range(extension_range.start, extension_range.end - 1, _MAX_FIELD)}{options};"
        extensions = [(field, (*path, 6, index)) for index, field in enumerate(message.extension)]
        yield from self._extensions(extensions, message)
        ranges = [_range(each.start, each.end - 1, _MAX_FIELD) for each in message.reserved_range]
        yield from self._reserved(ranges, message.reserved_name)

    def _fields(self, message: DescriptorProto, path: _Path) -> _Lines:
        numbered = list(enumerate(message.field))
        for (is_in_oneof, oneof), group in groupby(numbered, key=lambda each: _oneof_of(each[1])):
            lines = [
                line
                for index, field in group
                for line in self._one_field(field, message, (*path, 2, index), is_labelled=not is_in_oneof)
            ]
            if is_in_oneof:
                declared = message.oneof_decl[oneof]
                body = [*self._option_lines(declared.options), *lines]
                yield from self._block(f"oneof {declared.name}", body, (*path, 8, oneof))
            else:
                yield from lines

    def _one_field(
        self, field: _Field, parent: DescriptorProto | None, path: _Path, *, is_labelled: bool = True
    ) -> _Lines:
        siblings = self._file.message_type if parent is None else parent.nested_type
        own = {nested.name: (index, nested) for index, nested in enumerate(siblings)}
        index, nested = own.get(field.type_name.rpartition(".")[2], (0, None))
        options = self._bracketed(self._field_options(field))
        label = self._label(field) if is_labelled else ""
        if field.type == _Field.TYPE_GROUP and nested is not None:
            inner = (*path[:-2], 3, index) if parent is not None else (4, index)
            head = f"{label}group {nested.name} = {field.number}{options}"
            yield from self._message(nested, inner, head)
            return
        is_map = nested is not None and nested.options.map_entry and field.type == _Field.TYPE_MESSAGE
        if is_map and nested is not None:
            key, value = (_type_of(each) for each in nested.field)
            kind = f"map<{key}, {value}>"
        else:
            kind = f"{label}{_type_of(field)}"
        yield from self._commented(path, f"{kind} {field.name} = {field.number}{options};")

    def _label(self, field: _Field) -> str:
        if field.label == _Field.LABEL_REPEATED:
            return "repeated "
        if self._is_edition:
            return ""
        if field.label == _Field.LABEL_REQUIRED:
            return "required "
        return "optional " if self._has_labels or field.proto3_optional else ""

    def _field_options(self, field: _Field) -> _Lines:
        if field.HasField("default_value"):
            yield f"default = {_default(field)}"
        if field.json_name and not field.extendee and field.json_name != default_json_name(field):
            yield f"json_name = {_quoted(field.json_name)}"
        yield from self._options(field.options)

    def _extensions(self, fields: Sequence[tuple[_Field, _Path]], parent: DescriptorProto | None) -> _Lines:
        for extendee, group in groupby(fields, key=lambda each: each[0].extendee):
            body = [line for field, path in group for line in self._one_field(field, parent, path)]
            yield from self._block(f"extend {extendee}", body, ())

    def _enum(self, enum: EnumDescriptorProto, path: _Path) -> _Lines:
        body = [*self._option_lines(enum.options)]
        for index, value in enumerate(enum.value):
            body += self._value(value, (*path, 2, index))
        ranges = [_range(each.start, each.end, _MAX_ENUM) for each in enum.reserved_range]
        body += self._reserved(ranges, enum.reserved_name)
        yield from self._block(f"enum {enum.name}", body, path)

    def _value(self, value: EnumValueDescriptorProto, path: _Path) -> _Lines:
        options = self._bracketed(self._options(value.options))
        yield from self._commented(path, f"{value.name} = {value.number}{options};")

    def _reserved(self, ranges: Sequence[str], names: Iterable[str]) -> _Lines:
        if ranges:
            yield f"reserved {', '.join(ranges)};"
        if shown := ", ".join(name if self._is_edition else _quoted(name) for name in names):
            yield f"reserved {shown};"

    def _block(self, head: str, body: Sequence[str], path: _Path) -> _Lines:
        if not body:
            yield from self._commented(path, f"{head} {{}}")
            return
        yield from self._commented(path, f"{head} {{")
        for line in body:
            yield f"{_INDENT}{line}"
        yield "}"

    def _commented(self, path: _Path, line: str) -> _Lines:
        for comment in self._comments.get(path, "").rstrip().splitlines():
            yield f"//{comment}" if comment.startswith(" ") or not comment else f"// {comment}"
        yield line

    # -- options -------------------------------------------------------------------------------------------------------

    def _option_lines(self, options: Message) -> _Lines:
        return (f"option {each};" for each in self._options(options))

    def _bracketed(self, options: Iterable[str]) -> str:
        joined = ", ".join(options)
        return f" [{joined}]" if joined else ""

    def _options(self, options: Message) -> _Lines:
        """Yield each option as `name = value`."""
        if not options.ByteSize():
            return
        for field, value in self._with_extensions(options).ListFields():
            name = f"(.{field.full_name})" if field.is_extension else field.name
            if name == "map_entry":
                continue
            for each in value if _is_repeated(value) else (value,):
                yield f"{name} = {self._constant(field, each)}"

    def _with_extensions(self, options: Message) -> Message:
        """Return the options as the pool knows them, because extensions are unknown fields elsewhere."""
        try:
            known = GetMessageClass(self._pool.FindMessageTypeByName(options.DESCRIPTOR.full_name))
            return known.FromString(options.SerializeToString())
        except (KeyError, DecodeError):
            return options

    def _constant(self, field: Any, value: Any) -> str:
        if isinstance(value, Message):
            text = text_format.MessageToString(value, as_one_line=True, descriptor_pool=self._pool)
            return f"{{ {text} }}" if text else "{}"
        if field.enum_type is not None:
            found = field.enum_type.values_by_number.get(value)
            return str(value) if found is None else str(found.name)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return _quoted(value)
        if isinstance(value, bytes):
            return f'"{text_encoding.CEscape(value, as_utf8=False)}"'
        if isinstance(value, float) and not isfinite(value):
            return str(value)
        return repr(value)


def _full(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name


def _type_of(field: _Field) -> str:
    return _SCALARS.get(field.type) or field.type_name


def _oneof_of(field: _Field) -> tuple[bool, int]:
    """Whether the field stands in a oneof that is written, and in which."""
    is_written = field.HasField("oneof_index") and not field.proto3_optional
    return is_written, field.oneof_index if is_written else 0


def _names_of_groups(fields: Iterable[_Field]) -> set[str]:
    """Return the types that are written where the field is."""
    return {field.type_name.rpartition(".")[2] for field in fields if field.type == _Field.TYPE_GROUP}


def _range(first: int, last: int, highest: int) -> str:
    if first == last:
        return str(first)
    return f"{first} to {'max' if last >= highest else last}"


def _default(field: _Field) -> str:
    if field.type == _Field.TYPE_STRING:
        return _quoted(field.default_value)
    if field.type == _Field.TYPE_BYTES:
        return f'"{field.default_value}"'  # escaped already
    return field.default_value


def _quoted(text: str) -> str:
    return f'"{text_encoding.CEscape(text.encode(), as_utf8=True)}"'


def _is_repeated(value: Any) -> bool:
    return hasattr(value, "extend")
