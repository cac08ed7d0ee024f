"""A client's side of an HTTP/2 conversation for tests: frames out through hyperframe and hpack, an engine's
frames in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from bridge.http2.events import Event, Fields, Violation
from bridge.http2.interface import Engine

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

REQUEST: Fields = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/helloworld.Greeter/SayHello"),
    (":authority", "localhost:50051"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-test/1.0"),
)
RESPONSE: Fields = ((":status", "200"), ("content-type", "application/grpc"))
TRAILERS: Fields = (("grpc-status", "0"),)

Flags = Sequence[str]


def raw(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Any frame at all, right or wrong."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
    return head + payload


class FrameFactory:
    """The bytes of a client's frames; one per connection, for it holds the header compression's state."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    def start(self, settings: dict[int, int] | None = None) -> bytes:
        """The preface and the first SETTINGS."""
        return PREFACE + self.settings(settings)

    def block(self, fields: Iterable[tuple[str, str]]) -> bytes:
        return bytes(self.encoder.encode(list(fields)))

    def headers(
        self,
        stream_id: int,
        fields: Iterable[tuple[str, str]] = REQUEST,
        *,
        flags: Flags = ("END_HEADERS",),
        padding: int = 0,
    ) -> bytes:
        frame = HeadersFrame(stream_id, self.block(fields), flags=flags)
        frame.pad_length = padding
        return frame.serialize()

    def request(self, stream_id: int, fields: Iterable[tuple[str, str]] = REQUEST) -> bytes:
        """HEADERS that end the stream."""
        return self.headers(stream_id, fields, flags=("END_HEADERS", "END_STREAM"))

    def split_headers(self, stream_id: int, parts: int, fields: Iterable[tuple[str, str]] = REQUEST) -> bytes:
        """HEADERS and so many CONTINUATION frames."""
        block = self.block(fields)
        step = len(block) // (parts + 1)
        pieces = [block[index * step : (index + 1) * step] for index in range(parts)]
        pieces.append(block[parts * step :])
        frames: list[Frame] = [HeadersFrame(stream_id, pieces[0])]
        frames += [ContinuationFrame(stream_id, piece) for piece in pieces[1:]]
        frames[-1].flags.add("END_HEADERS")
        return b"".join([frame.serialize() for frame in frames])

    def data(self, stream_id: int, data: bytes, *, flags: Flags = (), padding: int | None = None) -> bytes:
        frame = DataFrame(stream_id, data, flags=flags)
        if padding is not None:
            frame.flags.add("PADDED")
            frame.pad_length = padding
        return frame.serialize()

    def settings(self, settings: dict[int, int] | None = None) -> bytes:
        return SettingsFrame(0, settings or {}).serialize()

    def settings_ack(self) -> bytes:
        return SettingsFrame(0, flags=("ACK",)).serialize()

    def window_update(self, stream_id: int, increment: int) -> bytes:
        return raw(0x8, 0, stream_id, increment.to_bytes(4, "big"))

    def rst_stream(self, stream_id: int, code: int = 8) -> bytes:
        return RstStreamFrame(stream_id, code).serialize()

    def ping(self, data: bytes = b"12345678", *, flags: Flags = ()) -> bytes:
        return PingFrame(0, data, flags=flags).serialize()

    def priority(self, stream_id: int, depends_on: int = 0) -> bytes:
        return PriorityFrame(stream_id, depends_on=depends_on).serialize()

    def goaway(self, last_stream_id: int = 0, code: int = 0) -> bytes:
        return GoAwayFrame(0, last_stream_id, code).serialize()


def parse(data: bytes) -> list[Frame]:
    """The frames in these bytes; nothing may be left over."""
    frames: list[Frame] = []
    at = 0
    while at < len(data):
        frame, size = Frame.parse_frame_header(memoryview(data)[at : at + 9])
        assert len(data) >= at + 9 + size, "a frame is cut off"
        frame.parse_body(memoryview(data)[at + 9 : at + 9 + size])
        frames.append(frame)
        at += 9 + size
    return frames


class Client:
    """A client that speaks to an engine in frames and reads what the engine answers."""

    def __init__(self, engine: Engine, settings: dict[int, int] | None = None) -> None:
        self.engine = engine
        self.make = FrameFactory()
        self.decoder = Decoder()
        self.now = 0.0
        self.say(self.make.start(settings))
        self.greeting = self.hear()
        """What the engine said first: its SETTINGS, a WINDOW_UPDATE, the acknowledgement of ours."""

    def say(self, *frames: bytes) -> list[Event]:
        """Send these frames in one piece; what the engine makes of them."""
        return received(self.engine, b"".join(frames), now=self.now)

    def hear(self) -> list[Frame]:
        """Everything the engine has to say now."""
        return parse(self.engine.bytes_to_send())

    def fields(self, frame: Frame) -> Fields:
        """The fields of a HEADERS frame. Each must be given in turn, for the table's sake."""
        assert isinstance(frame, HeadersFrame)
        return tuple([(str(name), str(value)) for name, value in self.decoder.decode(frame.data)])

    def goaways(self) -> list[tuple[int, int, bytes]]:
        """Last stream, code and debug data of each GOAWAY among what the engine has to say now."""
        return [
            (frame.last_stream_id, frame.error_code, frame.additional_data)
            for frame in self.hear()
            if isinstance(frame, GoAwayFrame)
        ]

    def resets(self) -> list[tuple[int, int]]:
        """Stream and code of each RST_STREAM among what the engine has to say now."""
        return [(frame.stream_id, frame.error_code) for frame in self.hear() if isinstance(frame, RstStreamFrame)]


def received(engine: Engine, data: bytes, *, now: float) -> list[Event]:
    """All that the engine makes of these bytes, however often it has to be asked."""
    events = engine.receive(data, now=now)
    while engine.has_backlog:
        events += engine.receive(b"", now=now)
    return events


def body_of(frames: Iterable[Frame], stream_id: int) -> bytes:
    """The body bytes of one stream."""
    return b"".join(
        [bytes(frame.data) for frame in frames if isinstance(frame, DataFrame) and frame.stream_id == stream_id]
    )


def increments(frames: Iterable[Frame]) -> list[tuple[int, int]]:
    """Stream and increment of each WINDOW_UPDATE."""
    return [(frame.stream_id, frame.window_increment) for frame in frames if isinstance(frame, WindowUpdateFrame)]


def violations(events: Iterable[Event]) -> list[str]:
    return [str(event.kind) for event in events if isinstance(event, Violation)]
