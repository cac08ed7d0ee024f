"""JSON to protobuf's bytes and back, by the descriptors that generated code has registered. Nothing else is known here.

Servicers keep their own (de)serializers: what reaches them is always protobuf's bytes, whatever the caller wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from lambda_fn.status import INTERNAL, INVALID_ARGUMENT, UNIMPLEMENTED, Refused

if TYPE_CHECKING:
    from lambda_fn.protojson import NotProtoJson, Reader


class Codec(NamedTuple):
    """Between a message as a caller wrote or wants it, and protobuf's bytes."""

    decode: Callable[[bytes], bytes]
    """Raises Refused."""
    encode: Callable[[bytes], bytes]
    """Raises Refused."""


PROTO = Codec(bytes, bytes)
"""What travels is protobuf already."""


def find_method(method: str) -> Any:
    """Return the MethodDescriptor of `/package.Service/Method`; None if its .proto has not been imported."""
    from google.protobuf import descriptor_pool

    service, _, name = method.removeprefix("/").rpartition("/")
    try:
        return descriptor_pool.Default().FindServiceByName(service).methods_by_name.get(name)
    except KeyError:
        return None


def json_codec(descriptor: Any, *, prints_defaults: bool) -> Codec:
    """JSON by protobuf's mapping. Fields that a message does not know are passed over, so that a newer caller can call
    an older function.
    """
    if descriptor is None:
        return Codec(_undescribed, _undescribed)

    def decode(text: bytes) -> bytes:
        return serialized(message_from(text, descriptor.input_type))

    def encode(data: bytes) -> bytes:
        return to_json(data, descriptor.output_type, prints_defaults=prints_defaults)

    return Codec(decode, encode)


def _undescribed(_: bytes) -> bytes:
    raise Refused(UNIMPLEMENTED, "JSON takes the method's descriptor, which is not loaded here")


def new_message(descriptor: Any) -> Any:
    """Return an empty message of the class that generated code has for this descriptor."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)()


@cache
def _reader() -> Reader:
    """One for all calls: the descriptors of generated code stay as they are."""
    from lambda_fn.protojson import Reader

    return Reader()


def message_from(text: bytes, descriptor: Any) -> Any:
    """Return the message in this JSON. Raises Refused, saying what does not fit."""
    from lambda_fn import protojson

    message = new_message(descriptor)
    try:
        _reader().fill(message, protojson.loads(text), ignore_unknown=True)
    except protojson.NotProtoJson as error:
        raise _not_fitting(descriptor, error) from error
    return message


def loads(body: bytes) -> Any:
    """Return the value of a body in JSON. Raises Refused."""
    from lambda_fn import protojson

    try:
        return protojson.loads(body)
    except protojson.NotProtoJson as error:
        raise Refused(INVALID_ARGUMENT, f"the body is not JSON: {error.reason}") from error


def merge(found: Any, message: Any, *, passes_over_unknown: bool) -> None:
    """Set in `message` what this JSON value (dicts, lists, scalars) says. Raises Refused."""
    from lambda_fn import protojson

    try:
        _reader().fill(message, found, ignore_unknown=passes_over_unknown)
    except protojson.NotProtoJson as error:
        raise _not_fitting(message.DESCRIPTOR, error) from error


def serialized(message: Any) -> bytes:
    """Return the message's bytes. Raises Refused where a required field is missing."""
    from google.protobuf.message import EncodeError

    try:
        data: bytes = message.SerializeToString()
    except EncodeError as error:
        raise Refused(INVALID_ARGUMENT, f"the request is incomplete: {error}") from error
    return data


def _not_fitting(descriptor: Any, error: NotProtoJson) -> Refused:
    # The reason says where in the caller's own input the reading stopped.
    place = f" (at {error.path})" if error.path else ""
    return Refused(INVALID_ARGUMENT, f"the request is no {descriptor.full_name} in JSON{place}: {error.reason}")


def parsed(data: bytes, descriptor: Any) -> Any:
    """Return the message in a reply's bytes. Raises Refused."""
    from google.protobuf.message import DecodeError

    try:
        return new_message(descriptor).FromString(data)
    except DecodeError as error:
        raise Refused(INTERNAL, f"the reply is no {descriptor.full_name}") from error


def to_json(data: bytes, descriptor: Any, *, prints_defaults: bool, only_field: str | None = None) -> bytes:
    """Return the JSON of a serialized message, or of one of its fields (named as in the .proto); ASCII, on one line.
    Raises Refused.
    """
    import json

    from google.protobuf import json_format, message

    try:
        found: Any = json_format.MessageToDict(
            new_message(descriptor).FromString(data),
            always_print_fields_with_no_presence=prints_defaults,
        )
    except (
        json_format.Error,
        message.DecodeError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise Refused(INTERNAL, f"the reply has no JSON as {descriptor.full_name}") from error
    if only_field is not None:
        found = found.get(descriptor.fields_by_name[only_field].json_name)
    return json.dumps(found, separators=(",", ":")).encode("ascii")


def any_as_json(type_url: str, value: bytes) -> Any:
    """Return a google.protobuf.Any as JSON has it; None if its type is not loaded or its bytes do not fit."""
    from google.protobuf import any_pb2, json_format, message

    try:
        return json_format.MessageToDict(any_pb2.Any(type_url=type_url, value=value))
    except (json_format.Error, message.DecodeError, TypeError, ValueError):
        return None


def find_field(message: Any, path: tuple[str, ...]) -> Any:
    """Return the FieldDescriptor at the end of a path of names, as in the .proto or as in JSON. None if no field has
    this path.

    All fields before the last are single messages.
    """
    field = None
    for name in path:
        if message is None or (field is not None and field.is_repeated):
            return None
        field = next((each for each in message.fields if name in (each.name, each.json_name)), None)
        if field is None:
            return None
        message = field.message_type
    return field


def names_of(message: Any, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the same path in the names of the .proto, so that a field has one path however it is written. None if no
    field has this path.

    Raises Refused for a path through a field that is not a single message: google/api/http.proto lets a query fill
    fields of single messages only.
    """
    names: list[str] = []
    parent = None
    for name in path:
        if parent is not None:
            _check_single_message(parent, ".".join(path))
        field = find_field(message, (name,))
        if field is None:
            return None
        names.append(field.name)
        message, parent = field.message_type, field
    return tuple(names)


def _check_single_message(field: Any, path: str) -> None:
    """Check that a path may go on behind this field. Raises Refused."""
    if field.message_type is None:
        kind = "not a message"
    elif not field.is_repeated:
        return
    else:
        kind = "a map" if field.message_type.GetOptions().map_entry else "a repeated message"
    raise Refused(
        INVALID_ARGUMENT,
        f"{path}: {field.name} is {kind}, so the query cannot fill a field of it; send it in the body, if the method"
        " takes one",
    )


def set_field(message: Any, path: tuple[str, ...], values: list[str]) -> None:
    """Set a field from text, as a path or a query gives it. Raises Refused for what does not fit, and for several
    values of a single field.
    """
    field = find_field(message.DESCRIPTOR, path)
    name = ".".join(path)
    if not field.is_repeated and len(values) > 1:
        raise Refused(INVALID_ARGUMENT, f"{name} is a single field and has {len(values)} values")
    for part in path[:-1]:
        parent = find_field(message.DESCRIPTOR, (part,))
        check_oneof(message, parent)
        message = getattr(message, parent.name)
    check_oneof(message, field)
    message.ClearField(field.name)
    converted = [_json_value(field, value) for value in values]
    value = converted if field.is_repeated else converted[0]
    merge({field.name: value}, message, passes_over_unknown=False)


def check_oneof(message: Any, field: Any) -> None:
    """Check the field's oneof. Raises Refused if another member is set: this one would take it away unseen."""
    oneof = field.containing_oneof
    taken = None if oneof is None else message.WhichOneof(oneof.name)
    if taken not in (None, field.name):
        raise Refused(
            INVALID_ARGUMENT,
            f"{taken} and {field.name} are of one oneof, {oneof.name}: a request has one of them",
        )


_BOOL_VALUE = "google.protobuf.BoolValue"
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _json_value(field: Any, text: str) -> Any:
    """Return the text as protobuf's JSON mapping wants it: numbers, names of enums, timestamps and their like are text
    there, too.
    """
    is_boolean = field.type == field.TYPE_BOOL or (
        field.message_type is not None and field.message_type.full_name == _BOOL_VALUE
    )
    return _BOOLEANS.get(text.lower(), text) if is_boolean else text
