"""One message each way without a prefix: what the formats that are only unary have in common.

In go the one message of a call, or the status, headers and body of a reply; out come the bare message, or response
events. The status is that of the reply's headers, else that of HTTP. What the body means, `decode` knows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.codecs.error_excerpts import OPAQUE_KEPT, http_refusal
from bridge.codecs.fields import sort_fields
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE, envelope
from bridge.rpc.errors import ReplyTooLarge, UnsupportedCall, UnsupportedCompression
from bridge.rpc.events import OK_TRAILERS, Headers, Message, ResponseEvent, Trailers
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import StatusCode

MAX_BODY = 64 << 20
"""Bytes of a reply's body. What Invoke returns is bounded far below this."""


def only_message(body: bytes, message_format: str, *, payload: str) -> bytes:
    """Return the data of the one envelope in this request. `payload` names the format in errors.

    Raises UnsupportedCall, UnsupportedCompression.
    """
    if message_format != "proto":
        raise UnsupportedCall(f"payload: {payload} carries protobuf messages, this call has {message_format[:40]}")
    if not body:
        raise UnsupportedCall(f"payload: {payload} is unary, and this call has no message")
    if PREFIX_SIZE + int.from_bytes(body[1:PREFIX_SIZE], "big") != len(body):
        raise UnsupportedCall(
            f"payload: {payload} is unary, and this call has several messages: streams need payload: grpc-web or grpc"
        )
    if body[0] & COMPRESSED:
        raise UnsupportedCompression(f"payload: {payload} carries no compressed messages")
    return body[PREFIX_SIZE:]


class UnaryReader:
    """Reads one reply, in any chunks. `finish` raises HttpRefusal and what `decode` raises."""

    __slots__ = ("_body", "_convert_body", "_decode", "_fields", "_http_status", "_max_response")

    is_behind = False
    has_ended = False
    """Never before the body is over: nothing in it marks its end."""

    def __init__(
        self,
        http_status: int,
        headers: Metadata,
        *,
        decode: Callable[[bytes, str], bytes],
        max_response: int | None,
        convert: Callable[[bytes], Awaitable[bytes]] | None = None,
    ) -> None:
        """`decode`: from a body and its content type (lower case, without parameters) to a message; raises RpcError.

        `max_response`: bytes of the message. `convert`: what must happen to the body before `decode` and may take long.
        """
        self._http_status = http_status
        self._fields = sort_fields(headers)
        self._decode = decode
        self._convert_body = convert
        self._max_response = max_response
        self._body: bytes | bytearray = bytearray()

    @property
    def held(self) -> int:
        return len(self._body)

    @property
    def wants_more(self) -> bool:
        return self._has_message or len(self._body) < OPAQUE_KEPT

    @property
    def _has_message(self) -> bool:
        if self._fields.status is None:
            return 200 <= self._http_status <= 299
        return self._fields.status.code is StatusCode.OK

    def open(self) -> list[ResponseEvent]:
        return []

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Return nothing until the end: the reply is one message. Raises ReplyTooLarge."""
        if self._has_message:
            self._body += data
            if len(self._body) > MAX_BODY:
                raise ReplyTooLarge(f"the function's reply is above {MAX_BODY} bytes")
        else:
            self._body += data[: OPAQUE_KEPT - len(self._body)]
        return []

    @property
    def convert(self) -> Callable[[], Awaitable[None]] | None:
        return None if self._convert_body is None or not self._has_message else self._convert

    async def _convert(self) -> None:
        assert self._convert_body is not None
        body, self._body = bytes(self._body), b""  # held once
        self._body = await self._convert_body(body)

    def finish(self) -> list[ResponseEvent]:
        fields = self._fields
        if self._has_message:
            return [Headers(fields.metadata), self._message(), OK_TRAILERS]
        if fields.status is None:
            raise http_refusal(self._http_status, self._body)
        return [Trailers(fields.status, fields.metadata)]

    def _message(self) -> Message:
        message = self._decode(bytes(self._body), self._fields.content_type)
        if self._max_response is not None and len(message) > self._max_response:
            raise ReplyTooLarge(
                f"a response message of {len(message)} bytes is above max_response ({self._max_response} bytes)"
            )
        return Message(envelope(message))
