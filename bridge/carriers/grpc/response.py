"""Reads the header lists of a gRPC response: its head, its trailers, and a refusal that is not gRPC.

In: header lists as the engine returns them. Out: status, metadata for the client, and the encoding of the messages.
"""

from __future__ import annotations

from bridge.http2.events import Fields
from bridge.rpc.compression import IDENTITY
from bridge.rpc.errors import BadReply, HttpRefusal, NoStatus, RpcError
from bridge.rpc.events import EMPTY_HEADERS, Headers, Trailers
from bridge.rpc.hop import Leg, not_passed
from bridge.rpc.metadata import (
    PUSHBACK,
    Metadata,
    binary_values,
    clean_value,
    decode_binary,
    is_binary,
    is_name,
    valid_pushback,
)
from bridge.rpc.status import OK, Status, StatusCode, code_of_http_status, decode_message, parse_code
from bridge.rpc.value import FrozenValue

GRPC_CONTENT_TYPE = "application/grpc"
HTTP_OK = 200

MAX_TRAILER_VALUES = 1000
"""Values of one `-bin` field that are passed on."""

_DETAILS = "grpc-status-details-bin"
_TOO_MANY_REQUESTS = 429

_NOT_METADATA = not_passed(Leg.GRPC_REPLY) | {":status"}


class ResponseHead(FrozenValue, frozen=True):
    """The header block that opens a response."""

    http_status: int
    headers: Headers
    """Its metadata; trailing if the block ends the call."""
    status: Status | None
    """None without a grpc-status."""
    encoding: str
    """The encoding of its compressed messages."""
    content_type: str
    """The content type in lower case, without parameters. It is empty if the response names none."""

    @property
    def is_grpc(self) -> bool:
        """Whether messages may follow."""
        kind = self.content_type
        return kind in ("", GRPC_CONTENT_TYPE, f"{GRPC_CONTENT_TYPE}+proto") and (
            self.http_status == HTTP_OK or bool(kind)
        )


class HeadReader:
    """Reads the header lists of one server's responses. It remembers the last ones, because most are equal."""

    __slots__ = ("_last_end", "_last_fields", "_last_head", "_last_trailers", "_name", "_throttled_as")

    def __init__(self, name: str, *, throttled_as: StatusCode) -> None:
        """`name` is the server's in messages. `throttled_as` is the code for HTTP 429."""
        self._name = name
        self._throttled_as = throttled_as
        self._last_fields: Fields = ()
        """The fields that opened the last response, and (below) their meaning."""
        self._last_head: ResponseHead | None = None
        self._last_trailers: Fields = ()
        self._last_end: Trailers | None = None

    def head(self, fields: Fields) -> ResponseHead:
        """Read the head of a response."""
        if fields is not self._last_fields or self._last_head is None:
            self._last_fields, self._last_head = fields, _read_head(fields)
        return self._last_head

    def end(self, fields: Fields) -> Trailers | None:
        """Read trailers. Returns None without a grpc-status."""
        if fields is not self._last_trailers:
            status, metadata = _status_in(fields), _from_wire(fields)
            self._last_trailers = fields
            self._last_end = None if status is None else Trailers(status, metadata)
        return self._last_end

    def refusal(self, head: ResponseHead) -> RpcError:
        """Return the error for a response that is not gRPC and has no status."""
        if head.http_status != HTTP_OK:
            return self.http_refusal(head.http_status)
        kind = head.content_type[:80]
        if kind.startswith(f"{GRPC_CONTENT_TYPE}+"):
            return BadReply(f"{self._name} answered in {kind} messages, it was sent {GRPC_CONTENT_TYPE}")
        return NoStatus(f"{self._name} answered with content-type {kind} in place of {GRPC_CONTENT_TYPE}")

    def http_refusal(self, http_status: int) -> HttpRefusal:
        """Return the error for an HTTP status without a gRPC status."""
        is_throttled = http_status == _TOO_MANY_REQUESTS
        return HttpRefusal(
            f"{self._name} answered HTTP {http_status} and no gRPC status",
            code=self._throttled_as if is_throttled else code_of_http_status(http_status),
        )


def to_wire(metadata: Metadata) -> Metadata:
    """Metadata as a server takes it."""
    fields: list[tuple[str, str]] = []
    for name, value in metadata:
        if is_binary(name):
            fields += [(name, part) for part in binary_values(value, MAX_TRAILER_VALUES)]
        else:
            fields.append((name, clean_value(value)))
    return tuple(fields)


def _read_head(fields: Fields) -> ResponseHead:
    content_type, encoding = "", IDENTITY
    for name, value in fields:
        if name == "content-type":
            content_type = value.partition(";")[0].strip().lower()
        elif name == "grpc-encoding":
            encoding = clean_value(value) or IDENTITY
    metadata = _from_wire(fields[1:])
    headers = Headers(metadata) if metadata else EMPTY_HEADERS
    return ResponseHead(int(fields[0][1]), headers, _status_in(fields), encoding, content_type)


def _status_in(fields: Fields) -> Status | None:
    """Return the status, if there is a grpc-status. The first value counts."""
    code: StatusCode | None = None
    message, details = "", b""
    for name, value in reversed(fields):
        if name == "grpc-status":
            code = parse_code(value)
        elif name == "grpc-message":
            message = decode_message(value)
        elif name == _DETAILS:
            details = _bytes_of(value)
    if code is None:
        return None
    return OK if code is StatusCode.OK and not message and not details else Status(code, message, details)


def _bytes_of(details: str) -> bytes:
    try:
        return decode_binary(details)
    except ValueError:
        return b""  # bad details must not lose the code and the message


def _from_wire(fields: Fields) -> Metadata:
    """Metadata for the client, without fields of the call or of one connection, and without unreadable values."""
    metadata: list[tuple[str, str]] = []
    for name, value in fields:
        if name in _NOT_METADATA:
            continue
        if name.startswith("grpc-"):
            # The bridge inflates, so the server's encodings do not concern the client.
            if name == PUSHBACK:
                metadata.append((name, valid_pushback(value)))
        elif is_binary(name):
            metadata += [(name, part) for part in binary_values(value, MAX_TRAILER_VALUES)]
        elif is_name(name):
            metadata.append((name, clean_value(value)))
    return tuple(metadata)
