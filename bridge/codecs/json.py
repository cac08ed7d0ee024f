"""The protobuf JSON mapping of one message each way. Unary only.

Which JSON stands for which message, a Transcode knows; here is only what surrounds it.
"""

from __future__ import annotations

from typing import Protocol

from bridge.codecs.unary import UnaryReader, only_message
from bridge.rpc.buffers import Account
from bridge.rpc.json_text import without_mark
from bridge.rpc.metadata import Metadata


class Transcode(Protocol):
    """Turns messages into JSON and back, by descriptors."""

    def to_json(self, path: str, message: bytes) -> bytes:
        """The request message of the method at this path as JSON (UTF-8). Raises UnknownMethod, MalformedRequest."""
        ...

    def from_json(self, path: str, text: bytes) -> bytes:
        """The response message in this JSON; nothing and null are the empty message. Raises UnknownMethod, BadReply."""
        ...


class Json:
    """The codec."""

    is_identity = True

    def __init__(self, transcode: Transcode) -> None:
        self._transcode = transcode

    def encode(self, path: str, message_format: str, body: bytes) -> bytes:
        message = only_message(body, message_format, payload="json")
        return self._transcode.to_json(path, message)

    def reader(
        self,
        http_status: int,
        headers: Metadata,
        *,
        path: str,
        accept_encoding: str | None,  # noqa: ARG002 - never compressed
        max_response: int | None,
        message_format: str,  # noqa: ARG002 - `encode` has seen to it
        account: Account | None = None,  # noqa: ARG002 - nothing is inflated
    ) -> UnaryReader:
        def decode(body: bytes, content_type: str) -> bytes:  # noqa: ARG001 - JSON is JSON, whatever it is called
            return self._transcode.from_json(path, without_mark(body))

        return UnaryReader(http_status, headers, decode=decode, max_response=max_response)
