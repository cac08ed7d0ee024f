"""Server reflection (grpc doc/server-reflection.md), v1 and v1alpha, from the descriptors that generated code has
registered.

The messages are few, and their wire format is the same in both versions. So they are read and written here by hand.
Generated code could clash with grpcio-reflection's in the process-wide descriptor pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from lambda_fn import wire
from lambda_fn.interceptors import Handler
from lambda_fn.wire import bytes_in, field, varint

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_METHODS = frozenset(f"/{service}/ServerReflectionInfo" for service in SERVICES)

_INVALID_ARGUMENT = 3
_NOT_FOUND = 5


class Question(NamedTuple):
    """A ServerReflectionRequest."""

    raw: bytes
    """As it came: the answer repeats it."""
    host: bytes
    field: int
    """The number of the field in `message_request` that is set; 0: none."""
    value: bytes


def handler_of(method: str, services: Callable[[], list[str]]) -> Handler | None:
    """Return the handler of ServerReflectionInfo that tells of `services`, or None for any other method."""
    if method not in _METHODS:
        return None

    def answer_all(questions: Iterator[Question], context: object) -> Iterator[bytes]:  # noqa: ARG001 - grpcio's signature
        for question in questions:
            yield answer(question, services())

    return grpc.stream_stream_rpc_method_handler(answer_all, request_deserializer=parse, response_serializer=None)


def answer(question: Question, services: list[str]) -> bytes:
    """Return the ServerReflectionResponse."""
    asked = _ANSWERS.get(question.field)
    if asked is None:
        reply = _error(_INVALID_ARGUMENT, "the request asks nothing that is known here")
    else:
        try:
            reply = asked(question.value, services)
        except (KeyError, UnicodeDecodeError):
            reply = _error(_NOT_FOUND, f"not found: {question.value.decode('utf-8', 'replace')}")
    host = field(1, question.host) if question.host else b""
    return host + field(2, question.raw) + reply


# -- the answers: field number of the question, then what it is about --


def _pool() -> Any:
    from google.protobuf import descriptor_pool

    return descriptor_pool.Default()


def _list_services(_: bytes, services: list[str]) -> bytes:
    return field(6, b"".join(field(1, field(1, name.encode())) for name in sorted(services)))


def _file_by_filename(name: bytes, _: list[str]) -> bytes:
    return _files(_pool().FindFileByName(name.decode()))


def _file_containing_symbol(name: bytes, _: list[str]) -> bytes:
    return _files(_pool().FindFileContainingSymbol(name.decode()))


def _file_containing_extension(value: bytes, _: list[str]) -> bytes:
    fields = dict(wire.fields(value))
    message = _pool().FindMessageTypeByName(bytes_in(fields, 1).decode())
    number = fields.get(2, 0)
    return _files(_pool().FindExtensionByNumber(message, number).file)


def _all_extension_numbers_of_type(name: bytes, _: list[str]) -> bytes:
    message = _pool().FindMessageTypeByName(name.decode())
    numbers = sorted(extension.number for extension in _pool().FindAllExtensions(message))
    packed = b"".join(varint(number) for number in numbers)
    return field(5, field(1, message.full_name.encode()) + (field(2, packed) if packed else b""))


_ANSWERS = {
    3: _file_by_filename,
    4: _file_containing_symbol,
    5: _file_containing_extension,
    6: _all_extension_numbers_of_type,
    7: _list_services,
}


def _files(asked: Any) -> bytes:
    """Return the file and all it depends on, each once, the one asked for first."""
    found = {asked.name: asked}
    waiting = [asked]
    while waiting:
        for dependency in waiting.pop().dependencies:
            if dependency.name not in found:
                found[dependency.name] = dependency
                waiting.append(dependency)
    return field(4, b"".join(field(1, file.serialized_pb) for file in found.values()))


def _error(code: int, message: str) -> bytes:
    return field(7, varint(1 << 3) + varint(code) + field(2, message.encode()))


def parse(raw: bytes) -> Question:
    """Parse a question. Raises ValueError for invalid bytes."""
    host, asked, value = b"", 0, b""
    for number, found in wire.fields(raw):
        if not isinstance(found, bytes):
            continue
        if number == 1:
            host = found
        elif number in _ANSWERS:
            asked, value = number, found
    return Question(raw, host, asked, value)
