"""StreamTarget over a carrier with a script: what leaves when, and what each way to fail becomes."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from base64 import b64encode
from typing import Any, Self

import pytest

from bridge.aws.sigv4 import HeaderPairs
from bridge.rpc.buffers import Account
from bridge.rpc.envelope import TRAILERS, envelope
from bridge.rpc.errors import (
    BadReply,
    ConnectionLost,
    CutReply,
    FunctionFailed,
    HttpRefusal,
    NoStatus,
    ReplyTooLarge,
    RpcError,
    Throttled,
)
from bridge.rpc.events import Headers, Message, Phase, ResponseEvent, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import LARGEST_MESSAGE, Limits
from bridge.rpc.status import Status, StatusCode
from tests.support.event_stream import WEB_PRELUDE, prelude
from tests.support.fakes import FakeClock, RecordingCall
from tests.support.targets import stream_target

HELLO = envelope(b"hello")
WORLD = envelope(b"world")
OK = envelope(b"grpc-status:0\r\n", flags=TRAILERS)
REQUEST_ID = ("x-amzn-requestid", "id-1")
DONE = Trailers(Status(StatusCode.OK), (REQUEST_ID,))
FAILED = FunctionFailed("greeter failed: ValueError: bad")


def packed(data: bytes) -> bytes:
    """Gzip without the time of day, so that test ids stay the same."""
    return gzip.compress(data, mtime=0)


class ScriptedStream:
    """A payload whose chunks are given out one by one; an error in the script is raised."""

    request_id = "id-1"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._left = list(bench.script)
        self._is_given = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_given:
            self._bench.taken += 1
            self._is_given = False
        if not self._left:
            raise StopAsyncIteration
        self._bench.seen.append(list(self._bench.call.events))
        step = self._left.pop(0)
        if isinstance(step, RpcError):
            raise step
        self._is_given = True
        return step

    def close(self) -> None:
        self._bench.was_left = True


class Bench:
    """A target and a call, with what the call had been sent whenever the function wrote."""

    def __init__(self, *script: bytes | RpcError, call: RecordingCall | None = None) -> None:
        self.script = script
        self.call = call or RecordingCall(body=HELLO)
        self.seen: list[list[ResponseEvent]] = []
        self.taken = 0
        self.payloads: list[bytes] = []
        self.was_left = False
        self.figures = TargetFigures("greeter")
        self.clock = FakeClock()
        self.target = stream_target(
            self,
            figures=self.figures,
            clock=self.clock,
            wall_clock=lambda: 1_773_341_838.25,
        )

    async def open(
        self, payload: bytes, *, headers: HeaderPairs = (), account: Account | None = None
    ) -> ScriptedStream:
        assert not headers, "no call here has a tenant"
        self.payloads.append(payload)
        return ScriptedStream(self)

    async def run(self) -> list[ResponseEvent]:
        await self.target.handle(self.call)
        return self.call.events


async def test_each_event_leaves_as_soon_as_it_is_known() -> None:
    """Headers with the head, a message with its last byte, the status with the end."""
    bench = Bench(WEB_PRELUDE, HELLO, WORLD[:3], WORLD[3:], OK)

    assert [Headers(), Message(HELLO), Message(WORLD), DONE] == await bench.run()
    assert [
        [],
        [Headers()],
        [Headers(), Message(HELLO)],
        [Headers(), Message(HELLO)],
        [Headers(), Message(HELLO), Message(WORLD)],
    ] == bench.seen
    assert "id-1" == bench.call.request_id
    assert bench.was_left


async def test_any_chunking_gives_the_same_events() -> None:
    whole = WEB_PRELUDE + HELLO + WORLD + OK
    bench = Bench(*(whole[at : at + 1] for at in range(len(whole))))

    assert [Headers(), Message(HELLO), Message(WORLD), DONE] == await bench.run()


GZIPPED = prelude(content_type="application/grpc-web+proto", content_encoding="gzip")


async def test_an_encoded_stream_in_any_chunking() -> None:
    whole = GZIPPED + packed(HELLO + WORLD + OK)
    bench = Bench(*(whole[at : at + 1] for at in range(len(whole))))

    assert [Headers(), Message(HELLO), Message(WORLD), DONE] == await bench.run()


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ((GZIPPED, packed(WORLD)[:-4]), BadReply, "cut off within its content-encoding gzip"),
        ((GZIPPED, WORLD, OK), BadReply, "does not decode as content-encoding gzip"),
        ((prelude(content_encoding="br"), b"x"), BadReply, "content-encoding br"),
        ((GZIPPED, packed(WORLD)[:20], FAILED), FunctionFailed, "ValueError: bad"),
        ((prelude(500, content_encoding="br"), b"x"), HttpRefusal, "HTTP 500"),
    ],
)
async def test_encoded_streams_that_end_badly(
    script: tuple[bytes | RpcError, ...], kind: type[RpcError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        await Bench(*script).run()


ENCODED = packed(WORLD + OK)
DEFLATED = prelude(content_type="application/grpc-web+proto", content_encoding="deflate")


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ((GZIPPED, ENCODED[:-8]), BadReply, "cut off within its content-encoding gzip"),
        ((GZIPPED, ENCODED[:-1]), BadReply, "cut off within its content-encoding gzip"),
        ((DEFLATED, zlib.compress(WORLD + OK)[:-1]), BadReply, "cut off within its content-encoding deflate"),
        ((GZIPPED, ENCODED[:-8] + bytes(8)), BadReply, "does not decode as content-encoding gzip"),
        ((GZIPPED, ENCODED + b"junk"), BadReply, "does not decode as content-encoding gzip"),
        ((GZIPPED, ENCODED, b"junk"), BadReply, "does not decode as content-encoding gzip"),
        ((GZIPPED, ENCODED, b"\x1f"), BadReply, "cut off within its content-encoding gzip"),
        ((GZIPPED, ENCODED[:-8], FAILED), BadReply, "cut off within its content-encoding gzip"),
    ],
    ids=["cut", "cut late", "deflate", "checksum", "junk", "junk apart", "a second member", "cut by a failure"],
)
async def test_a_coding_that_is_not_whole_is_a_bad_reply(
    script: tuple[bytes | RpcError, ...], kind: type[RpcError], text: str
) -> None:
    """Even if the trailers have come: the body is not the one that was sent."""
    bench = Bench(*script)

    with pytest.raises(kind, match=text):
        await bench.run()

    assert bench.call.events in ([Headers()], [Headers(), Message(WORLD)])


async def test_a_status_behind_a_whole_coding_survives_a_failure() -> None:
    """As without a coding: what the carrier says behind the call's end does not count."""
    bench = Bench(GZIPPED, ENCODED, FAILED)

    assert [Headers(), Message(WORLD), DONE] == await bench.run()


async def test_a_function_that_does_not_stream() -> None:
    """Its JSON object comes in chunks, too."""
    reply: dict[str, Any] = {
        "statusCode": 200,
        "headers": {"content-type": "application/grpc-web+proto"},
        "body": b64encode(WORLD + OK).decode(),
        "isBase64Encoded": True,
    }
    payload = json.dumps(reply).encode()

    assert [Headers(), Message(WORLD), DONE] == await Bench(payload[:9], payload[9:]).run()


async def test_a_status_in_the_head_is_trailers_only() -> None:
    """Nothing leaves before it is known that no body follows."""
    head = prelude(content_type="application/grpc-web+proto", grpc_status="5", grpc_message="none", x_a="1")
    status = Status(StatusCode.NOT_FOUND, "none")

    assert [Trailers(status, (("x-a", "1"), REQUEST_ID))] == await Bench(head).run()


@pytest.mark.parametrize("end", [b"", envelope(b"", flags=TRAILERS)], ids=["nothing", "an empty block"])
async def test_a_status_in_the_head_behind_messages(end: bytes) -> None:
    """It counts where no trailers say another; what else the head holds is initial metadata."""
    head = prelude(content_type="application/grpc-web+proto", grpc_status="5", x_a="1")
    status = Status(StatusCode.NOT_FOUND)

    assert [
        Headers((("x-a", "1"),)),
        Message(HELLO),
        Trailers(status, (REQUEST_ID,)),
    ] == await Bench(head, HELLO, end).run()


async def test_a_status_in_the_head_before_an_empty_block() -> None:
    head = prelude(content_type="application/grpc-web+proto", grpc_status="5", x_a="1")
    status = Status(StatusCode.NOT_FOUND)

    assert [Trailers(status, (("x-a", "1"), REQUEST_ID))] == await Bench(head, envelope(b"", flags=TRAILERS)).run()


async def test_a_full_window_holds_the_function_back() -> None:
    """No chunk is taken while the client has not taken the message before it."""
    call = RecordingCall(body=HELLO, window=1)
    room = asyncio.Event()
    wait = call.writable

    async def writable() -> None:
        await room.wait()
        await wait()

    call.writable = writable  # type: ignore[method-assign]  # a client that is slow
    bench = Bench(WEB_PRELUDE, HELLO, WORLD, OK, call=call)
    running = asyncio.get_running_loop().create_task(bench.run())
    for _ in range(20):
        await asyncio.sleep(0)
    taken_while_full = bench.taken
    room.set()
    await running

    assert 1 == taken_while_full
    assert [b"hello", b"world"] == call.messages


async def test_a_failure_before_the_head_has_a_clean_status() -> None:
    bench = Bench(FAILED)
    with pytest.raises(FunctionFailed):
        await bench.run()

    assert [] == bench.call.events
    assert bench.was_left


async def test_a_failure_behind_messages_is_raised_behind_them() -> None:
    """Rescue ends the call with it; the call is OPEN, so that nobody runs it again."""
    bench = Bench(WEB_PRELUDE + HELLO, FAILED)
    with pytest.raises(FunctionFailed):
        await bench.run()

    assert [Headers(), Message(HELLO)] == bench.call.events
    assert bench.call.phase is Phase.OPEN


@pytest.mark.parametrize("error", [FAILED, CutReply("cut"), ConnectionLost("lost")])
async def test_what_fails_behind_the_status_changes_nothing(error: RpcError) -> None:
    """A function that told its status and then crashed has answered."""
    assert [Headers(), Message(HELLO), DONE] == await Bench(WEB_PRELUDE + HELLO + OK, error).run()


async def test_a_status_in_the_head_of_a_reply_that_is_cut_does_not_count() -> None:
    """It would only if the body were empty, which nobody knows."""
    head = prelude(content_type="application/grpc-web+proto", grpc_status="0")
    with pytest.raises(CutReply):
        await Bench(head, CutReply("cut")).run()


@pytest.mark.parametrize(("behind", "error"), [(b"", NoStatus), (HELLO[:-1], BadReply)])
async def test_a_whole_stream_without_trailers(behind: bytes, error: type[RpcError]) -> None:
    """AWS told that it is complete: nothing was cut, and UNAVAILABLE would invite clients to repeat a call that ran."""
    bench = Bench(WEB_PRELUDE + HELLO + behind)
    with pytest.raises(error):
        await bench.run()

    assert [Headers(), Message(HELLO)] == bench.call.events


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([], BadReply),
        ([b"{nonsense"], BadReply),
        ([b"null"], BadReply),
        ([WEB_PRELUDE], NoStatus),
        ([WEB_PRELUDE, b"\x42\0\0\0\1x"], BadReply),
        ([prelude(503)], HttpRefusal),
        ([prelude(content_type="text/html"), b"<html>"], NoStatus),
        ([WEB_PRELUDE, HELLO, OK, b"x"], BadReply),
        ([Throttled("busy")], Throttled),
    ],
)
async def test_what_is_no_reply(script: list[bytes | RpcError], kind: type[RpcError]) -> None:
    with pytest.raises(kind):
        await Bench(*script).run()


async def test_an_endless_body_that_is_no_grpc_is_not_read_to_its_end() -> None:
    """What can be quoted of it is enough."""
    bench = Bench(prelude(content_type="text/html"), *[b"x" * 1000] * 50)
    with pytest.raises(NoStatus):
        await bench.run()

    assert bench.taken < 5


async def test_a_message_is_bounded_by_max_response() -> None:
    """By what it declares, before it is held."""
    call = RecordingCall(body=HELLO, limits=Limits(max_response=4))
    with pytest.raises(ReplyTooLarge, match="max_response"):
        await Bench(WEB_PRELUDE, HELLO[:5], call=call).run()


async def test_a_message_is_bounded_without_max_response() -> None:
    size = (LARGEST_MESSAGE + 1).to_bytes(4, "big")
    with pytest.raises(ReplyTooLarge):
        await Bench(WEB_PRELUDE, b"\0" + size).run()


async def test_cold_starts_are_counted_and_go_no_further() -> None:
    head = prelude(content_type="application/grpc-web+proto", x_lambda_fn_cold_start="1")
    bench = Bench(head + HELLO + OK)

    assert [Headers(), Message(HELLO), DONE] == await bench.run()
    assert 1 == bench.figures.cold_starts


async def test_the_event_is_that_of_invoke() -> None:
    call = RecordingCall(body=HELLO, metadata=(("x-up", "1"),), deadline=1004.0)
    bench = Bench(WEB_PRELUDE + OK, call=call)
    await bench.run()
    event = json.loads(bench.payloads[0])

    assert b64encode(HELLO).decode() == event["body"]
    assert ("1", "4000m") == (event["headers"]["x-up"], event["headers"]["grpc-timeout"])
