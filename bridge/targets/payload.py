"""What a target needs of its payload format: the codec, made for this target, and what requests say of their bodies."""

from __future__ import annotations

from typing import NamedTuple

from bridge.aws.events.event_body import BodyKind
from bridge.aws.invoke import MAX_REQUEST
from bridge.codecs.codec import Codec
from bridge.codecs.json import Transcode
from bridge.config.formats import EVENTS, PAYLOADS
from bridge.targets.request import CompressionMode


class Payload(NamedTuple):
    """A payload format as a target uses it: its codec, and the kind of body that an event gets."""

    codec: Codec
    kind: BodyKind

    def compression(self, configured: CompressionMode) -> CompressionMode:
        """Return the mode in which a target with this payload reads its requests."""
        return configured if self.codec.encode is None else "identity"


def payload_of(name: str, transcode: Transcode | None = None, *, max_json: int = MAX_REQUEST - 1) -> Payload:
    """Return the payload format of this name, for one target.

    A format that converts messages needs `transcode`. `max_json` bounds what a request is converted into (bytes); the
    default is what fits into an event.
    """
    found = PAYLOADS[name]
    codec = found.codec
    if found.converting is not None:
        assert transcode is not None, "the configuration refuses such a format without descriptors"
        codec = found.converting(transcode, max_request=max_json)
    assert codec is not None, "a format has a codec, or makes one"
    return Payload(codec, found.kind)


GRPC_WEB_PAYLOAD = payload_of("grpc-web")
HTTP_V2 = EVENTS["http-v2"]
