"""What the console offers of descriptors: services with their methods, and what a request is made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor

from bridge.console.conversation import FieldShown, MethodShown, RequestForm
from bridge.services.descriptors import Descriptors, kind_of

MOST_METHODS = 1000
"""Methods of one service that are offered."""
MOST_TYPES = 1000
"""Message types that are described for one request."""
MOST_FIELDS = 10_000
"""Fields of all of them together."""
_MOST_VALUES = 2000
"""Names of one enum."""

_WELL_KNOWN = "google.protobuf."
"""Types whose JSON is not an object of their fields. The page knows them."""

_SCALARS = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_FIXED64: "fixed64",
    FieldDescriptor.TYPE_FIXED32: "fixed32",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_SFIXED32: "sfixed32",
    FieldDescriptor.TYPE_SFIXED64: "sfixed64",
    FieldDescriptor.TYPE_SINT32: "sint32",
    FieldDescriptor.TYPE_SINT64: "sint64",
}


def methods_of(descriptors: Descriptors, service: str) -> list[MethodShown] | None:
    """Return the methods of a service, at most MOST_METHODS of them. None: it is not described here."""
    try:
        found = descriptors.pool.FindServiceByName(service)
    except KeyError:
        return None
    return [method_shown(method) for method in found.methods[:MOST_METHODS]]


def method_shown(method: MethodDescriptor) -> MethodShown:
    return MethodShown(method.name, kind_of(method), method.input_type.full_name, method.output_type.full_name)


def form_of(method: MethodDescriptor) -> RequestForm:
    """Return the fields of the method's request, and of all messages in it, the nearest first."""
    messages: dict[str, Sequence[FieldShown]] = {}
    enums: dict[str, Sequence[str]] = {}
    seen = {method.input_type.full_name}
    waiting: deque[Descriptor] = deque((method.input_type,))
    fields = 0
    while waiting and len(messages) < MOST_TYPES and fields < MOST_FIELDS:
        message = waiting.popleft()
        messages[message.full_name] = shown = [_field(each) for each in message.fields]
        fields += len(shown)
        for each in message.fields:
            value = _value_of(each)
            if value.enum_type is not None:
                enums.setdefault(value.enum_type.full_name, _names_of(value.enum_type))
            inner = value.message_type
            if inner is not None and inner.full_name not in seen and not inner.full_name.startswith(_WELL_KNOWN):
                seen.add(inner.full_name)
                waiting.append(inner)
    return RequestForm(method_shown(method), messages, enums, is_cut=bool(waiting))


def _names_of(enum: EnumDescriptor) -> list[str]:
    return [value.name for value in enum.values[:_MOST_VALUES]]


def _field(field: FieldDescriptor) -> FieldShown:
    value = _value_of(field)
    oneof = field.containing_oneof
    is_choice = oneof is not None and not _is_synthetic(field)
    return FieldShown(
        name=field.json_name,
        proto_name=field.name,
        type=_type_of(value),
        of=_name_of(value),
        repeated=field.is_repeated and value is field,
        key="" if value is field or field.message_type is None else _type_of(field.message_type.fields_by_name["key"]),
        oneof=oneof.name if oneof is not None and is_choice else "",
        presence=field.has_presence,
        required=field.is_required,
    )


def _value_of(field: FieldDescriptor) -> FieldDescriptor:
    """Return the field itself, or the field of a map's values."""
    entry = field.message_type
    if entry is None or not entry.GetOptions().map_entry:
        return field
    found: FieldDescriptor = entry.fields_by_name["value"]
    return found


def _is_synthetic(field: FieldDescriptor) -> bool:
    """Whether the field's oneof stands for `optional` (proto3)."""
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) == 1 and oneof.name == f"_{field.name}"


def _type_of(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return "message"
    return "enum" if field.enum_type is not None else _SCALARS[field.type]


def _name_of(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return str(field.message_type.full_name)
    return "" if field.enum_type is None else str(field.enum_type.full_name)
