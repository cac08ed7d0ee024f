"""A reply's body that is made of envelopes, read while it comes: what gRPC-Web and gRPC's frames have in common.

In go bytes in any chunks; out come Headers and Messages, and the trailers' envelope where the format has one. The
format's reader interprets the trailers, and bytes that are not an envelope.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from bridge.codecs.codec import ReplyOptions
from bridge.codecs.error_excerpts import ERROR_MARK, OPAQUE_KEPT
from bridge.codecs.fields import ReplyFields
from bridge.codecs.inflation import inflater_for
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE, TRAILERS
from bridge.rpc.errors import BadReply, ReplyTooLarge, RpcError
from bridge.rpc.events import EMPTY_HEADERS, Headers, Message, ResponseEvent

MAX_REPORT = 1 << 20
"""Bytes of a runtime's report behind the messages."""

INFLATED_AT_ONCE = 256 << 10
"""Bytes of messages that one `feed` inflates: some tenths of a millisecond. The rest waits for the next one."""

_COST_OF_MESSAGE = 256
"""The fixed cost of a message, as a number of inflated bytes that take as long."""

NotGrpc = Callable[[bytes | bytearray, int], BadReply]
"""Takes a body, and the index in it where no envelope begins that the format knows."""


def wrong_format(found: re.Match[str] | None, message_format: str) -> BadReply | None:
    """Return what is wrong with a reply whose content type, as matched, names another `format` than the client's."""
    sent = found["format"] if found is not None else None
    if sent is None or sent == message_format:
        return None
    return BadReply(f"the function answered in {sent[:40]} messages, the client speaks {message_format[:40]}")


class EnvelopedBody:
    """Belongs to one reply; its length is the bytes held."""

    __slots__ = (
        "_inflated",
        "_inflater",
        "_inflating",
        "_known_flags",
        "_max_response",
        "_max_trailers",
        "failure",
        "has_begun",
        "headers",
        "is_framed",
        "rest",
        "trailers",
    )

    def __init__(
        self,
        fields: ReplyFields,
        options: ReplyOptions,
        *,
        max_trailers: int,
        is_framed: bool,
        failure: BadReply | None,
    ) -> None:
        """`max_trailers`: bytes, inflated; 0 for formats that have none. `is_framed`: whether there are envelopes.
        `failure`: what is wrong before the body begins.
        """
        self._known_flags = COMPRESSED | TRAILERS if max_trailers else COMPRESSED
        self._max_trailers = max_trailers
        self._max_response = options.max_response
        self._inflater = inflater_for(
            fields.encoding,
            accept_encoding=options.accept_encoding,
            max_response=options.max_response,
            account=options.account,
        )
        self._inflating: Iterator[bytes] | None = None
        """The rest of the message that is being inflated, and (below) its beginning."""
        self._inflated: list[bytes] = []
        self.is_framed = is_framed
        self.failure: RpcError | None = failure
        """An error to raise once earlier events have been returned."""
        self.headers: Headers | None = self._make_headers(fields)
        """The headers, or None once they have been returned."""
        self.rest = bytearray()
        """Bytes that do not make an envelope yet; the beginning of a body without envelopes."""
        self.trailers: bytes | None = None
        """As the last envelope holds them."""
        self.has_begun = False

    def _make_headers(self, fields: ReplyFields) -> Headers:
        if fields.encoding and not self._inflater.is_needed:
            return Headers((("grpc-encoding", fields.encoding), *fields.metadata))
        return Headers(fields.metadata) if fields.metadata else EMPTY_HEADERS

    def __len__(self) -> int:
        return len(self.rest)

    @property
    def wants_more(self) -> bool:
        """Whether more of the body can change the outcome."""
        return self.is_framed or len(self) < OPAQUE_KEPT

    @property
    def is_behind(self) -> bool:
        """Whether bytes that came wait to be inflated. `feed` goes on with them, given more bytes or none."""
        return self._inflating is not None

    def open(self) -> list[ResponseEvent]:
        """Return the Headers, before any of the body has come, if messages are to be expected."""
        return self.take_headers() if self.is_framed and self.failure is None else []

    def take_headers(self) -> list[ResponseEvent]:
        """Return the Headers, if they have not been given out."""
        headers, self.headers = self.headers, None
        return [] if headers is None else [headers]

    def feed(self, data: bytes, not_grpc: NotGrpc) -> list[ResponseEvent]:
        """Return the events that these bytes complete. Raises BadReply, ReplyTooLarge."""
        self.has_begun = True
        if not self.is_framed:
            self.rest += data[: OPAQUE_KEPT - len(self)]
            return []
        if self.failure is not None:
            raise self.failure
        events: list[ResponseEvent] = []
        try:
            self._cut(data, events, not_grpc)
        except RpcError as error:
            self._inflating = None
            self.fail(error, events)
        return events

    def fail(self, error: RpcError, events: list[ResponseEvent]) -> None:
        """Raise the error, or keep it until these events have been returned."""
        if not events:
            raise error
        self.failure = error

    def _cut(self, data: bytes, events: list[ResponseEvent], not_grpc: NotGrpc) -> None:
        """Cuts what has come into envelopes, along an index: the buffer moves once a chunk, not once a message."""
        left = INFLATED_AT_ONCE
        if self._inflating is not None:
            left = self._inflate(self._inflating, events, left)
            if self._inflating is not None:
                self.rest += data
                return
        body: bytes | bytearray = data
        if self.rest:
            self.rest += data
            body = self.rest
        at, end = 0, len(body)
        try:
            while at < end:
                if self.trailers is not None:
                    raise BadReply("the function's reply goes on behind its trailers")
                flags = body[at]
                if flags & ~self._known_flags:
                    if not _may_be_report(body, at):
                        raise not_grpc(body, at)
                    break
                start = at + PREFIX_SIZE
                if start > end:
                    break
                size = int.from_bytes(body[at + 1 : start], "big")
                limit = self._max_trailers if flags & TRAILERS else self._max_response
                if limit is not None and size > limit:
                    raise _too_large(flags, size, limit)
                if start + size > end:
                    break
                if flags & TRAILERS:
                    block = bytes(body[start : start + size])
                    if flags & COMPRESSED:
                        block = self._inflater.inflate_trailers(block, self._max_trailers)
                    self.trailers = block
                elif flags and self._inflater.must_inflate():
                    self._inflating = self._inflater.pieces(bytes(body[start : start + size]))
                    left = self._inflate(self._inflating, events, left)
                else:
                    if self.headers is not None:
                        events += self.take_headers()
                    events.append(Message(bytes(body[at : start + size])))
                at = start + size
                if self._inflating is not None:
                    break
        finally:
            if self.rest:
                del self.rest[:at]
            elif at < end:
                self.rest += body[at:]

    def _inflate(self, inflating: Iterator[bytes], events: list[ResponseEvent], left: int) -> int:
        """Inflate about `left` bytes of a message, and add its events if it is whole then. Returns how many bytes may
        still be inflated at once.
        """
        if left <= 0:
            return left
        for piece in inflating:
            self._inflated.append(piece)
            left -= len(piece)
            if left <= 0:
                return left
        size = sum(map(len, self._inflated))
        message = b"".join((size.to_bytes(PREFIX_SIZE, "big"), *self._inflated))  # the flags are 0
        self._inflating = None
        self._inflated.clear()
        if self.headers is not None:
            events += self.take_headers()
        events.append(Message(message))
        return left - _COST_OF_MESSAGE


def _may_be_report(body: bytes | bytearray, at: int) -> bool:
    """Whether what stands in place of an envelope can be a runtime's report that the function's stream failed."""
    beginning = bytes(body[at : at + len(ERROR_MARK)])
    return ERROR_MARK.startswith(beginning) and len(body) - at <= MAX_REPORT


def _too_large(flags: int, size: int, limit: int) -> ReplyTooLarge:
    if flags & TRAILERS:
        return ReplyTooLarge(f"the function's trailers of {size} bytes are above {limit}")
    return ReplyTooLarge(f"a response message of {size} bytes is above max_response ({limit} bytes)")
