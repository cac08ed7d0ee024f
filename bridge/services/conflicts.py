"""Two sources that tell different things about one name, found for `check`.

Each source answers for its own routes, so nothing breaks in the bridge. But a client that describes both services
cannot hold both versions, and one of them is probably old.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    ServiceDescriptorProto,
)

from bridge.services.descriptors import Descriptors

_EVERYBODY_HAS_THEIR_OWN = "google.protobuf."


def conflicts(sources: Iterable[Descriptors]) -> list[tuple[str, str]]:
    """Return a sentence for each message, enum, extension or service that two of the sources define differently, after
    the name of the second source.
    """
    first: dict[str, tuple[str, bytes]] = {}
    found: list[tuple[str, str]] = []
    for source in {id(source): source for source in sources}.values():
        for symbol, definition in _definitions(source):
            name, known = first.setdefault(symbol, (source.name, definition))
            if known != definition and not symbol.startswith(_EVERYBODY_HAS_THEIR_OWN):
                told = f"{symbol} is not the same in {name} and in {source.name}: "
                found.append((source.name, told + "reflection answers with that of the route"))
    return found


def _definitions(source: Descriptors) -> Iterator[tuple[str, bytes]]:
    """Each top-level symbol, and what it says in a form that can be compared."""
    for file in source.parsed_files():
        for message in file.message_type:
            _dropdefault_json_names(message)
        prefix = f"{file.package}." if file.package else ""
        definitions: list[DescriptorProto | EnumDescriptorProto | FieldDescriptorProto | ServiceDescriptorProto] = [
            *file.message_type,
            *file.enum_type,
            *file.extension,
            *file.service,
        ]
        for definition in definitions:
            yield prefix + definition.name, definition.SerializeToString(deterministic=True)


def _dropdefault_json_names(message: DescriptorProto) -> None:
    """Drop JSON names that are the default. A FileDescriptorSet of protoc has every field's JSON name, generated code
    only the ones that were chosen.
    """
    for field in message.field:
        if field.json_name == default_json_name(field):
            field.ClearField("json_name")
    for nested in message.nested_type:
        _dropdefault_json_names(nested)


def default_json_name(field: FieldDescriptorProto) -> str:
    """Return the name in lowerCamelCase as protobuf's "ProtoJSON format" makes it: a letter after an underscore becomes
    a capital.
    """
    first, *rest = field.name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)
