"""What `call` prints of a call: for people, or as one JSON document."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from bridge.commands.call_symbols import GrpcioMetadata
from bridge.commands.failure import CommandFailed
from bridge.config.units import format_duration
from bridge.rpc.value import FrozenValue
from bridge.services import status_details

DETAILS = "grpc-status-details-bin"


class CallEnd(FrozenValue, frozen=True):
    """How a call ended."""

    code: grpc.StatusCode
    message: str
    trailers: GrpcioMetadata
    details: list[Any]
    """The error's details, each as JSON."""
    timings: Mapping[str, float]
    """Seconds since the command began to connect, by what had then happened."""


class Report(Protocol):
    """Takes the parts of a call as they come."""

    def request(self, method: MethodDescriptor, metadata: GrpcioMetadata) -> None: ...
    def headers(self, metadata: GrpcioMetadata) -> None: ...
    def message(self, response: Message) -> None:
        """Take a response. Raises CommandFailed for one without a JSON form."""
        ...

    def end(self, end: CallEnd) -> None: ...


class TextReport:
    """Messages go to standard output, one JSON document each; everything else to standard error."""

    def __init__(self, *, is_verbose: bool) -> None:
        self._is_verbose = is_verbose

    def request(self, method: MethodDescriptor, metadata: GrpcioMetadata) -> None:
        if not self._is_verbose:
            return
        takes = f"{'stream ' if method.client_streaming else ''}{method.input_type.full_name}"
        gives = f"{'stream ' if method.server_streaming else ''}{method.output_type.full_name}"
        _say(f"* rpc {method.full_name}({takes}) returns ({gives})")
        _say_metadata(">", metadata)

    def headers(self, metadata: GrpcioMetadata) -> None:
        _say_metadata("<", metadata)

    def message(self, response: Message) -> None:
        print(json_of(response), flush=True)

    def end(self, end: CallEnd) -> None:
        shown = [entry for entry in end.trailers if entry[0] != DETAILS] if end.details else end.trailers
        _say_metadata("<<", shown)
        for detail in end.details:
            _say(f"detail: {json.dumps(detail, ensure_ascii=False)}")
        if self._is_verbose:
            before = 0.0
            for what, seconds in end.timings.items():
                _say(f"* {what} after {format_milliseconds(seconds)} (+{format_milliseconds(seconds - before)})")
                before = seconds
        _say(f"{end.code.name}{': ' + end.message if end.message else ''}")


class JsonReport:
    """One JSON object on standard output. Its parts are written as they come, so a long stream needs no memory."""

    def __init__(self) -> None:
        self._messages = 0

    def request(self, method: MethodDescriptor, metadata: GrpcioMetadata) -> None:  # noqa: ARG002 - Report's signature
        name = f"{method.containing_service.full_name}/{method.name}"
        _write(f'{{"method": {json.dumps(name)}')

    def headers(self, metadata: GrpcioMetadata) -> None:
        _write(f',\n"headers": {_metadata_json(metadata)},\n"messages": [')

    def message(self, response: Message) -> None:
        text = json.dumps(json.loads(json_of(response)), ensure_ascii=False)
        _write(f"{',' if self._messages else ''}\n{text}")
        self._messages += 1

    def end(self, end: CallEnd) -> None:
        status = {
            "code": end.code.value[0],
            "name": end.code.name,
            "message": end.message,
            "details": end.details,
        }
        timings = {what.replace(" ", "_"): round(seconds, 6) for what, seconds in end.timings.items()}
        _write(f'],\n"trailers": {_metadata_json(end.trailers)},\n"status": {json.dumps(status, ensure_ascii=False)}')
        _write(f',\n"seconds": {json.dumps(timings)}}}\n')


def json_of(message: Message) -> str:
    """Return the message as JSON. Raises CommandFailed for a message that has no JSON form."""
    pool: Any = message.DESCRIPTOR.file.pool  # knows the types that an Any of it may hold
    try:
        return json_format.MessageToJson(message, descriptor_pool=pool, ensure_ascii=False)
    except (json_format.Error, DecodeError, TypeError, ValueError, RecursionError) as error:
        raise CommandFailed(f"a reply, a {message.DESCRIPTOR.full_name}, has no JSON form: {error}") from error


def details_of(trailers: GrpcioMetadata, describing: Callable[[str], DescriptorPool]) -> list[Any]:
    """Return the details of a status (google.rpc.Status in the trailers) as JSON.

    `describing` returns the pool that knows a type, or raises CommandFailed.
    """
    status = next((value for name, value in trailers if name == DETAILS), None)
    if not isinstance(status, bytes):
        return []

    def known(name: str) -> DescriptorPool | None:
        try:
            return describing(name)
        except CommandFailed:
            return None

    return status_details.details_in_status(status, known)


def format_milliseconds(seconds: float) -> str:
    return format_duration(round(seconds, 4)) if seconds >= 1 else f"{seconds * 1000:.1f}ms"


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _say_metadata(mark: str, metadata: GrpcioMetadata) -> None:
    for name, value in metadata:
        shown = value if isinstance(value, str) else f"(binary) {value.hex()}"
        _say(f"{mark} {name}: {shown}")


def _metadata_json(metadata: GrpcioMetadata) -> str:
    """Return a list of pairs, because a name may be there several times. Binary values are base64."""
    pairs = [[name, value if isinstance(value, str) else base64.b64encode(value).decode()] for name, value in metadata]
    return json.dumps(pairs)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
