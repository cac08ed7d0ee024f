"""The bare protobuf message each way: functions written for Envoy's grpc_http1_reverse_bridge with withheld frames.

Unary only. Where that filter knows the HTTP status alone, a grpc-status among the reply's headers counts here, with its
message and details.
"""

from __future__ import annotations

from bridge.codecs.codec import BodyReader, ReplyOptions
from bridge.codecs.unary import UnaryReader, only_message
from bridge.rpc.errors import NoStatus
from bridge.rpc.metadata import Metadata


class Protobuf:
    """The codec."""

    convert = None

    def encode(self, path: str, message_format: str, body: bytes) -> bytes:  # noqa: ARG002 - the same for every method
        return only_message(body, message_format, payload="protobuf")

    def reader(self, http_status: int, headers: Metadata, options: ReplyOptions) -> BodyReader:
        return UnaryReader(http_status, headers, decode=_decode, max_response=options.max_response)

    def read(self, http_status: int, headers: Metadata, body: bytes, options: ReplyOptions) -> BodyReader:  # noqa: ARG002 - nothing is looked at before `feed`
        return self.reader(http_status, headers, options)


def _decode(body: bytes, content_type: str) -> bytes:
    """Whether the content type may mean protobuf. Envoy's filter lets its configuration choose the name, so several are
    accepted.
    """
    if content_type.startswith("text/") or content_type.endswith(("/json", "+json")):
        raise NoStatus(
            f"the function answered with content-type {content_type[:80]} in place of application/x-protobuf"
        )
    return body
