"""The two tables that Lambda targets are made from: payload formats and event shapes by their names in the
configuration.

`payload` names the format of a body: its codec, and its content type. `event` names the event around the body. Every
payload works with every event shape but `raw`. A `raw` event is not an HTTP request, so RawTarget serves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from bridge.aws.events import alb, envoy, event_body, http_reply, http_v1, http_v2
from bridge.aws.events.event_body import BodyKind
from bridge.aws.events.http_reply import HttpReply
from bridge.aws.invoke import MAX_REQUEST
from bridge.codecs.codec import Codec
from bridge.codecs.grpc import Grpc
from bridge.codecs.grpc_web import GrpcWeb
from bridge.codecs.json import Json, Transcode
from bridge.codecs.protobuf import Protobuf
from bridge.config import schema
from bridge.rpc.call import Call
from bridge.rpc.metadata import Metadata
from bridge.targets.whole_request import CompressionMode


class Payload(NamedTuple):
    codec: Codec
    kind: BodyKind

    def compression(self, configured: CompressionMode) -> CompressionMode:
        """Return the mode in which a target with this payload reads its requests."""
        return "identity" if self.codec.is_identity else configured


GRPC_WEB_PAYLOAD = Payload(GrpcWeb(), event_body.GRPC_WEB)

_PAYLOADS: Mapping[schema.PayloadName, Payload] = {
    "grpc-web": GRPC_WEB_PAYLOAD,
    "grpc": Payload(Grpc(), event_body.GRPC),
    "protobuf": Payload(Protobuf(), event_body.PROTOBUF),
}


def payload_of(
    name: schema.PayloadName,
    transcode: Transcode | None = None,
    *,
    max_json: int = MAX_REQUEST - 1,
) -> Payload:
    """`transcode` is needed by `json`. `max_json` bounds the JSON of a request (bytes); the default is what fits into
    an event.
    """
    if name != "json":
        return _PAYLOADS[name]
    assert transcode is not None
    return Payload(Json(transcode, max_request=max_json), event_body.JSON)


class EventEncoder(Protocol):
    """Encodes calls as events of one shape."""

    def encode(self, call: Call, metadata: Metadata, body: bytes, *, timeout: float | None, now: float) -> bytes:
        """Return the event's bytes. `metadata` and `body` are for the function, `timeout` is seconds left, `now` is
        wall time. Raises PayloadTooLarge.
        """
        ...


class EventShape(NamedTuple):
    new_encoder: Callable[[str, BodyKind], EventEncoder]
    """Makes an encoder. Takes the prefix of request ids and the body's kind."""
    decode_reply: Callable[[bytes], HttpReply]
    """Raises BadReply."""


HTTP_V2 = EventShape(http_v2.HttpV2EventEncoder, http_reply.decode_reply)

EVENTS: Mapping[schema.EventShape, EventShape] = {
    "http-v2": HTTP_V2,
    "http-v1": EventShape(http_v1.HttpV1EventEncoder, http_reply.decode_reply),
    "alb": EventShape(alb.AlbEventEncoder, http_reply.decode_reply),
    "envoy": EventShape(envoy.EnvoyEventEncoder, envoy.decode_envoy_reply),
}
