"""The payload formats and the event shapes, one row each: what `payload` and `event` may be, and what serves them.

A payload format says how a body looks: its codec and its content type. An event shape is the event around that body.
Every format goes in every shape that is an HTTP request. `raw` is not a request: the message alone is the event, so it
needs a format whose messages are JSON values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from bridge.aws.events import alb, envoy, event_body, http_reply, http_v1, http_v2
from bridge.aws.events.event_body import BodyKind
from bridge.aws.events.http_reply import HttpReply
from bridge.codecs.codec import Codec
from bridge.codecs.grpc import Grpc
from bridge.codecs.grpc_web import GrpcWeb
from bridge.codecs.json import Json, Transcode
from bridge.codecs.protobuf import Protobuf
from bridge.rpc.call import CallFacts
from bridge.rpc.metadata import Metadata

# -- payload formats ---------------------------------------------------------------------------------------------------


class ConvertingCodec(Protocol):
    """Makes the codec of a format whose messages are converted."""

    def __call__(self, transcode: Transcode, *, max_request: int) -> Codec:
        """Return the codec for one target. `max_request` bounds what a request is converted into (bytes)."""
        ...


class PayloadFormat(NamedTuple):
    """A row of PAYLOADS: one format of the bytes that a target takes and gives."""

    kind: BodyKind
    """What an HTTP request says of such a body."""
    codec: Codec | None
    """None: messages are converted, and `converting` makes the codec of each target."""
    converting: ConvertingCodec | None = None
    is_json: bool = False
    """Whether a body is a JSON value, so that it may be a whole event."""

    @property
    def needs_descriptors(self) -> bool:
        """Whether messages are converted. The keys `descriptors` and `json` are for this."""
        return self.converting is not None


PAYLOADS: Mapping[str, PayloadFormat] = {
    "grpc-web": PayloadFormat(event_body.GRPC_WEB, GrpcWeb()),
    "grpc": PayloadFormat(event_body.GRPC, Grpc()),
    "protobuf": PayloadFormat(event_body.PROTOBUF, Protobuf()),
    "json": PayloadFormat(event_body.JSON, None, converting=Json, is_json=True),
}

# -- event shapes ------------------------------------------------------------------------------------------------------


class EventEncoder(Protocol):
    """Encodes calls as events of one shape."""

    def encode(self, call: CallFacts, metadata: Metadata, body: bytes, *, timeout: float | None, now: float) -> bytes:
        """Return the event's bytes. `metadata` and `body` are for the function, `timeout` is seconds left, `now` is
        wall time. Raises PayloadTooLarge.
        """
        ...


class EventShape(NamedTuple):
    """A row of EVENTS: one shape of the event that carries a call to a function."""

    new_encoder: Callable[[str, BodyKind], EventEncoder]
    """Makes an encoder. Takes the prefix of request ids and the body's kind."""
    decode_reply: Callable[[bytes], HttpReply] = http_reply.decode_reply
    """Raises BadReply."""


EVENTS: Mapping[str, EventShape] = {
    "http-v2": EventShape(http_v2.HttpV2EventEncoder),
    "http-v1": EventShape(http_v1.HttpV1EventEncoder),
    "alb": EventShape(alb.AlbEventEncoder),
    "envoy": EventShape(envoy.EnvoyEventEncoder, envoy.decode_envoy_reply),
}
"""Those that are HTTP requests."""

RAW = "raw"
"""The shape that is not an HTTP request."""

EVENT_NAMES = (*EVENTS, RAW)


def can_carry(event: str, payload: str) -> bool:
    """Return whether a body in this format goes in an event of this shape."""
    return event in EVENTS or PAYLOADS[payload].is_json
