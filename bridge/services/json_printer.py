"""Prints a message as JSON piece by piece. Apart from the message, one slice and the text so far are held, and both are
bounded.

json_format makes a tree of Python objects of the whole message, which takes thirty times the memory. Here it prints
slices: a message that is small, or a few elements of a large field, which are copied into an empty message of the same
type. What is written between the slices is the mapping of https://protobuf.dev/programming-guides/json/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from msgspec.json import Encoder

from bridge.rpc.errors import MessageTooLarge
from bridge.services.json_cost import JsonCosts, json_shape_of

SLICE = 2000.0
"""Microseconds that a slice takes to print, as JsonCosts estimates them."""

_SMALLEST = {"scalars": 2, "messages": 3, "scalar_map": 5, "message_map": 5}
"""Bytes that an element takes at least, comma included."""

_SPECIAL = frozenset(
    "google.protobuf." + name
    for name in (
        *("Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value"),
        *("BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value"),
        *("StringValue", "UInt32Value", "UInt64Value"),
    )
)
"""Types whose JSON is not an object of their fields: in an Any it stands under `value`."""

_encode = Encoder().encode

Mapped = Callable[[Message], Any]
"""From a message to the JSON value that json_format makes of it."""


class JsonPrinter:
    """Prints messages of one pool."""

    def __init__(
        self,
        mapped: Mapped,
        costs: JsonCosts,
        *,
        proto_names: bool,
        new_packed: Callable[[Any], Message],
        slice_cost: float = SLICE,
    ) -> None:
        """`new_packed` parses what an Any holds; it raises TypeError for an unknown type, DecodeError for one that does
        not parse.

        `slice_cost`: microseconds.
        """
        self._slice = slice_cost
        self._mapped = mapped
        self._costs = costs
        self._proto_names = proto_names
        self._new_packed = new_packed

    def print_at_once(self, message: Message, *, max_size: int) -> bytes:
        """As `print`, for a message that is known to be small."""
        text: bytes = _encode(self._mapped(message))
        if len(text) > max_size:
            raise _too_large(max_size)
        return text

    def print(self, message: Message, *, max_size: int) -> bytes:
        """Return the JSON (UTF-8). Large fields of `message` are cleared.

        Raises MessageTooLarge as soon as there are more than `max_size` bytes, and what `mapped` raises.
        """
        text = _Text(max_size)
        self._print(message, text)
        return text.whole()

    def _print(self, message: Message, text: _Text) -> None:
        if self._costs.of_message(message, most=self._slice) <= self._slice:
            text.add(_encode(self._mapped(message)))
            return
        match message.DESCRIPTOR.full_name:
            case "google.protobuf.Value":
                self._print_value(message, text)
            case "google.protobuf.ListValue":
                self._print_list(message, text)
            case "google.protobuf.Struct":
                self._print_struct(message, text)
            case "google.protobuf.Any":
                self._print_any(message, text)
            case name if name in _SPECIAL:
                text.add(_encode(self._mapped(message)))  # a FieldMask: one string
            case _:
                text.add(b"{")
                self._print_members(message, text, b"")
                text.add(b"}")

    def _print_members(self, message: Message, text: _Text, comma: bytes) -> None:
        """Of a regular message, without the braces. `comma` stands before the first."""
        fields = message.ListFields()
        most = self._slice / max(1, len(fields))
        large = [each for each in fields if self._costs.of_field(*each, most=most) > most]
        for field, value in large:
            text.add(comma + _encode(self._name_of(field)) + b":")
            self._print_field(message, field, value, text)
            comma = b","
        for field, _ in large:
            _clear(message, field)
        rest = self._mapped(message)
        for field, _ in large:  # its default
            rest.pop(self._name_of(field), None)
        if rest:
            text.add(comma + _encode(rest)[1:-1])

    def _name_of(self, field: FieldDescriptor) -> str:
        if field.is_extension:
            return f"[{field.full_name}]"
        return field.name if self._proto_names else field.json_name

    def _print_field(
        self,
        message: Message,
        field: FieldDescriptor,
        value: Any,
        text: _Text,
    ) -> None:
        name = self._name_of(field)
        match json_shape_of(field):
            case "scalar":
                text.add(_encode(_picked(self._mapped(_only(message, field, value)), field, name)))
            case "message":
                self._print(value, text)
            case "scalars" | "messages":
                text.add(b"[")
                self._print_elements(message, field, value, text, lambda mapped: _picked(mapped, field, name))
                text.add(b"]")
            case _:
                text.add(b"{")
                self._print_elements(message, field, value, text, lambda mapped: _picked(mapped, field, name))
                text.add(b"}")

    def _print_elements(
        self,
        message: Message,
        field: FieldDescriptor,
        value: Any,
        text: _Text,
        pick: Callable[[Any], Any],
    ) -> None:
        """Of a repeated field or a map, without brackets. `pick` finds them in the JSON of a message that has nothing
        else.
        """
        shape = json_shape_of(field)
        text.expect(_SMALLEST[shape] * len(value) - 1)
        comma = b""
        for group in self._groups(value, shape):
            text.add(comma)
            comma = b","
            if shape == "messages" and len(group) == 1:
                self._print(group[0], text)
                continue
            if shape == "message_map" and len(group) == 1:
                # The key as a map prints it, then the value as a message does.
                keys = pick(self._mapped(_keys_only(message, field, group)))
                text.add(_encode(next(iter(keys))) + b":")
                self._print(value[group[0]], text)
                continue
            slice_of = _slice(message, field, value, group)
            text.add(_encode(pick(self._mapped(slice_of)))[1:-1])

    def _groups(self, value: Any, shape: str) -> Iterator[list[Any]]:
        """Yield the elements, or the keys of a map, a slice at a time; a larger message stands alone."""
        group: list[Any] = []
        left = self._slice
        for each in value:
            cost = 1.0
            if shape == "messages":
                cost += self._costs.of_message(each, most=self._slice)
            elif shape == "message_map":
                cost += self._costs.of_message(value[each], most=self._slice)
            if group and cost > left:
                yield group
                group, left = [], self._slice
            group.append(each)
            left -= cost
        if group:
            yield group

    # -- well-known types that can be large ---------------------------------------------------------------------------

    def _print_value(self, message: Any, text: _Text) -> None:
        kind = message.WhichOneof("kind")
        if kind in ("struct_value", "list_value"):
            self._print(getattr(message, kind), text)
        else:
            text.add(_encode(self._mapped(message)))

    def _print_list(self, message: Any, text: _Text) -> None:
        field = message.DESCRIPTOR.fields_by_name["values"]
        text.add(b"[")
        self._print_elements(message, field, message.values, text, lambda mapped: mapped)
        text.add(b"]")

    def _print_struct(self, message: Any, text: _Text) -> None:
        field = message.DESCRIPTOR.fields_by_name["fields"]
        text.add(b"{")
        self._print_elements(message, field, message.fields, text, lambda mapped: mapped)
        text.add(b"}")

    def _print_any(self, message: Any, text: _Text) -> None:
        packed = self._new_packed(message)
        text.add(b'{"@type":' + _encode(message.type_url))
        if packed.DESCRIPTOR.full_name in _SPECIAL:
            text.add(b',"value":')
            self._print(packed, text)
        else:
            self._print_members(packed, text, b",")
        text.add(b"}")


class _Text:
    """Pieces of text with a bound on their size."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self.expect(len(piece))
        self._size += len(piece)
        self._pieces.append(piece)

    def expect(self, size: int) -> None:
        """Expect so many bytes more. Raises MessageTooLarge if they are too many."""
        if self._size + size > self._max_size:
            raise _too_large(self._max_size)

    def whole(self) -> bytes:
        return b"".join(self._pieces)


def _picked(mapped: Any, field: FieldDescriptor, name: str) -> Any:
    """Return the field's JSON. Before 7.0 json_format calls repeated extensions by their short name."""
    return mapped[name if name in mapped else field.name]


def _too_large(max_size: int) -> MessageTooLarge:
    return MessageTooLarge(f"more than {max_size} bytes of JSON")


def _clear(message: Message, field: FieldDescriptor) -> None:
    if field.is_extension:
        message.ClearExtension(field)  # type: ignore[arg-type]  # the stubs know no untyped extension
    else:
        message.ClearField(field.name)


def _in(message: Message, field: FieldDescriptor) -> Any:
    """Return the field's container."""
    if field.is_extension:
        return message.Extensions[field]  # type: ignore[index]  # the stubs know no untyped extension
    return getattr(message, field.name)


def _only(message: Message, field: FieldDescriptor, value: Any) -> Message:
    """Return a message of the same type with only this scalar."""
    only = type(message)()
    if field.is_extension:
        only.Extensions[field] = value  # type: ignore[index]  # the stubs know no untyped extension
    else:
        setattr(only, field.name, value)
    return only


def _slice(message: Message, field: FieldDescriptor, value: Any, group: Iterable[Any]) -> Message:
    """Return a message of the same type with only these elements, or the elements of these keys."""
    only = type(message)()
    container = _in(only, field)
    match json_shape_of(field):
        case "scalars" | "messages":
            container.extend(group)
        case "scalar_map":
            for key in group:
                container[key] = value[key]
        case _:
            for key in group:
                container[key].CopyFrom(value[key])
    return only


def _keys_only(message: Message, field: FieldDescriptor, group: Iterable[Any]) -> Message:
    """Return a message of the same type whose map has these keys with empty values."""
    only = type(message)()
    container = _in(only, field)
    for key in group:
        container[key].SetInParent()
    return only
