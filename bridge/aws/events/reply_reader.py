"""The replies of one function, most of which differ in nothing but their body: what stands around it is read once.

In goes the payload that Invoke brought back, out comes what a decoder of its shape would say of it.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable

from bridge.aws.events.http_reply import HttpReply
from bridge.rpc.errors import BadReply
from bridge.rpc.metadata import EMPTY, Metadata

_LONGEST_SURROUNDINGS = 4096
"""Bytes around a body that are remembered."""
_MARK_SIZE = 24
"""Bytes of a body whose base64 is used to find it in the payload."""
_OTHERS = ((b"TWFu", b"Man"), (b"QUJD", b"ABC"))
"""Texts to put in a body's place, and what they are the base64 of. Two: a body or a field's name may happen to be the
one.
"""


class ReplyReader:
    """Belongs to one target."""

    __slots__ = ("_after", "_before", "_decode", "_headers", "_http_status", "_misses")

    def __init__(self, decode: Callable[[bytes], HttpReply]) -> None:
        """`decode`: reads any payload; raises BadReply."""
        self._decode = decode
        # The payload that was learned last: what stands before and after its body's base64, and what that says.
        self._before = self._after = b""
        self._http_status = 0
        self._headers: Metadata = EMPTY
        self._misses = 0
        """Payloads since the last one that matched the learned one."""

    def read(self, payload: bytes) -> HttpReply:
        """Return the reply in this payload. Raises BadReply."""
        begin, end = len(self._before), len(payload) - len(self._after)
        if 0 < begin <= end and payload.startswith(self._before) and payload.endswith(self._after):
            try:
                # Strict: so there is no quote in it, and no escape; it is all of the body and nothing else.
                body = a2b_base64(payload[begin:end], strict_mode=True)
            except Base64Error:
                return self._decode(payload)
            self._misses = 0
            return HttpReply(self._http_status, self._headers, body)
        reply = self._decode(payload)
        self._misses += 1
        # If no two replies are alike, learn less and less often, because learning costs as much as reading.
        if not self._misses & (self._misses - 1):
            self._learn(payload, reply)
        return reply

    def _learn(self, payload: bytes, reply: HttpReply) -> None:
        """Remember what stands around the body, if its base64 stands in the payload as it is."""
        at = payload.find(b'"' + b2a_base64(reply.body[:_MARK_SIZE], newline=False)) + 1
        end = payload.find(b'"', at)
        if not reply.body or not at or at + len(payload) - end > _LONGEST_SURROUNDINGS:
            return
        before, after = payload[:at], payload[end:]
        # Check that it is the body: another text in its place must change the body and nothing else.
        for text, body in _OTHERS:
            try:
                other = self._decode(before + text + after)
            except BadReply:
                return
            if other != HttpReply(reply.http_status, reply.headers, body):
                return
        self._before, self._after = before, after
        self._http_status, self._headers = reply.http_status, reply.headers
