"""gRPC's frames without its trailers: a backend behind HTTP/1.1 that answers as a gRPC server would, if it could.

The status is that of the reply's headers (grpc-status, grpc-message, grpc-status-details-bin), else OK: what such
backends cannot say, the bridge supplies. A request needs no codec: its body is such a body already.
"""

from __future__ import annotations

import re

from bridge.codecs.codec import BodyReader, ReplyOptions
from bridge.codecs.enveloped import EnvelopedBody, wrong_format
from bridge.codecs.error_excerpts import broken_off, excerpt, http_refusal
from bridge.codecs.fields import sort_fields
from bridge.rpc import status
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE, TRAILERS
from bridge.rpc.errors import BadReply, FunctionFailed, NoStatus, RpcError
from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.metadata import Metadata

_CONTENT_TYPE = re.compile(r"application/grpc(?:\+(?P<format>.+))?").fullmatch

_USUAL_LIMIT = 4 << 20
"""Bytes of a message that gRPC clients take, unless told otherwise."""


class GrpcReader:
    """Reads one reply, in any chunks. Raises BadReply, ReplyTooLarge, NoStatus, HttpRefusal, FunctionFailed."""

    __slots__ = ("_body", "_fields", "_http_status")

    has_ended = False
    convert = None
    """Never before the body is over: nothing in it marks its end."""

    def __init__(self, http_status: int, headers: Metadata, options: ReplyOptions) -> None:
        self._http_status = http_status
        self._fields = sort_fields(headers)
        content_type = self._fields.content_type
        found = _CONTENT_TYPE(content_type)
        self._body = EnvelopedBody(
            self._fields,
            options,
            max_trailers=0,
            is_framed=http_status == 200 and (found is not None or not content_type),
            failure=wrong_format(found, options.message_format),
        )

    @property
    def held(self) -> int:
        return len(self._body)

    @property
    def is_behind(self) -> bool:
        return self._body.is_behind

    @property
    def wants_more(self) -> bool:
        return self._body.wants_more

    def open(self) -> list[ResponseEvent]:
        return self._body.open() if self._fields.status is None else []

    def feed(self, data: bytes) -> list[ResponseEvent]:
        return self._body.feed(data, self._not_an_envelope) if data or self._body.is_behind else []

    def finish(self) -> list[ResponseEvent]:
        fields, body = self._fields, self._body
        if fields.status is not None and not (body.has_begun and body.is_framed):
            return [Trailers(fields.status, fields.metadata)]
        if not body.is_framed:
            raise self._not_grpc()
        if body.failure is not None and body.has_begun:
            raise body.failure
        if body.rest:
            raise self._unfinished()
        return [*body.take_headers(), Trailers(fields.status or status.OK)]

    def _unfinished(self) -> RpcError:
        """Why the body ends inside a message."""
        broken = broken_off(self._body.rest)
        if broken is not None:
            return FunctionFailed(broken)
        if self._body.rest[0] & ~COMPRESSED:
            return _no_prefix(self._body.rest)
        return BadReply("the function's reply ends in the middle of a message")

    def _not_grpc(self) -> RpcError:
        if self._http_status != 200:
            return http_refusal(self._http_status, self._body.rest)
        kind = self._fields.content_type[:80]
        hint = "; payload: grpc-web reads it" if kind.startswith("application/grpc-web") else ""
        return NoStatus(f"the function answered with content-type {kind} in place of application/grpc{hint}")

    def _not_an_envelope(self, body: bytes | bytearray, at: int) -> BadReply:
        if body[at] & TRAILERS and self._body.headers is None:
            return BadReply("the function's messages end in gRPC-Web trailers: set payload: grpc-web")
        return _no_prefix(body[at:])


class Grpc:
    """The codec."""

    encode = None
    convert = None
    reader = GrpcReader

    def read(self, http_status: int, headers: Metadata, body: bytes, options: ReplyOptions) -> BodyReader:  # noqa: ARG002 - the reader takes the body in parts
        return GrpcReader(http_status, headers, options)


def _no_prefix(body: bytes | bytearray) -> BadReply:
    """Explain a common mistake: the function returns a bare message, and clients read five bytes as a prefix."""
    shown = excerpt(body[:40])
    begins = f'"{shown}"' if shown else f"bytes {body[:8].hex(' ')}"
    declared = int.from_bytes(body[1:PREFIX_SIZE].ljust(4, b"\0"), "big")
    hint = "; is it base64 without isBase64Encoded?" if shown[:4] == "AAAA" else ""
    return BadReply(
        f"the function's reply lacks the 5-byte prefix of gRPC messages: it begins with {begins}{hint}. "
        "gRPC clients say of it"
        f' "received message larger than max ({declared} vs. {_USUAL_LIMIT})". Add the prefix, '
        "or set payload: protobuf or json"
    )
