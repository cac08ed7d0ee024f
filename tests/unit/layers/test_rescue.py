"""rescue: whatever ends a call, the client gets one status."""

import asyncio
import gc
import logging
import weakref

import pytest

from bridge.layers.rescue import rescue
from bridge.rpc.call import Call, Handler
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import (
    BadReply,
    Bug,
    ClientGone,
    ConnectionLost,
    DeadlineExceeded,
    Draining,
    FunctionFailed,
    NoRoute,
    Overloaded,
    QueueRefused,
    RpcError,
    Throttled,
)
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Message, Trailers
from bridge.rpc.figures import BridgeFigures
from bridge.rpc.redaction import Redactor
from bridge.rpc.status import Status, StatusCode
from tests.support.fakes import RecordingCall
from tests.support.running import RunningCall


def _raising(error: BaseException) -> Handler:
    async def handler(call: Call) -> None:
        raise error

    return handler


async def _answer(call: Call) -> None:
    call.send(EMPTY_HEADERS)
    call.send(Message(envelope(b"hello")))
    call.send(OK_TRAILERS)


async def _wait_for_ever(call: Call) -> None:
    await asyncio.get_running_loop().create_future()


async def _rescued(inner: Handler, figures: BridgeFigures | None = None) -> RunningCall:
    call = RunningCall()
    await rescue(inner, figures=figures or BridgeFigures())(call)
    return call


async def test_good_call_passes_untouched() -> None:
    """Its own events, nothing added."""
    call = await _rescued(_answer)

    assert [EMPTY_HEADERS, Message(envelope(b"hello")), OK_TRAILERS] == call.events


@pytest.mark.parametrize(
    "error",
    [
        NoRoute("nobody serves a.B"),
        BadReply("the reply is no JSON"),
        FunctionFailed("ValueError: no"),
        Throttled("slow down", retry_after=2.0),
        Overloaded("full", kind="buffers"),
    ],
)
async def test_cause_becomes_trailers_only(error: RpcError) -> None:
    """Code, message and trailing metadata are the cause's."""
    call = await _rescued(_raising(error))

    assert [Trailers(Status(error.code, str(error)), error.trailing)] == call.events


async def test_cause_after_headers_becomes_trailers() -> None:
    """The response that began is ended."""

    async def breaks_off(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        raise ConnectionLost("the connection broke")

    call = await _rescued(breaks_off)

    assert [
        EMPTY_HEADERS,
        Trailers(Status(StatusCode.UNAVAILABLE, "the connection broke")),
    ] == call.events


async def test_cause_after_trailers_changes_nothing() -> None:
    """The client has its status; there is only one."""

    async def stumbles_late(call: Call) -> None:
        call.send(OK_TRAILERS)
        raise BadReply("too late")

    call = await _rescued(stumbles_late)

    assert [OK_TRAILERS] == call.events


async def test_bug_is_logged_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """The client learns that there was one; the text of a foreign exception stays in the log, with its traceback."""
    call = await _rescued(_raising(KeyError("secret-token")))

    assert [Trailers(Bug("the bridge has an error; its log has the details").status)] == call.events
    assert [logging.ERROR] == [record.levelno for record in caplog.records]
    assert "secret-token" in caplog.text
    assert "Traceback" in caplog.text


async def test_handler_that_leaves_no_status_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """The call ends INTERNAL, and the log says so."""

    async def forgets(call: Call) -> None:
        call.send(EMPTY_HEADERS)

    call = await _rescued(forgets)

    assert StatusCode.INTERNAL is _only_status(call).code
    assert "without a status" in caplog.text


async def test_events_out_of_order_are_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """A message before the headers is an error of ours, and still the call has one status."""

    async def hasty(call: Call) -> None:
        call.send(Message(envelope(b"")))

    call = await _rescued(hasty)

    assert StatusCode.INTERNAL is _only_status(call).code
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (ClientGone("the client cancelled the call"), StatusCode.CANCELLED),
        (DeadlineExceeded("too late"), StatusCode.DEADLINE_EXCEEDED),
        (Draining("stopping"), StatusCode.UNAVAILABLE),
    ],
)
async def test_abort_ends_the_call_with_its_cause(cause: RpcError, code: StatusCode) -> None:
    """The handler is cancelled where it waits."""
    call = RunningCall()
    task = call.run(rescue(_wait_for_ever, figures=BridgeFigures()))
    await asyncio.sleep(0)
    call.abort(cause)
    await task

    assert Status(code, str(cause)) == _only_status(call)


async def test_call_aborted_before_its_first_step_never_reaches_its_handler() -> None:
    """A reset in the same read as the headers: one status, and no function is woken."""
    reached: list[Call] = []

    async def note(call: Call) -> None:
        reached.append(call)

    call = RunningCall()
    task = call.run(rescue(note, figures=BridgeFigures()))
    call.abort(ClientGone("gone"))
    await task

    assert [] == reached
    assert StatusCode.CANCELLED is _only_status(call).code


@pytest.mark.parametrize("wreckage", [ConnectionLost("closed"), OSError("closed")])
async def test_abort_counts_more_than_what_it_breaks(wreckage: Exception) -> None:
    """A handler whose cancellation surfaces as another error does not hide why it was cancelled."""

    async def breaks_when_cancelled(call: Call) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise wreckage from None

    call = RunningCall()
    task = call.run(rescue(breaks_when_cancelled, figures=BridgeFigures()))
    await asyncio.sleep(0)
    call.abort(DeadlineExceeded("too late"))
    await task

    assert Status(StatusCode.DEADLINE_EXCEEDED, "too late") == _only_status(call)


async def test_cancellation_without_a_cause_passes() -> None:
    """The process stops: nobody is told anything."""
    call = RunningCall()
    task = call.run(rescue(_wait_for_ever, figures=BridgeFigures()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == call.events


async def test_refusals_are_counted_by_reason() -> None:
    """What the bridge did not take; failures of functions are none of these."""
    figures = BridgeFigures()
    for error in (
        NoRoute("a"),
        NoRoute("b"),
        Overloaded("c", kind="max_concurrency"),
        FunctionFailed("d"),
    ):
        await _rescued(_raising(error), figures)

    assert {"NoRoute": 2, "max_concurrency": 1} == dict(figures.refused)


def _only_status(call: RunningCall) -> Status:
    (status,) = [event.status for event in call.events if isinstance(event, Trailers)]
    return status


async def test_what_no_client_may_read_is_taken_out() -> None:
    """Whoever wrote it into the message."""
    call = RunningCall()
    error = FunctionFailed("greeter failed: bad key hunter2")
    await rescue(_raising(error), figures=BridgeFigures(), redact=Redactor(["hunter2"]))(call)

    assert [Trailers(Status(StatusCode.INTERNAL, "greeter failed: bad key [hidden]"))] == call.events


class _Large:
    """Stands for a message of megabytes in a frame."""


async def test_what_failed_calls_held_is_let_go_at_once() -> None:
    """Frames that name the error they raise would keep it until the garbage collector comes."""
    held: list[weakref.ref[_Large]] = []

    def fail() -> None:
        message = _Large()
        held.append(weakref.ref(message))
        try:
            raise ValueError("inner")
        except ValueError as inner:
            error = BadReply("bad")
            raise error from inner

    async def handler(call: Call) -> None:
        message = _Large()
        held.append(weakref.ref(message))
        fail()

    gc.disable()
    try:
        await _rescued(handler)

        assert [None, None] == [each() for each in held]
    finally:
        gc.enable()


@pytest.mark.parametrize(("random", "told"), [(0.0, "2000"), (0.5, "3000"), (1.0, "4000")])
@pytest.mark.parametrize(
    "error",
    [
        Throttled("slow down", retry_after=2.0),
        QueueRefused("full", kind="queue_full", code=StatusCode.UNAVAILABLE, retry_after=2.0),
    ],
    ids=["throttled", "queue"],
)
async def test_a_pushback_is_spread(error: RpcError, random: float, told: str) -> None:
    """Clients that were refused together come back at different times, none before it may."""
    call = RecordingCall()
    error.retry_after = 2.0
    await rescue(_raising(error), figures=BridgeFigures(), random=lambda: random)(call)

    assert ("grpc-retry-pushback-ms", told) in call.trailing_metadata
