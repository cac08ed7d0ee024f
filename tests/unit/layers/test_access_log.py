"""The access log: what a line says, when lines are written, what cannot break them."""

import asyncio
import os
import select
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from bridge.layers.access_log import AccessLog, AccessLogEntry, console_lines, json_lines
from bridge.rpc.call import Call, Peer, Route
from bridge.rpc.events import OK_TRAILERS, Trailers
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from bridge.rpc.status import Status, StatusCode
from tests.support.fakes import RecordingCall


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def _written(reader: int) -> list[bytes]:
    try:
        return os.read(reader, 1 << 16).splitlines(keepends=True)
    except BlockingIOError:
        return []


def _log(descriptor: int, **options: object) -> AccessLog:
    return AccessLog(
        loop=asyncio.get_running_loop(),
        wall_clock=lambda: 1_700_000_000.0,
        descriptor=descriptor,
        **options,  # type: ignore[arg-type]  # the keyword arguments of AccessLog
    )


def _ended(status: Status | None = None, **facts: object) -> RecordingCall:
    call = RecordingCall("/a.B/C", body=b"12345", peer=Peer("10.0.0.9"))
    call.send(OK_TRAILERS if status is None else Trailers(status))
    for name, value in facts.items():
        setattr(call, name, value)
    return call


def _route(**options: Any) -> Route:
    return Route("a.B", _nobody, MethodFigures("a.B", "C"), Limits(), **options)


async def _nobody(call: Call) -> None:
    raise AssertionError(f"{call.path} was served")


def _entry(**facts: object) -> AccessLogEntry:
    plain: dict[str, object] = {
        "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "level": "info",
        "logger": "bridge.access",
        "method": "/a.B/C",
        "code": "OK",
        "duration_us": 1234,
        "upstream_us": 1000,
        "attempts": 1,
        "received": 5,
        "sent": 7,
        "peer": "10.0.0.9",
    }
    return AccessLogEntry(**(plain | facts))  # type: ignore[arg-type]  # the fields of Entry


async def test_line_says_what_is_known_of_a_call(pipe: tuple[int, int]) -> None:
    """Time, method, code, durations, attempts, sizes, peer, AWS's request id, trace id; no message for success."""
    reader, writer = pipe
    log = _log(writer)
    call = _ended(
        upstream_seconds=0.25,
        attempts=2,
        bytes_sent=7,
        request_id="c6af9ac6-7b61",
        metadata=(("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),),
    )
    log.write(call, StatusCode.OK, 0.5)
    log.flush()

    assert [
        {
            "time": "2023-11-14T22:13:20Z",
            "level": "info",
            "logger": "bridge.access",
            "method": "/a.B/C",
            "code": "OK",
            "duration_us": 500_000,
            "upstream_us": 250_000,
            "attempts": 2,
            "received": 5,
            "sent": 7,
            "peer": "10.0.0.9",
            "request_id": "c6af9ac6-7b61",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
        }
    ] == [msgspec.json.decode(line) for line in _written(reader)]


async def test_a_call_that_waited_says_how_long(pipe: tuple[int, int]) -> None:
    """In both formats; a call that did not wait says nothing of it."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(queued_seconds=0.25), StatusCode.OK, 0.5)
    log.write(_ended(), StatusCode.OK, 0.5)
    log.flush()
    waited, not_waited = map(msgspec.json.decode, _written(reader))

    assert 250_000 == waited["queued_us"]
    assert "queued_us" not in not_waited
    assert b" queued=250.0 ms" in console_lines([_entry(queued_us=250_000)])


async def test_a_call_names_its_target_and_a_cold_start(pipe: tuple[int, int]) -> None:
    """In both formats. A call that the bridge itself answered, or that found an instance, says nothing of it."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(route=_route(target="function:b"), is_cold_start=True), StatusCode.OK, 0.5)
    log.write(_ended(), StatusCode.OK, 0.5)
    log.flush()
    cold, own = map(msgspec.json.decode, _written(reader))

    assert ("function:b", True) == (cold["target"], cold["cold_start"])
    assert not {"target", "cold_start"} & set(own)
    assert b" cold target=function:b\n" in console_lines([_entry(target="function:b", cold_start=True)])


async def test_a_route_may_have_no_lines(pipe: tuple[int, int]) -> None:
    """Health checks, if the configuration says so, also those that fail."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(route=_route(is_logged=False)), StatusCode.OK, 0.5)
    log.write(_ended(Status(StatusCode.NOT_FOUND), route=_route(is_logged=False)), StatusCode.NOT_FOUND, 0.5)
    log.flush()

    assert [] == _written(reader)


async def test_failed_call_has_its_message(pipe: tuple[int, int]) -> None:
    """The status message tells what went wrong."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(Status(StatusCode.INTERNAL, "it broke")), StatusCode.INTERNAL, 0.1)
    log.flush()
    (line,) = _written(reader)

    assert "it broke" == msgspec.json.decode(line)["message"]


async def test_xray_trace_id_is_taken_as_it_is(pipe: tuple[int, int]) -> None:
    """AWS's own header, where there is no traceparent."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(metadata=(("x-amzn-trace-id", "Root=1-67891233-abcdef"),)), StatusCode.OK, 0.1)
    log.flush()
    (line,) = _written(reader)

    assert "Root=1-67891233-abcdef" == msgspec.json.decode(line)["trace_id"]


async def test_long_texts_are_cut(pipe: tuple[int, int]) -> None:
    """Neither a client's path nor a function's message fills the log."""
    reader, writer = pipe
    log = _log(writer)
    call = _ended(Status(StatusCode.UNKNOWN, "m" * 5000), path="/" + "p" * 5000)
    log.write(call, StatusCode.UNKNOWN, 0.1)
    log.flush()
    (line,) = _written(reader)

    assert "m" * 500 == msgspec.json.decode(line)["message"]
    assert 500 == len(msgspec.json.decode(line)["method"])


async def test_message_that_is_no_utf_8_costs_no_line(pipe: tuple[int, int]) -> None:
    """One call's odd message must not lose the lines of the calls it is written with, nor fail its own."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(), StatusCode.OK, 0.1)
    log.write(_ended(Status(StatusCode.UNKNOWN, "caf\udce9")), StatusCode.UNKNOWN, 0.1)
    log.flush()
    lines = [msgspec.json.decode(line) for line in _written(reader)]

    assert ["OK", "UNKNOWN"] == [line["code"] for line in lines]
    assert "caf\\udce9" == lines[1]["message"]


async def test_lines_are_written_after_a_moment(pipe: tuple[int, int]) -> None:
    """Nothing is written at once; a timer writes what has gathered."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(), StatusCode.OK, 0.1)
    log.write(_ended(), StatusCode.OK, 0.1)
    await asyncio.sleep(0.19)
    before = _written(reader)
    await asyncio.sleep(0.02)

    assert [] == before
    assert 2 == len(_written(reader))


async def test_full_batch_is_written_at_once(pipe: tuple[int, int]) -> None:
    """What waits is bounded."""
    reader, writer = pipe
    log = _log(writer)
    for _ in range(256):
        log.write(_ended(), StatusCode.OK, 0.1)

    assert 256 == len(_written(reader))


async def test_a_refused_request_has_a_line(pipe: tuple[int, int]) -> None:
    """With what is known of it, bounded like that of a call."""
    reader, writer = pipe
    log = _log(writer)
    log.write_refused("/" + "p" * 1000, Status(StatusCode.INTERNAL, "no gRPC"), Peer("10.0.0.9"))
    log.flush()
    [line] = [msgspec.json.decode(line) for line in _written(reader)]

    assert ("INTERNAL", "no gRPC", "10.0.0.9") == (line["code"], line["message"], line["peer"])
    assert 500 == len(line["method"])
    assert 0 == line["duration_us"] == line["attempts"] == line["received"] == line["sent"]


async def test_calls_that_do_nothing_have_ten_lines_a_connection_and_are_counted(
    pipe: tuple[int, int],
) -> None:
    """A flood of resets or of unknown methods does not fill the log; what reached a target, or went well, always has
    its line.
    """
    reader, writer = pipe
    log = _log(writer)
    flooding, other = _Connection(), _Connection()
    cancelled = _ended(Status(StatusCode.CANCELLED, "the client cancelled"), connection=flooding)
    for _ in range(500):
        log.write(cancelled, StatusCode.CANCELLED, 0.0)
    for _ in range(300):
        log.write_refused("/x", Status(StatusCode.INTERNAL, "no"), Peer("10.0.0.9"), flooding)
    log.write(_ended(Status(StatusCode.CANCELLED), connection=other), StatusCode.CANCELLED, 0.0)
    log.write(_ended(Status(StatusCode.CANCELLED), connection=flooding, attempts=1), StatusCode.CANCELLED, 0.0)
    log.write(_ended(connection=flooding), StatusCode.OK, 0.0)
    log.flush()
    lines = [msgspec.json.decode(line) for line in _written(reader)]
    log.close()
    summary = [msgspec.json.decode(line) for line in _written(reader)]

    assert ["CANCELLED"] * 10 + ["CANCELLED", "CANCELLED", "OK"] == [line["code"] for line in lines]
    assert [("*", "CANCELLED", 490), ("*", "INTERNAL", 300)] == [
        (line["method"], line["code"], line["calls"]) for line in summary
    ]
    assert {"10.0.0.9"} == {line["peer"] for line in summary}


async def test_a_connections_lines_come_back_with_time(pipe: tuple[int, int]) -> None:
    """One a second: a client that fails now and then has all its lines."""
    reader, writer = pipe
    log = _log(writer)
    connection = _Connection()
    call = _ended(Status(StatusCode.UNIMPLEMENTED, "no route"), connection=connection)
    for _ in range(40):
        await asyncio.sleep(1)
        log.write(call, StatusCode.UNIMPLEMENTED, 0.0)
    log.close()

    assert 40 == len(_written(reader))


async def test_the_summary_is_bounded_and_readable(pipe: tuple[int, int]) -> None:
    """However many addresses there are."""
    reader, writer = pipe
    log = _log(writer, line_format=console_lines)
    for number in range(1100):
        connection = _Connection()
        call = _ended(
            Status(StatusCode.CANCELLED), connection=connection, peer=Peer(f"10.0.{number // 256}.{number % 256}")
        )
        for _ in range(11):
            log.write(call, StatusCode.CANCELLED, 0.0)
        log.flush()
        _written(reader)
    assert 1001 == len(log._without_line)
    log._summarise()
    log.flush()
    first = _written(reader)[0]

    assert b"CANCELLED         1 more calls from 10.0.0.0 that did nothing" in first
    log.close()


class _Connection:
    """Something that calls share."""


async def test_log_that_is_off_writes_nothing(pipe: tuple[int, int]) -> None:
    """`log: {access: false}`."""
    reader, writer = pipe
    log = _log(writer, is_on=False)
    log.write(_ended(), StatusCode.OK, 0.1)
    log.write_refused("/a.B/C", Status(StatusCode.INTERNAL, "no gRPC"), Peer("10.0.0.9"))
    log.flush()

    assert [] == _written(reader)


async def test_calls_go_on_when_nobody_reads_the_log() -> None:
    """A closed pipe loses lines and nothing else."""
    reader, writer = os.pipe()
    os.close(reader)
    log = _log(writer)
    log.write(_ended(), StatusCode.OK, 0.1)
    log.flush()
    os.close(writer)
    log.write(_ended(), StatusCode.OK, 0.1)
    log.flush()


async def test_calls_go_on_when_the_log_is_not_taken(pipe: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    """A full pipe is not waited for: lines wait up to a bound, more are lost, and how many is told when there is room
    again.
    """
    reader, writer = pipe
    log = _log(writer, most_waiting=100_000)
    for _ in range(1024):
        log.write(_ended(path="/" + "p" * 400), StatusCode.OK, 0.1)
    received = b""
    while len(lines := received.splitlines(keepends=True)) < 512:
        received += b"".join(_written(reader))
        log.flush()

    assert 512 == len(lines)
    assert {"/" + "p" * 400} == {msgspec.json.decode(line)["method"] for line in lines}
    assert ["512 lines of the access log were lost: the reader of the log was too slow"] == caplog.messages


async def test_a_reader_that_reads_gets_every_line(pipe: tuple[int, int]) -> None:
    """A pipe holds less than a busy bridge writes between two flushes: the rest must not wait as long as for a stopped
    reader.
    """
    reader, writer = pipe
    log = _log(writer, most_waiting=100_000)
    lines = 0

    async def read() -> None:
        nonlocal lines
        while lines < 10 * 256:
            received = b"".join(_written(reader))
            lines += received.count(b"\n")
            await asyncio.sleep(0.001)

    reading = asyncio.get_running_loop().create_task(read())
    for _ in range(10):
        for _ in range(256):
            log.write(_ended(path="/" + "p" * 300), StatusCode.OK, 0.1)
        await asyncio.sleep(0.03)
    async with asyncio.timeout(5):
        await reading

    assert 10 * 256 == lines


async def test_the_last_lines_wait_for_a_slow_reader(pipe: tuple[int, int]) -> None:
    """At the end of the process there is no later."""
    reader, writer = pipe
    os.set_blocking(reader, True)
    log = _log(writer)
    for _ in range(1024):
        log.write(_ended(path="/" + "p" * 400), StatusCode.OK, 0.1)
    received: list[bytes] = []

    def read() -> None:
        while sum(chunk.count(b"\n") for chunk in received) < 1024:
            received.append(os.read(reader, 1 << 16))

    reading = threading.Thread(target=read)
    reading.start()
    log.close()
    reading.join()

    assert 1024 == b"".join(received).count(b"\n")


async def test_lines_stay_whole_beside_those_of_other_processes(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is of whole lines and as large as a pipe takes in one piece."""
    pieces: list[bytes] = []

    def take_all(descriptor: int, data: bytes) -> int:
        pieces.append(bytes(data))
        return len(data)

    monkeypatch.setattr("bridge.lossy_writer.os.write", take_all)
    log = _log(pipe[1])
    for _ in range(200):
        log.write(_ended(), StatusCode.OK, 0.1)
    log.flush()

    assert len(pieces) > 1
    assert max(map(len, pieces)) <= select.PIPE_BUF
    assert all(piece.endswith(b"}\n") for piece in pieces)


async def test_batch_larger_than_the_pipe_takes_is_written_whole(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that takes a part is followed by one for the rest."""
    taken: list[bytes] = []

    def take_seven(descriptor: int, data: bytes) -> int:
        taken.append(bytes(data[:7]))
        return len(taken[-1])

    monkeypatch.setattr("bridge.lossy_writer.os.write", take_seven)
    log = _log(pipe[1])
    log.write(_ended(), StatusCode.OK, 0.1)
    log.flush()

    assert b"".join(taken).endswith(b"}\n")
    assert "/a.B/C" == msgspec.json.decode(b"".join(taken))["method"]


def test_json_lines_are_one_a_call() -> None:
    """Absent facts are left out."""
    lines = json_lines([_entry(), _entry(code="UNKNOWN", message="a\nb\x1b[2J")]).splitlines()

    assert 2 == len(lines)
    assert b"message" not in lines[0]
    assert b"\x1b" not in lines[1]


def test_console_line_is_for_people() -> None:
    """Clock, level, logger, code, method, milliseconds; retries and the message if there are any."""
    plain, failed = (
        console_lines([_entry(), _entry(code="UNAVAILABLE", attempts=3, message="try later")]).decode().splitlines()
    )

    assert "info    bridge.access: OK                /a.B/C  1.2 ms" == plain.split(" ", 1)[1]
    assert "info    bridge.access: UNAVAILABLE       /a.B/C  1.2 ms attempts=3  try later" == failed.split(" ", 1)[1]


@pytest.mark.parametrize("field", ["method", "message"])
@pytest.mark.parametrize(
    "text",
    ["a\nfake line", "a\r\x1b[2Jb", "a\x9b31mb", "a\u2028b", "a\u202eb", "a\x00b", "a\udce9b"],
)
def test_console_line_cannot_be_broken_or_coloured(field: str, text: str) -> None:
    """A client's path and a function's message may hold anything; line ends and escapes are shown, not obeyed."""
    line = console_lines([_entry(**{field: text})]).decode()

    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert "\\" in line


async def test_a_call_of_a_tenant_names_it(pipe: tuple[int, int]) -> None:
    """In both formats, and only then."""
    reader, writer = pipe
    log = _log(writer)
    log.write(_ended(tenant="acme blue"), StatusCode.OK, 0.5)
    log.write(_ended(), StatusCode.OK, 0.5)
    log.flush()
    first, second = [msgspec.json.decode(line) for line in _written(reader)]

    assert "acme blue" == first["tenant"]
    assert "tenant" not in second
    assert b" tenant=acme blue\n" in console_lines([_entry(tenant="acme blue")])
    assert b"tenant" not in console_lines([_entry()])
