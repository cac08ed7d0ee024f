"""The caller's side of the protocols that LambdaServer speaks: gRPC-Web and Connect, in protobuf and in JSON.

A call goes in and becomes the header fields and the body of a request. The answer comes back as an HTTP reply, and
becomes the events of a gRPC response.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote

from lambda_fn import compression, metadata, transcode, wire
from lambda_fn.http import Headers
from lambda_fn.protocols.connect import CODE_NAMES
from lambda_fn.protocols.grpc_web import decode_text, frame
from lambda_fn.rpc import IDENTITY
from lambda_fn.status import INTERNAL, OK, UNIMPLEMENTED, UNKNOWN, Metadata, Refused, Status
from lambda_fn.transcode import Codec

ProtocolName = Literal["grpc-web", "grpc-web-text", "grpc-web+json", "connect", "connect+json"]

_NAMES = ("grpc-web", "grpc-web-text", "grpc-web+json", "connect", "connect+json")

_COMPRESSED, _END_OF_CONNECT, _TRAILERS = 0x01, 0x02, 0x80
_PREFIX_SIZE = 5

_CODES_OF_HTTP = {400: INTERNAL, 401: 16, 403: 7, 404: UNIMPLEMENTED, 429: 14, 502: 14, 503: 14, 504: 14}
"""gRPC's http-grpc-status-mapping.md, for answers that have no status of gRPC. Connect has the same table."""

_NOT_METADATA = frozenset(
    (
        "content-type",
        "content-length",
        "content-encoding",
        "connect-content-encoding",
        "grpc-encoding",
        "grpc-accept-encoding",
        "grpc-status",
        "grpc-message",
        "vary",
        "x-lambda-fn-cold-start",
    )
)
"""Header fields of a reply that are HTTP's, the protocol's or the bridge's."""


class OutgoingCall(NamedTuple):
    """A call as a client makes it, with all its requests."""

    method: str
    """`/package.Service/Method`."""
    metadata: Metadata
    messages: tuple[bytes, ...]
    timeout: float | None
    """Seconds."""


class RequestFields(NamedTuple):
    """What a protocol writes into an HTTP request."""

    headers: Headers
    """The protocol's own."""
    metadata: Headers
    body: bytes


class Answer(NamedTuple):
    """An HTTP reply. Its body comes in pieces."""

    status: int
    headers: Headers
    body: Iterable[bytes]


class Initial(NamedTuple):
    """Initial metadata."""

    metadata: Metadata


class Message(NamedTuple):
    """A reply message."""

    data: bytes


class End(NamedTuple):
    """The end of a call."""

    status: Status
    trailing: Metadata


ReplyEvent = Initial | Message | End
"""At most one Initial, then messages, then one End. An End alone: the reply has trailers only."""


class ProtocolClient(Protocol):
    """The caller's side of one protocol, for one method."""

    def request(self, call: OutgoingCall) -> RequestFields:
        """Write the call as a request. Raises Refused for a message that the protocol cannot carry."""
        ...

    def read(self, answer: Answer) -> Iterator[ReplyEvent]:
        """Read the answer as it comes. Raises Refused for one that is not the protocol's."""
        ...


def check(name: str) -> None:
    """Check a name. Raises ValueError for one that is not a ProtocolName."""
    if name not in _NAMES:
        raise ValueError(f"protocol {name!r} is unknown: choose one of {', '.join(_NAMES)}")


def client_of(name: ProtocolName, method: str) -> ProtocolClient:
    """Return the protocol of this name for a method."""
    family, _, suffix = name.partition("+")
    descriptor = transcode.find_method(method)
    codec = _json_codec(descriptor) if suffix == "json" else transcode.PROTO
    if family != "connect":
        return _GrpcWeb(f"application/{family}+{suffix or 'proto'}", codec, is_text=family == "grpc-web-text")
    # The content type of Connect says whether a method streams. Without a descriptor, a stream fits every method.
    streams = descriptor is None or bool(descriptor.client_streaming or descriptor.server_streaming)
    return _ConnectStream(suffix or "proto", codec) if streams else _ConnectUnary(suffix or "proto", codec)


def _json_codec(descriptor: Any) -> Codec:
    """Return the caller's codec. It writes requests in JSON, and reads replies from it."""
    if descriptor is None:
        raise Refused(UNIMPLEMENTED, "JSON needs the method's descriptor: import the generated code (*_pb2) first")

    def encode(data: bytes) -> bytes:
        return transcode.to_json(data, descriptor.input_type, prints_defaults=False)

    def decode(text: bytes) -> bytes:
        try:
            return transcode.serialized(transcode.message_from(text, descriptor.output_type))
        except Refused as refusal:  # it speaks of a request
            raise Refused(INTERNAL, f"the reply is no {descriptor.output_type.full_name} in JSON") from refusal

    return Codec(decode, encode)


# -- gRPC-Web --


class _GrpcWeb:
    def __init__(self, content_type: str, codec: Codec, *, is_text: bool) -> None:
        self._content_type = content_type
        self._codec = codec
        self._is_text = is_text

    def request(self, call: OutgoingCall) -> RequestFields:
        body = _framed(call.messages, self._codec)
        timed = () if call.timeout is None else (("grpc-timeout", _grpc_timeout(call.timeout)),)
        headers = (
            ("content-type", self._content_type),
            ("accept", self._content_type),
            ("x-grpc-web", "1"),
            ("grpc-accept-encoding", "gzip, deflate"),
            *timed,
        )
        return RequestFields(headers, metadata.to_headers(call.metadata), b64encode(body) if self._is_text else body)

    def read(self, answer: Answer) -> Iterator[ReplyEvent]:
        if _first(answer.headers, "grpc-status") is not None:
            yield _end_of(answer.headers)
            return
        if answer.status != 200:
            raise _http_failure(answer)
        yield Initial(_metadata_of(answer.headers))
        encoding = _first(answer.headers, "grpc-encoding") or IDENTITY
        chunks = _from_base64(answer.body) if self._is_text else answer.body
        for flags, data in _frames(chunks):
            if flags & _TRAILERS:
                yield _end_of(_trailer_lines(data))
                return
            yield Message(self._codec.decode(_inflated(flags, data, encoding)))
        raise Refused(UNKNOWN, "the reply has no status: its trailers are missing")


def _framed(messages: Iterable[bytes], codec: Codec) -> bytes:
    return b"".join([frame(0, codec.encode(message)) for message in messages])


def _frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield flags and content of each frame as soon as it is whole. Raises Refused for a body that ends inside one."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= _PREFIX_SIZE:
            end = _PREFIX_SIZE + int.from_bytes(held[1:_PREFIX_SIZE], "big")
            if len(held) < end:
                break
            yield held[0], bytes(held[_PREFIX_SIZE:end])
            del held[:end]
    if held:
        raise Refused(INTERNAL, "the reply ends in the middle of a message")


def _from_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for chunk in chunks:
        held += chunk
        whole = len(held) // 4 * 4
        yield decode_text(held[:whole])
        held = held[whole:]
    if held:
        raise Refused(INTERNAL, "the reply ends in the middle of its base64")


def _inflated(flags: int, data: bytes, encoding: str) -> bytes:
    return compression.inflate(data, encoding, max_size=None) if flags & _COMPRESSED else data


def _trailer_lines(data: bytes) -> Headers:
    lines = (line.partition(":") for line in data.decode("latin-1").split("\r\n") if line)
    return tuple((name.strip().lower(), value.strip(" ")) for name, _, value in lines)


def _end_of(headers: Headers) -> End:
    code = _first(headers, "grpc-status") or ""
    status = Status(int(code) if code.isdecimal() else UNKNOWN, unquote(_first(headers, "grpc-message") or ""))
    return End(status, _metadata_of(headers))


_UNITS = (("u", 1_000_000), ("m", 1_000), ("S", 1))


def _grpc_timeout(seconds: float) -> str:
    """Return the time as `grpc-timeout` has it, in the finest unit that fits eight digits (PROTOCOL-HTTP2)."""
    for unit, factor in _UNITS:
        if (amount := int(max(0.0, seconds) * factor)) < 10**8:
            return f"{amount}{unit}"
    return "99999999S"


# -- Connect --


class _ConnectUnary:
    def __init__(self, format_: str, codec: Codec) -> None:
        self._format = format_
        self._codec = codec

    def request(self, call: OutgoingCall) -> RequestFields:
        if len(call.messages) != 1:
            count = len(call.messages)
            raise Refused(UNIMPLEMENTED, f"{call.method} is unary: it takes one request, and {count} were sent")
        headers = (("content-type", f"application/{self._format}"), ("accept-encoding", "gzip"))
        body = self._codec.encode(call.messages[0])
        return RequestFields((*headers, *_connect_headers(call)), metadata.to_headers(call.metadata), body)

    def read(self, answer: Answer) -> Iterator[ReplyEvent]:
        body = b"".join(answer.body)
        plain = tuple(pair for pair in answer.headers if not pair[0].startswith("trailer-"))
        prefixed = ((name.removeprefix("trailer-"), value) for name, value in answer.headers)
        trailing = _metadata_of(
            tuple(pair for pair, sent in zip(prefixed, answer.headers, strict=True) if pair != sent)
        )
        if answer.status != 200:
            if _first(answer.headers, "content-type") != "application/json":
                raise _http_failure(answer._replace(body=(body,)))
            yield Initial(_metadata_of(plain))
            yield _connect_end(json.loads(body), trailing)
            return
        yield Initial(_metadata_of(plain))
        if encoding := _first(answer.headers, "content-encoding"):
            body = compression.inflate(body, encoding, max_size=None)
        yield Message(self._codec.decode(body))
        yield End(Status(OK), trailing)


class _ConnectStream:
    def __init__(self, format_: str, codec: Codec) -> None:
        self._content_type = f"application/connect+{format_}"
        self._codec = codec

    def request(self, call: OutgoingCall) -> RequestFields:
        headers = (("content-type", self._content_type), ("connect-accept-encoding", "gzip"))
        body = _framed(call.messages, self._codec)
        return RequestFields((*headers, *_connect_headers(call)), metadata.to_headers(call.metadata), body)

    def read(self, answer: Answer) -> Iterator[ReplyEvent]:
        if answer.status != 200:
            raise _http_failure(answer)
        yield Initial(_metadata_of(answer.headers))
        encoding = _first(answer.headers, "connect-content-encoding") or IDENTITY
        for flags, data in _frames(answer.body):
            content = _inflated(flags, data, encoding)
            if flags & _END_OF_CONNECT:
                last = json.loads(content)
                listed = (
                    (name.lower(), value) for name, values in last.get("metadata", {}).items() for value in values
                )
                yield _connect_end(last.get("error"), _metadata_of(tuple(listed)))
                return
            yield Message(self._codec.decode(content))
        raise Refused(UNKNOWN, "the reply has no status: its last envelope is missing")


def _connect_headers(call: OutgoingCall) -> Headers:
    timed = () if call.timeout is None else (("connect-timeout-ms", str(max(0, int(call.timeout * 1000)))),)
    return (("connect-protocol-version", "1"), *timed)


def _connect_end(error: Mapping[str, Any] | None, trailing: Metadata) -> End:
    if error is None:
        return End(Status(OK), trailing)
    name = error.get("code")
    code = CODE_NAMES.index(name) if name in CODE_NAMES else UNKNOWN
    status = Status(code, error.get("message", ""))
    details = [_any(detail) for detail in error.get("details", ())]
    if not details:
        return End(status, trailing)
    # google.rpc.Status: code = 1, message = 2, details = 3.
    number = wire.varint(1 << 3) + wire.varint(code)
    packed = number + wire.field(2, status.message.encode()) + b"".join(wire.field(3, detail) for detail in details)
    return End(status, (*trailing, ("grpc-status-details-bin", packed)))


def _any(detail: Mapping[str, str]) -> bytes:
    """Return a google.protobuf.Any: type_url = 1, value = 2."""
    text = detail["value"]
    value = b64decode(text + "=" * (-len(text) % 4))
    return wire.field(1, f"type.googleapis.com/{detail['type']}".encode()) + wire.field(2, value)


# -- what they share --


def _http_failure(answer: Answer) -> Refused:
    text = b"".join(answer.body)[:500].decode("utf-8", "replace").strip()
    return Refused(_CODES_OF_HTTP.get(answer.status, UNKNOWN), f"HTTP {answer.status}: {text}")


def _first(headers: Headers, name: str) -> str | None:
    return next((value for key, value in headers if key == name), None)


def _metadata_of(headers: Headers) -> Metadata:
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in _NOT_METADATA or name.startswith("access-control-"):
            continue
        if name.endswith("-bin"):
            found += [(name, metadata.decode_binary(name, part)) for part in value.split(",")]
        else:
            found.append((name, value))
    return tuple(found)
