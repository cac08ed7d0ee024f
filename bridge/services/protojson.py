"""ProtoJSON as its specification has it: what stands between JSON text and protobuf's json_format.

json_format refuses a few values that protobuf itself writes: it calls the largest float too large. It also accepts
wrong values: it drops odd characters from base64 and rounds 64-bit integers written with an exponent. It reads a list
as an empty message, and lets the second of a field's two names win. Such values are put right or refused here, before
json_format reads the rest.

https://protobuf.dev/programming-guides/json/
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_DEPTH = 100
"""Levels of messages in messages, as protobuf's own parsers bound them."""

_FLOAT_MAX = float.fromhex("0x1.fffffep+127")
_FLOAT_LIMIT = float.fromhex("0x1.ffffffp+127")
"""From here on a number rounds to a float that does not exist."""

_EXACT = 2.0**53
"""Above it a double no longer holds each integer."""
_BEYOND_INTEGERS = 2.0**64
"""No integer field holds this much."""

_json_number = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,9}))?", re.ASCII).fullmatch
_has_minus_zero = re.compile(rb"-0\s*(?:[,}\]]|\Z)").search
_base64 = re.compile(r"([A-Za-z0-9+/_-]*)(={0,2})").fullmatch
_URL_SAFE = str.maketrans("+/", "-_")

# What json_format hands to strptime, int() and float(), which take more than these formats.
_timestamp = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch
_duration = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?s").fullmatch
_NULL_VALUE = "google.protobuf.NullValue"
_VALUE = "google.protobuf.Value"
_ANY = "google.protobuf.Any"
_WRAPPERS = "google/protobuf/wrappers.proto"
_ANY_JSON = frozenset((_VALUE, "google.protobuf.Struct", "google.protobuf.ListValue"))
"""Types that hold JSON of any form."""

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

_library_fields = re.compile(r"(?:Failed to parse \w{1,100} field: )+").match
_library_field = re.compile(r"Failed to parse (\w+) field").findall


class NotProtoJson(ValueError):
    """The JSON does not fit the message."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        """May quote a value."""
        self.path = path
        """The field, `order.parts[3].name`; empty: the whole."""

    def within(self, place: str | int) -> NotProtoJson:
        """Add the field or the index that leads to the place."""
        inner = self.path if not self.path or self.path[0] == "[" else f".{self.path}"
        self.path = f"[{place}]{inner}" if isinstance(place, int) else f"{place}{inner}"
        return self


def loads(text: bytes) -> Any:
    """Return the value of JSON text, its numbers as exact as any field holds them. Raises NotProtoJson."""
    # JavaScript and Go write a negative zero like an integer, which has none.
    hooks: dict[str, Any] = {"parse_int": _integer_or_zero} if _has_minus_zero(text) else {}
    try:
        return json.loads(
            text.decode("utf-8-sig"),
            object_pairs_hook=_object_of,
            parse_float=_number_of,
            parse_constant=_refuse_constant,
            **hooks,
        )
    except NotProtoJson:
        raise
    except RecursionError as error:
        raise NotProtoJson(_TOO_DEEP) from error
    except UnicodeDecodeError as error:
        raise NotProtoJson(f"not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        raise NotProtoJson(str(error)[:200]) from error


def _translated(error: Exception) -> NotProtoJson:
    text = str(error)
    lines = text.splitlines()
    found = _library_fields(text)
    path = ".".join(_library_field(found[0])) if found is not None else ""
    return NotProtoJson(lines[0][:500] if lines else type(error).__name__, path)


# -- JSON --


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        raise NotProtoJson(f"the key {times.most_common(1)[0][0][:100]!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise NotProtoJson(f'{name} is no JSON; a float field takes "{name}" in quotes')


def _integer_or_zero(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)


class _Rounded(float):
    """A number that is not an integer, but whose double is one."""


def _number_of(text: str) -> int | float:
    """Return a number with a fraction or an exponent. Integers that a double would round come as int."""
    value = float(text)
    if not value.is_integer():
        return value
    if value >= _BEYOND_INTEGERS or value <= -_BEYOND_INTEGERS:
        return value
    exact = _exact_integer(text)
    if exact is None:
        return _Rounded(value)
    return exact if abs(value) >= _EXACT else value


def _exact_integer(text: str) -> int | None:
    """Return the integer value of a JSON number below 2^64, or None for a fraction."""
    found = _json_number(text)
    if found is None:  # an exponent of more than nine digits: not a number that anybody means
        return None
    whole, fraction = found[1], found[2] or ""
    digits, shift = (whole + fraction).lstrip("0"), int(found[3] or 0) - len(fraction)
    if shift < 0:
        digits, rest = digits[:shift], digits[shift:]
        if rest.strip("0"):
            return None
        shift = 0
    value = int(digits) * 10**shift if digits else 0
    return -value if text.startswith("-") else value


# -- fields --

_Read = Callable[[Any], Any]
"""What a JSON value is replaced with. Raises NotProtoJson."""


class _Field(NamedTuple):
    name: str
    oneof: str | None
    takes_null: bool
    """Whether null is a value of its own, and not the field's absence."""
    read: _Read | None
    """None: json_format reads it as the specification says."""


class Reader:
    """Reads JSON values into messages; keeps what it has learnt of their types."""

    def __init__(self) -> None:
        self._known: dict[Descriptor, dict[str, _Field]] = {}
        self._tops: dict[Descriptor, _Read] = {}

    def fill(self, message: Any, value: Any, *, ignore_unknown: bool) -> None:
        """Set in `message` what this JSON value says; parts of the value may be replaced on the way. Raises
        NotProtoJson.
        """
        descriptor = message.DESCRIPTOR
        if (read := self._tops.get(descriptor)) is None:
            read = self._tops[descriptor] = self._value_of(descriptor)
        try:
            json_format.ParseDict(
                read(value),
                message,
                ignore_unknown_fields=ignore_unknown,
                descriptor_pool=descriptor.file.pool,
                max_recursion_depth=MAX_DEPTH,
            )
        except NotProtoJson:
            raise
        except RecursionError as error:
            raise NotProtoJson(_TOO_DEEP) from error
        except Exception as error:  # as Parse does around it: TypeErrors, OverflowErrors and even SystemErrors come out
            raise _translated(error) from error

    def _value_of(self, descriptor: Descriptor) -> _Read:
        """How a value of this message type is read."""
        name = descriptor.full_name
        if name in _ANY_JSON:
            return _any_json
        if name in _FORMATS:
            return _FORMATS[name]
        if name == _ANY:
            return partial(self._any, descriptor.file.pool)
        if descriptor.file.name == _WRAPPERS:
            return self._scalar(descriptor.fields_by_name["value"]) or _unchanged
        return lambda value: self._object(value, descriptor)

    def _object(self, value: Any, descriptor: Descriptor) -> Any:
        if not isinstance(value, dict):
            raise NotProtoJson(f"{descriptor.full_name} is an object, not {_kind(value)}")
        fields = self._known.get(descriptor)
        if fields is None:
            fields = self._known[descriptor] = self._fields_of(descriptor)
        taken: set[str] = set()
        for key, found in value.items():
            field = fields.get(key) or self._extension(descriptor, key)
            if field is None:
                continue
            if field.name in taken:
                raise NotProtoJson("it is given by both of its names").within(key)
            taken.add(field.name)
            if found is None and not field.takes_null:
                continue
            if field.oneof is not None:
                if field.oneof in taken:
                    raise NotProtoJson("another field of the same oneof is given").within(key)
                taken.add(field.oneof)
            if field.read is not None:
                try:
                    value[key] = field.read(found)
                except NotProtoJson as error:
                    raise error.within(key) from None
        return value

    def _fields_of(self, descriptor: Descriptor) -> dict[str, _Field]:
        known = [(each, self._field(each)) for each in descriptor.fields]
        by_name = {each.name: field for each, field in known}
        return by_name | {each.json_name: field for each, field in known}

    def _extension(self, descriptor: Descriptor, key: str) -> _Field | None:
        """Return the extension that `[package.name]` stands for."""
        if not (descriptor.is_extendable and key.startswith("[") and key.endswith("]")):
            return None
        try:
            found = descriptor.file.pool.FindExtensionByName(key[1:-1])
        except KeyError:
            return None
        return self._field(found)._replace(name=key)

    def _field(self, field: FieldDescriptor) -> _Field:
        oneof = field.containing_oneof
        # The space keeps a oneof's name apart from those of fields.
        return _Field(
            field.name,
            None if oneof is None else f" {oneof.name}",
            _is_null(field) and not field.is_repeated,
            self._read_of(field),
        )

    def _read_of(self, field: FieldDescriptor) -> _Read | None:
        if not field.is_repeated:
            return self._single(field)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            of_key = _integer if entry.fields_by_name["key"].cpp_type in _INTEGERS else None
            item = entry.fields_by_name["value"]
            return self._map_of(of_key, self._single(item), takes_null=_is_null(item))
        return self._list_of(self._single(field), takes_null=_is_null(field))

    def _single(self, field: FieldDescriptor) -> _Read | None:
        descriptor = field.message_type
        if descriptor is None:
            return self._scalar(field)
        # Made when it is needed: message types refer to themselves.
        read: list[_Read] = []

        def read_message(value: Any) -> Any:
            if not read:
                read.append(self._value_of(descriptor))
            return read[0](value)

        return read_message

    @staticmethod
    def _scalar(field: FieldDescriptor) -> _Read | None:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return _bytes
        if field.enum_type is not None:
            names = field.enum_type.values_by_name
            is_null = field.enum_type.full_name == _NULL_VALUE
            return lambda value: 0 if value is None and is_null else _enum(value, names)
        return _SCALARS.get(field.cpp_type)

    @staticmethod
    def _list_of(read: _Read | None, *, takes_null: bool) -> _Read:
        def read_list(value: Any) -> Any:
            if not isinstance(value, list):
                raise NotProtoJson(f"a repeated field is a list, not {_kind(value)}")
            if not takes_null and None in value:
                raise NotProtoJson("null stands in a list").within(value.index(None))
            if read is not None:
                for index, item in enumerate(value):
                    try:
                        value[index] = read(item)
                    except NotProtoJson as error:
                        raise error.within(index) from None
            return value

        return read_list

    @staticmethod
    def _map_of(of_key: _Read | None, read: _Read | None, *, takes_null: bool) -> _Read:
        def read_map(value: Any) -> Any:
            if not isinstance(value, dict):
                raise NotProtoJson(f"a map is an object, not {_kind(value)}")
            if not takes_null and None in value.values():
                raise NotProtoJson("null is no value of a map")
            if of_key is not None and len({of_key(key) for key in value}) < len(value):
                raise NotProtoJson("two keys of a map are the same number")
            if read is not None:
                for key, item in value.items():
                    try:
                        value[key] = read(item)
                    except NotProtoJson as error:
                        raise error.within(key[:100]) from None
            return value

        return read_map

    def _any(self, pool: Any, value: Any) -> Any:
        if not isinstance(value, dict):
            raise NotProtoJson(f"{_ANY} is an object, not {_kind(value)}")
        if not value:
            return value
        url = value.get("@type")
        if not isinstance(url, str):
            raise NotProtoJson("an Any names its type in the string @type")
        try:
            descriptor = pool.FindMessageTypeByName(url.rpartition("/")[2])
        except KeyError:
            return value  # json_format says that the type is unknown
        read = self._value_of(descriptor)
        if not _has_own_form(descriptor):
            return read(value)
        if "value" not in value:
            raise NotProtoJson(f"an Any of {descriptor.full_name} has its JSON under the key value")
        try:
            value["value"] = read(value["value"])
        except NotProtoJson as error:
            raise error.within("value") from None
        return value


def _unchanged(value: Any) -> Any:
    return value


def _has_own_form(descriptor: Descriptor) -> bool:
    """Whether an Any keeps such a message's JSON under `value`."""
    name = descriptor.full_name
    is_known = name in _FORMATS or name in _ANY_JSON or name == _ANY
    return is_known or descriptor.file.name == _WRAPPERS


def _is_null(field: FieldDescriptor) -> bool:
    """Whether null is one of the field's values."""
    if field.message_type is not None:
        return bool(field.message_type.full_name == _VALUE)
    return field.enum_type is not None and field.enum_type.full_name == _NULL_VALUE


def _kind(value: Any) -> str:
    """Return what JSON calls it: clients may see this, and not the value itself."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "a number"


# -- scalars --


def _number_in(value: Any) -> int | float:
    """Return a number, or one in quotes."""
    if isinstance(value, str):
        if _json_number(value) is None:
            raise NotProtoJson("the string is not a number as JSON writes it")
        return int(value) if value.lstrip("-").isdigit() and value != "-0" else _number_of(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotProtoJson(f"a number is expected, not {_kind(value)}")
    return value


def _integer(value: Any) -> int:
    number = _number_in(value)
    if isinstance(number, int):
        return number
    if isinstance(number, _Rounded) or not number.is_integer():
        raise NotProtoJson("an integer is expected, not a fraction")
    return int(number)


def _double(value: Any) -> Any:
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return value
    try:
        number = float(_number_in(value))
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise NotProtoJson("the number is too large for a double")
    return number


def _float(value: Any) -> Any:
    number = _double(value)
    if isinstance(number, str) or -_FLOAT_MAX <= number <= _FLOAT_MAX:
        return number
    if abs(number) < _FLOAT_LIMIT:
        return math.copysign(_FLOAT_MAX, number)
    raise NotProtoJson("the number is too large for a float")


def _bytes(value: Any) -> str:
    found = _base64(value) if isinstance(value, str) else None
    if found is None:
        raise NotProtoJson("bytes are a string in base64")
    missing = -len(found[1]) % 4
    if missing == 3 or len(found[2]) not in (0, missing):
        raise NotProtoJson("the base64 of bytes is cut off")
    # The usual alphabet too is read as the URL-safe one, from Python 3.15 on with a warning.
    return found[1].translate(_URL_SAFE)


def _enum(value: Any, names: Any) -> Any:
    if not isinstance(value, str):
        return _integer(value)
    if value not in names and _json_number(value) is None and _is_integer_to_python(value):
        raise NotProtoJson("the string is neither a name nor a number")
    return value


def _is_integer_to_python(text: str) -> bool:
    """Python reads `1_0`, and digits of any script."""
    try:
        int(text)
    except ValueError:
        return False
    return True


def _is_field_mask(text: str) -> bool:
    return not text or all(text.split(","))


def _any_json(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        raise NotProtoJson("the number is too large for a double")
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            _any_json(each)
    return value


def _text_like(found: Callable[[str], object], what: str) -> _Read:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or not found(value):
            raise NotProtoJson(what)
        return value

    return read


_INTEGERS = frozenset(
    (
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    )
)
_SCALARS: dict[int, _Read] = {
    **dict.fromkeys(_INTEGERS, _integer),
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
}
_FORMATS: dict[str, _Read] = {
    "google.protobuf.Timestamp": _text_like(_timestamp, "a timestamp is written like 2030-01-02T03:04:05.678Z"),
    "google.protobuf.Duration": _text_like(_duration, "a duration is written like 1.5s"),
    "google.protobuf.FieldMask": _text_like(_is_field_mask, "a field mask is written like user.displayName,photo"),
}
