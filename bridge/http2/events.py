"""The events that an engine reports, and the error codes of RFC 9113 section 7."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from bridge.rpc.value import FrozenValue

Fields = tuple[tuple[str, str], ...]
"""A header list in order, pseudo-headers first; names lower case, values checked (RFC 9113 8.2.1), Latin-1."""


class ErrorCode(IntEnum):
    """The error codes of RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ViolationKind(StrEnum):
    """The rules and limits whose breach is counted. These are the values of a metric's label."""

    NOT_HTTP2 = "not_http2"
    HTTP1 = "http1"
    TLS = "tls"
    PROTOCOL = "protocol"
    FRAME_SIZE = "frame_size"
    FLOW_CONTROL = "flow_control"
    COMPRESSION = "compression"
    STREAM_CLOSED = "stream_closed"
    MALFORMED_HEADERS = "malformed_headers"
    CONTENT_LENGTH = "content_length"
    TOO_MANY_STREAMS = "too_many_streams"
    HEADER_LIST = "header_list"
    CONTINUATIONS = "continuations"
    RESETS = "resets"
    OWN_RESETS = "own_resets"
    SETTINGS = "settings"
    PINGS = "pings"
    UNSENT_ANSWERS = "unsent_answers"
    EMPTY_DATA = "empty_data"
    SMALL_DATA = "small_data"
    USELESS_FRAMES = "useless_frames"
    WINDOW_UPDATES = "window_updates"


class RequestReceived(FrozenValue, frozen=True):
    """A request's header block is whole."""

    stream_id: int
    fields: Fields
    ended: bool
    """Nothing follows (END_STREAM)."""


class DataReceived(FrozenValue, frozen=True):
    """Body bytes. The windows stay reduced until the consumer calls `credit` for them."""

    stream_id: int
    data: bytes
    ended: bool


class StreamReset(FrozenValue, frozen=True):
    """The stream is over without trailers: the client reset it, or the engine did because the client broke a rule."""

    stream_id: int
    code: int
    by_peer: bool


class WindowOpened(FrozenValue, frozen=True):
    """All that was queued on the stream has been sent: `send_data` may go on."""

    stream_id: int


class PingAcknowledged(FrozenValue, frozen=True):
    """The peer answered a PING that we sent."""

    data: bytes


class Violation(FrozenValue, frozen=True):
    """The client broke a rule or met a limit. It is counted, whatever else follows."""

    kind: ViolationKind
    """The metric label."""


class ConnectionFailed(FrozenValue, frozen=True):
    """The connection is over. The engine has queued GOAWAY, or an HTTP/1 400. Send it and close.

    Every open stream has ended with it, and no other event follows.
    """

    code: int
    reason: str


Event = RequestReceived | DataReceived | StreamReset | WindowOpened | PingAcknowledged | Violation | ConnectionFailed
