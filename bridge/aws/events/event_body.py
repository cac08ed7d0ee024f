"""How the body of a call travels in an event: as what it is labelled, as text or base64, and how much of it Lambda
takes.

One BodyKind for each payload format; the shapes of events put it where theirs belongs. Knows nothing of what the body
holds.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping

from msgspec.json import Encoder

from bridge.aws.invoke import MAX_REQUEST
from bridge.rpc.buffers import Account
from bridge.rpc.errors import PayloadTooLarge
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.rpc.value import FrozenValue

_encode = Encoder().encode


def message_format_of(content_type: str) -> str:
    """Return the `X` of `application/grpc+X`, or `proto` if it has none. Parameters do not count."""
    if content_type == "application/grpc":
        return "proto"
    return content_type.partition(";")[0].partition("+")[2].strip().lower() or "proto"


class BodyKind(FrozenValue, frozen=True):
    """What an HTTP request says of its body."""

    media_type: str
    names_format: bool = False
    """Whether the message format stands behind the type, as in `+proto`."""
    is_text: bool = False
    """Whether it is UTF-8 text, which JSON carries as it is; bytes travel as base64."""
    marks: Metadata = EMPTY
    """Further headers that such requests have."""

    def content_type(self, sent: str) -> str:
        """Return the content type for the function, from the client's."""
        return f"{self.media_type}+{message_format_of(sent)}" if self.names_format else self.media_type


GRPC_WEB = BodyKind("application/grpc-web", names_format=True, marks=(("x-grpc-web", "1"),))
GRPC = BodyKind("application/grpc", names_format=True, marks=(("te", "trailers"),))
PROTOBUF = BodyKind("application/x-protobuf")
JSON = BodyKind("application/json", is_text=True)


_SMALL_EVENT = 4 << 10
"""Bytes of an event that a call's own cost covers (buffers.CALL_COST)."""


def with_body(start: bytes, body: bytes, account: Account, *, is_text: bool) -> bytes:
    """Return the event, given all of it that stands before the body's string. `account`: of the call, which holds the
    event.

    Raises PayloadTooLarge, BuffersFull.
    """
    if is_text:
        text = _encode(body.decode())
        size = len(start) + len(text) + 1
        if size > _SMALL_EVENT:
            _make_room(size, body, account)
        return b"".join((start, text, b"}"))
    # Measured before the base64 is made.
    size = len(start) + 4 * ((len(body) + 2) // 3) + 3
    if size > _SMALL_EVENT:
        _make_room(size, body, account)
    return b"".join((start, b'"', b2a_base64(body, newline=False), b'"}'))


def object_with_body(event: Mapping[str, object], body: bytes, account: Account, *, is_text: bool) -> bytes:
    """Return the event, given all of its other fields. Raises PayloadTooLarge, BuffersFull."""
    return with_body(_encode(event)[:-1] + b',"body":', body, account, is_text=is_text)


def _make_room(size: int, body: bytes, account: Account) -> None:
    """For an event of so many bytes, which is large."""
    if size >= MAX_REQUEST:
        raise PayloadTooLarge(
            f"the request of {len(body)} bytes makes an event of {size} bytes, and Lambda takes"
            f" at most {MAX_REQUEST - 1}: send less in one call"
        )
    account.hold(size)
