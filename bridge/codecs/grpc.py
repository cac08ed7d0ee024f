"""gRPC's frames without its trailers: a backend behind HTTP/1.1 that answers as a gRPC server would, if it could.

The status is that of the reply's headers (grpc-status, grpc-message, grpc-status-details-bin), else OK: what such backends
cannot say, the bridge supplies. A request needs no codec: its body is such a body already.
"""

from __future__ import annotations

import re

from bridge.codecs.fields import sort_fields
from bridge.codecs.inflation import inflater_for
from bridge.codecs.texts import ERROR_MARK, OPAQUE_KEPT, broken_off, excerpt, http_refusal
from bridge.rpc import status
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE, TRAILERS
from bridge.rpc.errors import (
    BadReply,
    CutReply,
    FunctionFailed,
    NoStatus,
    ReplyTooLarge,
    RpcError,
)
from bridge.rpc.events import Headers, Message, ResponseEvent, Trailers
from bridge.rpc.metadata import EMPTY, Metadata

_CONTENT_TYPE = re.compile(r"application/grpc(?:\+(?P<format>.+))?").fullmatch

_MAX_ERROR_TEXT = 1 << 20
"""Bytes of a runtime's report behind the messages."""

_USUAL_LIMIT = 4 << 20
"""Bytes of a message that gRPC clients take, unless told otherwise."""


class Grpc:
    """The codec."""

    is_identity = False

    def encode(self, path: str, message_format: str, body: bytes) -> bytes:  # noqa: ARG002 - the same for every method and format
        return body

    def reader(
        self,
        http_status: int,
        headers: Metadata,
        *,
        path: str,  # noqa: ARG002 - the same for every method
        accept_encoding: str | None,
        max_response: int | None,
        message_format: str,
    ) -> GrpcReader:
        return GrpcReader(
            http_status,
            headers,
            accept_encoding=accept_encoding,
            max_response=max_response,
            message_format=message_format,
        )


class GrpcReader:
    """Reads one reply, in any chunks. Raises BadReply, CutReply, ReplyTooLarge, NoStatus, HttpRefusal, FunctionFailed."""

    __slots__ = ("_body", "_failure", "_fields", "_has_body", "_headers", "_http_status", "_inflater", "_is_framed",
                 "_max_response")  # fmt: skip

    has_ended = False
    """Never before the body is over: nothing in it marks its end."""

    def __init__(
        self,
        http_status: int,
        headers: Metadata,
        *,
        accept_encoding: str | None,
        max_response: int | None,
        message_format: str = "proto",
    ) -> None:
        """As codecs take it: see Codec.reader."""
        self._http_status = http_status
        self._fields = fields = sort_fields(headers)
        self._max_response = max_response
        self._inflater = inflater_for(
            fields.encoding, accept_encoding=accept_encoding, max_response=max_response
        )
        passes_encoding = fields.encoding and not self._inflater.is_needed
        encoding = (("grpc-encoding", fields.encoding),) if passes_encoding else EMPTY
        self._headers: Headers | None = Headers((*encoding, *fields.metadata))
        """None once they are given out."""
        self._body = bytearray()
        """Bytes that do not make an envelope yet; the beginning of a body that is no gRPC."""
        self._has_body = False
        self._failure: RpcError | None = None
        """What goes wrong behind events that have to be given out first."""
        found = _CONTENT_TYPE(fields.content_type)
        self._is_framed = http_status == 200 and (found is not None or not fields.content_type)
        sent_format = found["format"] if found is not None else None
        if sent_format is not None and sent_format != message_format:
            self._failure = BadReply(
                f"the function answered in {sent_format[:40]} messages, the client speaks {message_format[:40]}"
            )

    @property
    def wants_more(self) -> bool:
        return self._is_framed or len(self._body) < OPAQUE_KEPT

    def open(self) -> list[ResponseEvent]:
        if self._fields.status is not None or not self._is_framed or self._failure is not None:
            return []
        return self._take_headers()

    def feed(self, data: bytes) -> list[ResponseEvent]:
        if not data:
            return []
        self._has_body = True
        if not self._is_framed:
            self._body += data[: OPAQUE_KEPT - len(self._body)]
            return []
        if self._failure is not None:
            raise self._failure
        events: list[ResponseEvent] = []
        try:
            self._read(data, events)
        except RpcError as error:
            if not events:
                raise
            self._failure = error
        return events

    def _read(self, data: bytes, events: list[ResponseEvent]) -> None:
        body = self._body
        body += data
        at, end = 0, len(body)
        try:
            while at < end:
                flags = body[at]
                if flags & ~COMPRESSED:
                    self._check_error_text(body, at)
                    return
                start = at + PREFIX_SIZE
                if start > end:
                    return
                size = int.from_bytes(body[at + 1 : start], "big")
                if self._max_response is not None and size > self._max_response:
                    raise ReplyTooLarge(
                        f"a response message of {size} bytes is above max_response ({self._max_response} bytes)"
                    )
                if start + size > end:
                    return
                message = bytes(body[at : start + size])
                if flags:
                    message = self._inflater.acceptable(message)
                events += self._take_headers()
                events.append(Message(message))
                at = start + size
        finally:
            del body[:at]

    def _take_headers(self) -> list[ResponseEvent]:
        headers, self._headers = self._headers, None
        return [] if headers is None else [headers]

    def finish(self) -> list[ResponseEvent]:
        fields = self._fields
        if fields.status is not None and not (self._has_body and self._is_framed):
            return [Trailers(fields.status, fields.metadata)]
        if not self._is_framed:
            raise self._not_grpc()
        if self._failure is not None and self._has_body:
            raise self._failure
        if self._body:
            raise self._unfinished()
        return [*self._take_headers(), Trailers(fields.status or status.OK)]

    def _unfinished(self) -> RpcError:
        """Why the body ends inside a message."""
        broken = broken_off(self._body)
        if broken is not None:
            return FunctionFailed(broken)
        if self._body[0] & ~COMPRESSED:
            return _no_prefix(self._body)
        return CutReply("the function's reply ends in the middle of a message")

    def _not_grpc(self) -> RpcError:
        if self._http_status != 200:
            return http_refusal(self._http_status, self._body)
        kind = self._fields.content_type[:80]
        hint = "; payload: grpc-web reads it" if kind.startswith("application/grpc-web") else ""
        return NoStatus(
            f"the function answered with content-type {kind} in place of application/grpc{hint}"
        )

    def _check_error_text(self, body: bytearray, at: int) -> None:
        """Returns if what stands in place of an envelope can be a runtime's report that the function's stream failed."""
        beginning = bytes(body[at : at + len(ERROR_MARK)])
        if ERROR_MARK.startswith(beginning) and len(body) - at <= _MAX_ERROR_TEXT:
            return
        if body[at] & TRAILERS and self._headers is None:
            raise BadReply(
                "the function's messages end in gRPC-Web trailers: set payload: grpc-web"
            )
        raise _no_prefix(body[at:])


def _no_prefix(body: bytes | bytearray) -> BadReply:
    """The classic of functions that return a bare message: a client takes its first five bytes for a prefix."""
    shown = excerpt(body[:40])
    begins = f'"{shown}"' if shown else f"bytes {body[:8].hex(' ')}"
    declared = int.from_bytes(body[1:PREFIX_SIZE].ljust(4, b"\0"), "big")
    hint = "; is it base64 without isBase64Encoded?" if shown[:4] == "AAAA" else ""
    return BadReply(
        f"the function's reply lacks the 5-byte prefix of gRPC messages: it begins with {begins}{hint}. gRPC clients say of it"
        f' "received message larger than max ({declared} vs. {_USUAL_LIMIT})". Add the prefix, or set payload: protobuf or json'
    )
