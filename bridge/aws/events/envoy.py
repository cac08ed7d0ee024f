"""The event and the reply of Envoy's aws_lambda filter, so that functions written for it move over: JSON in snake case.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/aws_lambda_filter
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import astuple

from bridge.aws.events.event_body import GRPC_WEB, BodyKind, object_with_body
from bridge.aws.events.event_headers import HeaderWriter
from bridge.aws.events.http_reply import FieldValues, HttpReply, ReplyObject, reply_of
from bridge.rpc.call import CallFacts
from bridge.rpc.hop import forwarded_cert
from bridge.rpc.metadata import Metadata


class EnvoyEventEncoder:
    """Encodes calls as events."""

    __slots__ = ("_headers", "_is_text")

    def __init__(self, instance: str, kind: BodyKind = GRPC_WEB) -> None:  # noqa: ARG002 - all shapes are made alike; this one has no request id
        self._headers = HeaderWriter(kind)
        self._is_text = kind.is_text

    def encode(
        self,
        call: CallFacts,
        metadata: Metadata,
        body: bytes,
        *,
        timeout: float | None,
        now: float,  # noqa: ARG002 - this shape tells no time
    ) -> bytes:
        """Return the event. The arguments are those of http_v2. Raises PayloadTooLarge."""
        _, headers = self._headers.write_ready(call, metadata, timeout=timeout)
        if call.peer.certificate is not None:
            headers["x-forwarded-client-cert"] = forwarded_cert(call.peer.certificate)
        event = {
            "raw_path": call.path,
            "method": "POST",
            "headers": self._headers.constant | headers,
            "query_string_parameters": {},
            "is_base64_encoded": not self._is_text,
        }
        return object_with_body(event, body, call, is_text=self._is_text)


class _Reply(Struct, gc=False):
    """The fields of ReplyObject under Envoy's names."""

    status_code: int | str | None = None
    headers: FieldValues | None = None
    multi_value_headers: FieldValues | None = None
    cookies: list[str] | None = None
    body: str | None = None
    is_base64_encoded: bool | None = None


_EXPECTED = "expected an object with status_code, headers, body and is_base64_encoded"

_decode = Decoder(_Reply).decode


def decode_envoy_reply(payload: bytes) -> HttpReply:
    """Return the reply in this payload. Raises BadReply."""
    return reply_of(payload, _decode_object, expected=_EXPECTED)


def _decode_object(text: bytes) -> ReplyObject:
    return ReplyObject(*astuple(_decode(text)))
