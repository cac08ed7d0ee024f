"""A function's HTTP reply as it comes: chunks of a payload in; out come its head as soon as it is known, and its body.

The payload is what http_reply reads whole: the prelude form, whose body begins behind eight NULs, or the JSON object,
which has no head before its end. Chunks mean nothing: a prelude may be split anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.aws.events.http_reply import HttpReply, decode_reply
from bridge.aws.events.prelude import SEPARATOR, find_end_of_prelude
from bridge.aws.invoke import MAX_REPLY
from bridge.rpc.errors import ReplyTooLarge


class StreamedReply:
    """Reads one payload: `feed` it the chunks, then `finish`; both give the bytes of the body that they found."""

    __slots__ = ("_decode", "_held", "head")

    def __init__(self, decode: Callable[[bytes], HttpReply] = decode_reply) -> None:
        """`decode` reads a whole payload."""
        self._decode = decode
        self._held = bytearray()
        self.head: HttpReply | None = None
        """Status and headers; None until they are known."""

    @property
    def held(self) -> int:
        """Bytes that wait for the head's end."""
        return len(self._held)

    def feed(self, chunk: bytes) -> bytes:
        """Return what these bytes give. Raises BadReply, and ReplyTooLarge for a JSON object larger than Lambda's
        replies.
        """
        if self.head is not None:
            return chunk
        held = self._held
        held += chunk
        nul = find_end_of_prelude(held)
        if nul < 0:
            if len(held) > MAX_REPLY:
                raise ReplyTooLarge(f"the function's reply is no stream of messages, and above {MAX_REPLY} bytes")
            return b""
        if len(held) < nul + len(SEPARATOR):
            return b""
        return self._found()

    def finish(self) -> bytes:
        """End the payload. After this there is a head. Raises BadReply."""
        return b"" if self.head is not None else self._found()

    def _found(self) -> bytes:
        self.head = self._decode(bytes(self._held))
        self._held.clear()
        return self.head.body
