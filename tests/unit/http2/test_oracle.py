"""The native engine against python-hyper's h2: random conversations must mean the same to both.

Where they part is listed below with the reason, and a conversation ends there.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.http2.events import (
    ConnectionFailed,
    ErrorCode,
    Event,
    Violation,
    ViolationKind,
)
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.native import NativeEngine
from tests.support.frames import (
    REQUEST,
    RESPONSE,
    TRAILERS,
    FrameFactory,
    body_of,
    parse,
    raw,
    received,
    violations,
)

LIMITS = EngineLimits(max_concurrent_streams=4, stream_window=2000, connection_window=70_000, min_ping_interval=0.0)

H2_ENDS_THE_CONNECTION = {
    ViolationKind.CONTENT_LENGTH: "RFC 9113 8.1.1: malformed, a stream error; h2 raises InvalidBodyLengthError",
    ViolationKind.FLOW_CONTROL: "RFC 9113 6.9.1: either; h2 ends the connection over a stream's window",
    ViolationKind.MALFORMED_HEADERS: "RFC 9113 8.1: malformed, a stream error; h2 wants END_STREAM on trailers",
}
H2_OVERLOOKS = {
    ViolationKind.CONTENT_LENGTH: "RFC 9113 8.1.1: trailers before the whole of the body are malformed too",
}
NATIVE_ENDS_THE_CONNECTION = {
    ViolationKind.STREAM_CLOSED: "RFC 9113 5.1.1: a stream id used again; h2 resets the stream if a reset had ended it",
    ViolationKind.PROTOCOL: "RFC 9113 6.4: RST_STREAM on a stream that has not begun; h2 ignores it",
}

STREAMS = st.sampled_from([1, 3, 5, 7, 9])
SIZES = st.sampled_from([0, 1, 5, 100, 900, 1500])

FRAMES = st.one_of(
    st.tuples(st.just("request"), STREAMS, st.booleans()),
    st.tuples(st.just("request"), STREAMS, st.booleans()),
    st.tuples(st.just("data"), STREAMS, SIZES, st.booleans()),
    st.tuples(st.just("data"), STREAMS, SIZES, st.booleans()),
    st.tuples(st.just("padded"), STREAMS, SIZES, st.integers(0, 255)),
    st.tuples(st.just("trailers"), STREAMS, st.booleans()),
    st.tuples(st.just("reset"), STREAMS),
    st.tuples(st.just("window"), st.sampled_from([0, 1, 3, 5]), st.sampled_from([1, 1000, 2**31 - 1])),
    st.tuples(st.just("settings"), st.sampled_from([0, 1, 500, 65_535, 2**31 - 1])),
    st.tuples(st.just("table size"), st.sampled_from([0, 100, 4096, 2**32 - 1])),
    st.tuples(st.just("ping"), st.booleans()),
    st.tuples(st.just("priority"), STREAMS, st.sampled_from([0, 1, 3])),
    st.tuples(st.just("unknown"), STREAMS),
    st.tuples(st.just("malformed"), STREAMS),
    st.tuples(st.just("length"), STREAMS, st.booleans()),
    st.tuples(st.just("goaway")),
)
COMMANDS = st.one_of(
    st.tuples(st.just("answer"), STREAMS, st.sampled_from([0, 10, 3000, 70_000])),
    st.tuples(st.just("end"), STREAMS),
    st.tuples(st.just("abandon"), STREAMS),
    st.tuples(st.just("credit"), STREAMS, SIZES),
)
STEPS = st.lists(st.one_of(FRAMES, FRAMES, FRAMES, COMMANDS), max_size=40)


def frame_of(make: FrameFactory, step: tuple[str, ...] | tuple[object, ...]) -> bytes | None:
    match step:
        case ("request", int(stream_id), bool(ended)):
            flags = ["END_HEADERS", "END_STREAM"] if ended else ["END_HEADERS"]
            return make.headers(stream_id, flags=flags)
        case ("data", int(stream_id), int(size), bool(ended)):
            return make.data(stream_id, bytes(size), flags=["END_STREAM"] if ended else [])
        case ("padded", int(stream_id), int(size), int(padding)):
            return make.data(stream_id, bytes(size), padding=padding)
        case ("trailers", int(stream_id), bool(ended)):
            flags = ["END_HEADERS", "END_STREAM"] if ended else ["END_HEADERS"]
            return make.headers(stream_id, [("x-checksum", "1")], flags=flags)
        case ("reset", int(stream_id)):
            return make.rst_stream(stream_id)
        case ("window", int(stream_id), int(increment)):
            return make.window_update(stream_id, increment)
        case ("settings", int(window)):
            return make.settings({4: window})
        case ("table size", int(size)):
            return make.settings({1: size})
        case ("ping", bool(acknowledges)):
            return make.ping(flags=["ACK"] if acknowledges else [])
        case ("priority", int(stream_id), int(depends_on)) if stream_id != depends_on:
            return make.priority(stream_id, depends_on)
        case ("unknown", int(stream_id)):
            return raw(0xBE, 0xFF, stream_id, b"?")
        case ("malformed", int(stream_id)):
            return make.request(stream_id, [*REQUEST, ("connection", "close")])
        case ("length", int(stream_id), bool(ended)):
            flags = ["END_HEADERS", "END_STREAM"] if ended else ["END_HEADERS"]
            return make.headers(stream_id, [*REQUEST, ("content-length", "100")], flags=flags)
        case ("goaway",):
            return make.goaway()
        case _:
            return None


def command(engine: Engine, step: tuple[object, ...], answered: set[object]) -> object:
    match step:
        case ("answer", int(stream_id), int(size)) if engine.is_open(stream_id):
            head = () if stream_id in answered else RESPONSE
            return engine.send(stream_id, head=head, body=bytes(size))
        case ("end", int(stream_id)):
            engine.send(stream_id, end=TRAILERS)
        case ("abandon", int(stream_id)):
            engine.reset(stream_id, ErrorCode.CANCEL)
        case ("credit", int(stream_id), int(size)) if stream_id in engine.open_streams:
            engine.credit(stream_id, min(size, 1))
        case _:
            pass
    return None


def told(events: list[Event]) -> list[Event]:
    """What the events tell of calls: violations are counted by one engine only."""
    return [event for event in events if not isinstance(event, Violation)]


def has_failed(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], ConnectionFailed)


def have_parted(ours: list[Event], theirs: list[Event]) -> bool:
    """Whether this is one of the listed differences."""
    if has_failed(theirs) and not has_failed(ours):
        return any(kind in H2_ENDS_THE_CONNECTION for kind in violations(ours))
    if has_failed(ours) and not has_failed(theirs):
        return violations(ours)[-1] in NATIVE_ENDS_THE_CONNECTION
    if not has_failed(theirs) and any(kind in H2_OVERLOOKS for kind in violations(ours)):
        return True
    return has_failed(ours) and has_failed(theirs) and told(ours)[:-1] == told(theirs)[:-1]


@given(STEPS)
def test_both_engines_hear_and_say_the_same(steps: list[tuple[object, ...]]) -> None:
    """The same events, the same body bytes on the same streams, the same room and the same open streams, step
    by step.
    """
    make = FrameFactory()
    ours, theirs = NativeEngine(LIMITS), H2Engine(LIMITS)
    engines: tuple[Engine, Engine] = (ours, theirs)
    start = make.start()
    assert received(ours, start, now=0.0) == received(theirs, start, now=0.0)
    for engine in engines:
        engine.bytes_to_send()
    answered: set[object] = set()
    for step in steps:
        frame = frame_of(make, step)
        if frame is None:
            begins = step[0] == "answer" and step[1] in ours.open_streams
            assert command(theirs, step, answered) == command(ours, step, answered)
            if begins:
                answered.add(step[1])
        else:
            our_events, their_events = (received(engine, frame, now=0.0) for engine in engines)
            if have_parted(our_events, their_events):
                return
            assert told(their_events) == told(our_events)
        our_frames, their_frames = (parse(engine.bytes_to_send()) for engine in engines)
        for stream_id in (1, 3, 5, 7, 9):
            assert body_of(their_frames, stream_id) == body_of(our_frames, stream_id)
        assert set(theirs.open_streams) == set(ours.open_streams)
        assert theirs.queued_bytes == ours.queued_bytes


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_garbage_is_survived(chunks: list[bytes], begins_well: bool) -> None:
    """Whatever arrives, nothing is raised; a connection that has failed says so once and last, and has something to
    send.
    """
    for engine in (NativeEngine(LIMITS), H2Engine(LIMITS)):
        events = received(engine, FrameFactory().start(), now=0.0) if begins_well else []
        for chunk in chunks:
            events += received(engine, chunk, now=0.0)
        failures = [index for index, event in enumerate(events) if isinstance(event, ConnectionFailed)]

        assert failures in ([], [len(events) - 1])
        assert engine.bytes_to_send() or not failures


RAW_FRAMES = st.lists(
    st.tuples(
        st.integers(0, 10),
        st.integers(0, 255),
        st.sampled_from([0, 1, 2, 3, 5]),
        st.binary(max_size=30),
    ),
    max_size=12,
)


@given(RAW_FRAMES, st.lists(st.integers(1, 40), max_size=30))
def test_random_frames_are_survived_in_any_chunking(
    frames: list[tuple[int, int, int, bytes]], sizes: list[int]
) -> None:
    """Frames well formed in their heads and in nothing else: the same events and the same bytes, however they
    are cut.
    """
    make = FrameFactory()
    data = make.start() + make.headers(1) + b"".join([raw(*frame) for frame in frames])
    cuts = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    chunks = [data[start:end] for start, end in zip(cuts, [*cuts[1:], len(data)], strict=True)]
    for engine_class in (NativeEngine, H2Engine):
        whole, parts = engine_class(LIMITS), engine_class(LIMITS)
        expected = received(whole, data, now=0.0)
        actual = [event for chunk in chunks for event in received(parts, chunk, now=0.0)]

        assert [] == [event for event in expected[:-1] if isinstance(event, ConnectionFailed)]
        assert expected == actual
        assert whole.bytes_to_send() == parts.bytes_to_send()
