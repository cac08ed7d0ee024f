"""The protobuf JSON mapping of one message each way. Unary only.

Which JSON stands for which message, a Transcode knows; here is only what surrounds it.
"""

from __future__ import annotations

from typing import Protocol

from bridge.codecs.codec import BodyReader, ReplyOptions
from bridge.codecs.unary import MAX_BODY, UnaryReader, only_message
from bridge.rpc.buffers import Account
from bridge.rpc.json_text import without_mark
from bridge.rpc.metadata import Metadata


class Transcode(Protocol):
    """Turns messages into JSON and back, by descriptors. It may take long: other calls go on meanwhile."""

    async def to_json(self, path: str, message: bytes, *, max_size: int, account: Account) -> bytes:
        """Return the request message of the method at this path as JSON (UTF-8) of at most `max_size` bytes. `account`
        holds it.

        Raises UnknownMethod, MalformedRequest, MessageTooLarge, Overloaded, ConversionFailed.
        """
        ...

    async def from_json(self, path: str, text: bytes, *, max_size: int, account: Account) -> bytes:
        """Return the response message in this JSON, of at most `max_size` bytes. Nothing and null are the empty
        message. `account` holds it.

        Raises UnknownMethod, BadReply, ReplyTooLarge, Overloaded, ConversionFailed.
        """
        ...


class Json:
    """The codec."""

    def __init__(self, transcode: Transcode, *, max_request: int = MAX_BODY) -> None:
        """`max_request`: bytes of JSON that a request may become."""
        self._transcode = transcode
        self._max_request = max_request

    def encode(self, path: str, message_format: str, body: bytes) -> bytes:  # noqa: ARG002 - `convert` needs the path
        return only_message(body, message_format, payload="json")

    async def convert(self, path: str, body: bytes, account: Account) -> bytes:
        """See Codec.convert."""
        return await self._transcode.to_json(path, body, max_size=self._max_request, account=account)

    def reader(self, http_status: int, headers: Metadata, options: ReplyOptions) -> BodyReader:
        path, limit, account = options.path, options.max_response, options.account
        max_size = MAX_BODY if limit is None else limit

        async def convert(body: bytes) -> bytes:
            assert account is not None
            return await self._transcode.from_json(path, without_mark(body), max_size=max_size, account=account)

        return UnaryReader(http_status, headers, decode=_decode, convert=convert, max_response=limit)

    def read(self, http_status: int, headers: Metadata, body: bytes, options: ReplyOptions) -> BodyReader:  # noqa: ARG002 - nothing is looked at before `feed`
        return self.reader(http_status, headers, options)


def _decode(body: bytes, content_type: str) -> bytes:  # noqa: ARG001 - JSON is JSON, whatever it is called
    """Return the body as it is: it has been converted already."""
    return body
