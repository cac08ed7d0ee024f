"""Server reflection (grpc doc/server-reflection.md), v1 and v1alpha, from the descriptors that generated code has registered.

The messages are few and their wire format is the same in both versions, so they are read and written here by hand: no generated code
of ours can then clash with grpcio-reflection's in the process-wide descriptor pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from lambda_fn.interceptors import Handler

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_METHODS = frozenset(f"/{service}/ServerReflectionInfo" for service in SERVICES)

_INVALID_ARGUMENT = 3
_NOT_FOUND = 5

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


class Question(NamedTuple):
    """A ServerReflectionRequest."""

    raw: bytes
    """As it came: the answer repeats it."""
    host: bytes
    field: int
    """The number of the field in `message_request` that is set; 0: none."""
    value: bytes


def handler_of(method: str, services: Callable[[], list[str]]) -> Handler | None:
    """The handler of ServerReflectionInfo that tells of `services`; None for any other method."""
    if method not in _METHODS:
        return None

    def answer_all(questions: Iterator[Question], context: object) -> Iterator[bytes]:  # noqa: ARG001
        for question in questions:
            yield answer(question, services())

    return grpc.stream_stream_rpc_method_handler(
        answer_all, request_deserializer=parse, response_serializer=None
    )


def answer(question: Question, services: list[str]) -> bytes:
    """The ServerReflectionResponse."""
    asked = _ANSWERS.get(question.field)
    if asked is None:
        reply = _error(_INVALID_ARGUMENT, "the request asks nothing that is known here")
    else:
        try:
            reply = asked(question.value, services)
        except (KeyError, UnicodeDecodeError):
            reply = _error(_NOT_FOUND, f"not found: {question.value.decode('utf-8', 'replace')}")
    host = _text(1, question.host) if question.host else b""
    return host + _text(2, question.raw) + reply


# -- the answers: field number of the question, then what it is about --


def _pool() -> Any:
    from google.protobuf import descriptor_pool

    return descriptor_pool.Default()


def _list_services(_: bytes, services: list[str]) -> bytes:
    return _text(6, b"".join(_text(1, _text(1, name.encode())) for name in sorted(services)))


def _file_by_filename(name: bytes, _: list[str]) -> bytes:
    return _files(_pool().FindFileByName(name.decode()))


def _file_containing_symbol(name: bytes, _: list[str]) -> bytes:
    return _files(_pool().FindFileContainingSymbol(name.decode()))


def _file_containing_extension(value: bytes, _: list[str]) -> bytes:
    fields = dict(_fields(value))
    message = _pool().FindMessageTypeByName(_bytes_in(fields, 1).decode())
    number = fields.get(2, 0)
    return _files(_pool().FindExtensionByNumber(message, number).file)


def _all_extension_numbers_of_type(name: bytes, _: list[str]) -> bytes:
    message = _pool().FindMessageTypeByName(name.decode())
    numbers = sorted(extension.number for extension in _pool().FindAllExtensions(message))
    packed = b"".join(_varint(number) for number in numbers)
    return _text(5, _text(1, message.full_name.encode()) + (_text(2, packed) if packed else b""))


_ANSWERS = {
    3: _file_by_filename,
    4: _file_containing_symbol,
    5: _file_containing_extension,
    6: _all_extension_numbers_of_type,
    7: _list_services,
}


def _files(asked: Any) -> bytes:
    """The file and all it depends on, each once, the one asked for first."""
    found = {asked.name: asked}
    waiting = [asked]
    while waiting:
        for dependency in waiting.pop().dependencies:
            if dependency.name not in found:
                found[dependency.name] = dependency
                waiting.append(dependency)
    return _text(4, b"".join(_text(1, file.serialized_pb) for file in found.values()))


def _error(code: int, message: str) -> bytes:
    return _text(7, _varint(1 << 3) + _varint(code) + _text(2, message.encode()))


# -- protobuf's wire format (protobuf.dev/programming-guides/encoding) --


def parse(raw: bytes) -> Question:
    """Raises ValueError for what is no message."""
    host, field, value = b"", 0, b""
    for number, found in _fields(raw):
        if not isinstance(found, bytes):
            continue
        if number == 1:
            host = found
        elif number in _ANSWERS:
            field, value = number, found
    return Question(raw, host, field, value)


def _fields(raw: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(raw):
        tag, at = _read_varint(raw, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(raw, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(raw, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(raw):
            raise ValueError("cut off")
        if kind == _BYTES:
            yield tag >> 3, raw[at : at + size]
        at += size


def _bytes_in(fields: dict[int, bytes | int], number: int) -> bytes:
    value = fields.get(number, b"")
    return value if isinstance(value, bytes) else b""


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            raise ValueError("cut off")
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a varint of more than ten bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value
