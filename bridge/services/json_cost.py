"""What it costs to turn a message into JSON, or JSON into a message: estimates that cost far less than the conversion.

A size in bytes says little: two bytes can be a message whose defaults fill a page. Estimates count what the conversion
handles one by one, with the time that each takes. They are meant to be right within a factor of three.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from bridge.rpc.value import FrozenValue

ANY = "google.protobuf.Any"
FIELD_MASK = "google.protobuf.FieldMask"
VALUE = "google.protobuf.Value"

TOO_MUCH = 1e9
"""Microseconds that stand for a message that is not inspected."""

# Microseconds, as measured with CPython 3.11 on a busy machine. Each brings a handful of Python calls inside
# json_format.
_MESSAGE = 2.0
_FIELD = 0.9
_DEFAULT = 1.0
_ELEMENT = 0.4
_ENTRY = 0.9
_MASK_CHARACTER = 0.1
_VALUE = 5.0
"""A google.protobuf.Value: json_format asks for its kind by name."""
_JSON_OBJECT = 2.6
_JSON_KNOWN_FIELD = 0.16
"""json_format lists all fields of a message's type for each object that it reads."""
_JSON_ITEM = 1.6
_JSON_MEMBER = 1.0

_FEW = 3
"""Fields of a type that need not be looked at: a Timestamp, a wrapper."""

_MAX_ANY_DEPTH = 8
"""Any in Any: each level is parsed again."""

_Shape = Literal["scalar", "scalars", "message", "messages", "scalar_map", "message_map"]


class _Type(FrozenValue, frozen=True):
    """What a message type adds to an estimate."""

    empty: float
    """Microseconds for a message without a field."""
    whole: float | None
    """Microseconds for one with all fields, if these are few scalars; None: its fields must be looked at."""
    shapes: Mapping[int, _Shape]
    """By field number, of the fields that are no scalars."""
    is_any: bool
    is_mask: bool
    is_extendable: bool


class JsonCosts:
    """Estimates for the messages of one pool of descriptors, in microseconds."""

    def __init__(self, pool: DescriptorPool, *, defaults: bool) -> None:
        """`defaults`: fields that hold their default are written too."""
        self._pool = pool
        self._defaults = defaults
        self._types: dict[Descriptor, _Type] = {}
        self._widest: dict[Descriptor, int] = {}
        self._densest: dict[Descriptor, float] = {}

    def of_message(self, message: Message, *, most: float) -> float:
        """Return the cost of printing this message. Above `most` the rest is not looked at."""
        return most - self._left(message, most, 0)

    def of_field(self, field: FieldDescriptor, value: Any, *, most: float) -> float:
        """Return the cost of printing this field, which is set. Above `most` the rest is not looked at."""
        shape = json_shape_of(field)
        left = most - _FIELD
        return most - (left if shape == "scalar" else self._left_in(value, shape, left, 0))

    def of_json(self, text: bytes, descriptor: Descriptor) -> float:
        """Return the cost of reading this JSON as a message of this type."""
        known = _JSON_KNOWN_FIELD * self.widest(descriptor)
        return (
            text.count(b"{") * (_JSON_OBJECT + known)
            + (text.count(b",") + text.count(b"[")) * _JSON_ITEM
            + text.count(b":") * _JSON_MEMBER
        )

    def widest(self, descriptor: Descriptor) -> int:
        """Return the most fields that any type has which a message of this type can hold. Any can hold all types; they
        do not count.
        """
        known = self._widest.get(descriptor)
        if known is None:
            known = self._widest[descriptor] = max(len(each.fields) for each in _reach(descriptor))
        return known

    def densest(self, descriptor: Descriptor) -> float:
        """Return the most microseconds that a byte of such a message can cost. Infinite for what holds an Any: that can
        be of any type.
        """
        known = self._densest.get(descriptor)
        if known is None:
            types = [self._type_of(each) for each in _reach(descriptor)]
            if any(each.is_any or each.is_extendable for each in types):
                known = inf
            else:
                # Two bytes are an element of a field, and a message.
                known = (max(each.empty for each in types) + _FIELD + _ENTRY) / 2
            self._densest[descriptor] = known
        return known

    # -- the walk: each function returns what is left of the budget, below 0 if it was not enough ----------------------

    def _left(self, message: Message, left: float, depth: int) -> float:
        descriptor: Any = message.DESCRIPTOR
        kind = self._types.get(descriptor) or self._type_of(descriptor)
        if kind.whole is not None:
            return left - kind.whole
        fields = message.ListFields()
        left -= kind.empty + _FIELD * len(fields)
        shapes = kind.shapes
        for field, value in fields:
            shape = shapes.get(field.number)
            if shape is None and kind.is_extendable:
                shape = json_shape_of(field)
            if shape is not None and shape != "scalar":
                left = self._left_in(value, shape, left, depth)
                if left < 0:
                    return left
        if kind.is_any:
            return self._left_after_any(message, left, depth)
        if kind.is_mask:
            left -= _MASK_CHARACTER * message.ByteSize()
        return left

    def _left_in(self, value: Any, shape: _Shape, left: float, depth: int) -> float:
        """After the value of a field that is no scalar, without the field itself."""
        if shape == "message":
            return self._left(value, left, depth)
        left -= len(value) * (_ENTRY if shape.endswith("map") else _ELEMENT)
        if left < 0 or shape in ("scalars", "scalar_map"):
            return left
        messages = value if shape == "messages" else (value[key] for key in value)
        for message in messages:
            left = self._left(message, left, depth)
            if left < 0:
                break
        return left

    def _left_after_any(self, message: Any, left: float, depth: int) -> float:
        packed: bytes = message.value
        if not packed or left < 0:
            return left
        if depth >= _MAX_ANY_DEPTH:
            return left - TOO_MUCH
        try:
            descriptor = self._pool.FindMessageTypeByName(message.type_url.rpartition("/")[2])
        except KeyError:
            return left  # it will be refused
        if len(packed) * self.widest(descriptor) > MAX_PARSED:
            return left - TOO_MUCH
        try:
            inner = GetMessageClass(descriptor).FromString(packed)
        except DecodeError:
            return left  # it will be refused
        return self._left(inner, left, depth + 1)

    def _type_of(self, descriptor: Any) -> _Type:
        known = self._types.get(descriptor)
        if known is None:
            known = self._types[descriptor] = self._new_type(descriptor)
        return known

    def _new_type(self, descriptor: Descriptor) -> _Type:
        name, fields = descriptor.full_name, descriptor.fields
        empty = _VALUE if name == VALUE else _MESSAGE
        if self._defaults:
            empty += _DEFAULT * sum(1 for field in fields if not field.has_presence)
        shapes = {field.number: json_shape_of(field) for field in fields}
        others: dict[int, _Shape] = {number: shape for number, shape in shapes.items() if shape != "scalar"}
        is_any, is_extendable = name == ANY, descriptor.is_extendable
        has_few = len(fields) <= _FEW and not others and not is_any and not is_extendable
        return _Type(
            empty,
            empty + _FIELD * len(fields) if has_few else None,
            others,
            is_any=is_any,
            is_mask=name == FIELD_MASK,
            is_extendable=is_extendable,
        )


MAX_PARSED = 512 << 10
"""Bytes of a message times the fields of its widest type: what is parsed where calls are served. Each two bytes can be
a message, and a message takes memory for all fields of its type.
"""


def json_shape_of(field: FieldDescriptor) -> _Shape:
    """How this field's value is made of others."""
    if field.message_type is None:
        return "scalars" if field.is_repeated else "scalar"
    if not field.is_repeated:
        return "message"
    if not field.message_type.GetOptions().map_entry:
        return "messages"
    value = field.message_type.fields_by_name["value"]
    return "scalar_map" if value.message_type is None else "message_map"


def _reach(descriptor: Descriptor) -> list[Descriptor]:
    """Return the type itself, and all that its fields lead to."""
    reached = {descriptor: None}
    waiting = [descriptor]
    for each in waiting:
        for field in each.fields:
            inner = field.message_type
            if inner is not None and inner not in reached:
                reached[inner] = None
                waiting.append(inner)
    return waiting
