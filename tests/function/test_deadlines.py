"""Deadlines: whose counts, from when, and what becomes of a servicer that misses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from threading import Event, get_ident
from typing import Any

import grpc
import pytest

from lambda_fn import deadline
from tests.support.lambda_channel import (
    LambdaContextDouble,
    Outcome,
    Serve,
    frame,
    http_v2_event,
)

EXCEEDED = Outcome(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


# -- which deadline (pure) --


@pytest.mark.parametrize(
    ("sent_at", "expected"),
    [
        (None, 105.0),
        (1000.0, 105.0),
        (997.0, 102.0),
        (980.0, 85.0),
        (979.9, 105.0),
        (1001.0, 105.0),
    ],
)
def test_a_timeout_counts_from_when_it_was_sent_if_that_is_plausible(sent_at: float | None, expected: float) -> None:
    """0 to 20 seconds back is a cold start; anything else is a clock that is off."""
    found = deadline.of_caller(5.0, sent_at=sent_at, arrived_at=1000.0, now=100.0)

    assert found is not None
    assert expected == found.at


@pytest.mark.parametrize(("remaining", "expected"), [(3000, 102.5), (1000, 100.5), (600, 100.3), (0, None)])
def test_lambdas_own_time_ends_with_a_margin(remaining: int, expected: float | None) -> None:
    """Half a second, or half of what there is; a context whose time is over (local emulators) tells nothing."""
    found = deadline.of_lambda(LambdaContextDouble(remaining), now=100.0)

    assert expected == (found and found.at)


def test_the_earlier_deadline_counts() -> None:
    """The caller's or Lambda's, whichever there are."""
    caller = deadline.of_caller(5.0, sent_at=None, arrived_at=0.0, now=100.0)
    own = deadline.of_lambda(LambdaContextDouble(3000), now=100.0)

    assert own == deadline.earlier(caller, own)
    assert caller == deadline.earlier(caller, None)
    assert own == deadline.earlier(None, own)
    assert deadline.earlier(None, None) is None


# -- what the servicer sees --


def _remaining(request: bytes, context: Any) -> bytes:
    return repr(context.time_remaining()).encode()


async def _remaining_async(request: bytes, context: Any) -> bytes:
    return repr(context.time_remaining()).encode()


@pytest.mark.parametrize("behaviour", [_remaining, _remaining_async])
@pytest.mark.parametrize(("timeout", "millis", "expected"), [(5.0, 60_000, 5.0), (5.0, 3000, 2.5), (None, 3000, 2.5)])
def test_time_remaining_is_the_smaller_of_the_two(
    serve: Serve, behaviour: Any, timeout: float | None, millis: int, expected: float
) -> None:
    """The caller's time, or Lambda's less the margin."""
    channel = serve({"Remaining": ("unary_unary", behaviour)}, context=LambdaContextDouble(millis))
    remaining = float(channel.call("/test.Test/Remaining", timeout=timeout).messages[0])

    assert expected - 0.5 < remaining <= expected


def test_without_any_deadline_nothing_remains_to_be_counted(serve: Serve) -> None:
    """None, as grpcio's interface says."""
    channel = serve({"Remaining": ("unary_unary", _remaining)})

    assert (b"None",) == channel.call("/test.Test/Remaining").messages


@pytest.mark.parametrize("timeout", ["99999999H", "123456789S", "5", "-5S", "S", "1.5S"])
def test_an_odd_timeout_does_no_harm(serve: Serve, timeout: str) -> None:
    """The longest is clamped; one that does not parse counts as none, as under grpcio."""
    channel = serve({"Remaining": ("unary_unary", _remaining)})

    assert grpc.StatusCode.OK is channel.call("/test.Test/Remaining", headers={"grpc-timeout": timeout}).code


# -- missing it --


@pytest.fixture
def released() -> Iterator[Event]:
    """Ends the servicers that wait for it, at the latest with the test."""
    event = Event()
    yield event
    event.set()


def test_a_plain_function_that_takes_too_long_is_left_behind(serve: Serve, released: Event) -> None:
    """The caller has its answer at the deadline; the function sees that it is over, its callbacks have run, its result
    is dropped.
    """
    facts: list[Any] = []
    done = Event()

    def slow(request: bytes, context: grpc.ServicerContext) -> bytes:
        facts.append(context.add_callback(lambda: facts.append("callback")))
        released.wait()
        facts.append(context.is_active())
        facts.append(context.add_callback(lambda: None))
        try:
            context.send_initial_metadata(())
        except grpc.RpcError:
            facts.append("RpcError")
        done.set()
        return b"late"

    channel = serve({"Slow": ("unary_unary", slow)})
    started = time.monotonic()
    outcome = channel.call("/test.Test/Slow", timeout=0.1)
    seconds = time.monotonic() - started

    assert EXCEEDED == outcome
    assert seconds >= 0.1
    assert [True, "callback"] == facts
    released.set()
    assert done.wait(5)
    assert [True, "callback", False, False, "RpcError"] == facts


def test_a_coroutine_that_takes_too_long_is_cancelled(serve: Serve) -> None:
    """Its `finally` and its done callbacks run before the answer leaves."""
    facts: list[Any] = []

    async def slow(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda context: facts.append((context.done(), context.cancelled())))
        try:
            await asyncio.sleep(60)
        finally:
            facts.append("finally")
        return b"never"

    channel = serve({"Slow": ("unary_unary", slow)})

    assert EXCEEDED == channel.call("/test.Test/Slow", timeout=0.1)
    assert ["finally", (True, True)] == facts


def test_a_coroutine_that_blocks_its_loop_does_not_hold_the_answer(serve: Serve, released: Event) -> None:
    """Nothing can cancel it, and nothing has to."""

    async def blocks(request: bytes, context: Any) -> bytes:
        released.wait()
        return b"late"

    channel = serve({"Blocks": ("unary_unary", blocks)})
    outcome = channel.call("/test.Test/Blocks", timeout=0.1)
    released.set()

    assert EXCEEDED == outcome


def test_what_a_stream_sent_before_the_deadline_arrives(serve: Serve, released: Event) -> None:
    """As with gRPC over HTTP/2, where it has left already."""

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        released.wait()
        yield b"2"

    async def stream_async(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.sleep(60)
        yield b"2"

    channel = serve({"Stream": ("unary_stream", stream), "StreamAsync": ("unary_stream", stream_async)})
    expected = Outcome(EXCEEDED.code, EXCEEDED.details, (b"1",))

    assert expected == channel.call("/test.Test/Stream", timeout=0.1)
    assert expected == channel.call("/test.Test/StreamAsync", timeout=0.1)


def test_lambdas_own_time_is_a_deadline_too(serve: Serve, released: Event) -> None:
    """The caller learns that the function's time was over, and Lambda need not kill it."""

    def slow(request: bytes, context: Any) -> bytes:
        released.wait()
        return b"late"

    channel = serve({"Slow": ("unary_unary", slow)}, context=LambdaContextDouble(200))

    assert Outcome(grpc.StatusCode.DEADLINE_EXCEEDED, "the function's time is over (Lambda timeout)") == channel.call(
        "/test.Test/Slow", timeout=60
    )


@pytest.mark.parametrize("late", ["0m", "1n"])
def test_a_call_that_comes_too_late_is_not_begun(serve: Serve, late: str) -> None:
    """Its deadline has passed on the way."""
    begun = []

    def begins(request: bytes, context: Any) -> bytes:
        begun.append(request)
        return b""

    channel = serve({"Begins": ("unary_unary", begins)})

    assert EXCEEDED == channel.call("/test.Test/Begins", headers={"grpc-timeout": late})
    assert [] == begun


def test_a_cold_start_eats_into_the_callers_time(serve: Serve) -> None:
    """The event says when it was sent."""
    sent = int((time.time() - 3) * 1000)  # noqa: TID251 - events tell wall time
    event = http_v2_event("/test.Test/Remaining", frame(b""), {"grpc-timeout": "5S"}, timeEpoch=sent)
    channel = serve({"Remaining": ("unary_unary", _remaining)})

    assert 1.0 < float(channel.send(event).messages[0]) <= 2.1


def test_servicers_that_outlive_their_deadlines_are_bounded(serve: Serve, released: Event) -> None:
    """When every worker is stuck, further calls are refused and nothing piles up."""

    def stuck(request: bytes, context: Any) -> bytes:
        released.wait()
        return b""

    channel = serve({"Stuck": ("unary_unary", stuck)}, max_workers=2)
    outcomes = [channel.call("/test.Test/Stuck", timeout=0.05) for _ in range(2)]

    assert [EXCEEDED] * 2 == outcomes
    assert Outcome(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "all 2 threads of this instance are busy (max_workers of LambdaServer): earlier calls may have"
        " outlived their deadlines and still run",
    ) == channel.call("/test.Test/Stuck", timeout=10)


# -- the threads --


def test_calls_share_a_thread_and_a_loop(serve: Serve) -> None:
    """Thread-locals and async clients last from call to call."""

    def thread(request: bytes, context: Any) -> bytes:
        return str(get_ident()).encode()

    async def loop(request: bytes, context: Any) -> bytes:
        return str(id(asyncio.get_running_loop())).encode()

    channel = serve({"Thread": ("unary_unary", thread), "Loop": ("unary_unary", loop)})
    threads = {channel.call("/test.Test/Thread").messages for _ in range(20)}
    loops = {channel.call("/test.Test/Loop").messages for _ in range(20)}

    assert len(threads) <= 2
    assert 1 == len(loops)


def test_a_call_may_cancel_itself(serve: Serve) -> None:
    """CANCELLED, as under grpcio; its callbacks run."""
    facts: list[Any] = []

    def cancels(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(lambda: facts.append("callback"))
        context.cancel()
        facts.append(context.is_active())
        return b"dropped"

    channel = serve({"Cancels": ("unary_unary", cancels)})

    assert Outcome(grpc.StatusCode.CANCELLED, "CANCELLED") == channel.call("/test.Test/Cancels")
    assert ["callback", False] == facts


def test_callbacks_run_before_the_reply_leaves(serve: Serve) -> None:
    """Lambda freezes the process with the reply; one that raises does not keep the others from running."""
    facts: list[str] = []

    def plain(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(lambda: 1 / 0)  # type: ignore[arg-type]  # it raises
        context.add_callback(lambda: facts.append("sync"))
        return b""

    async def coroutine(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda _: facts.append("async"))
        return b""

    channel = serve({"Plain": ("unary_unary", plain), "Coroutine": ("unary_unary", coroutine)})
    codes = [channel.call(f"/test.Test/{name}").code for name in ("Plain", "Coroutine")]

    assert [grpc.StatusCode.OK] * 2 == codes
    assert ["sync", "async"] == facts


def test_a_coroutine_that_cancels_itself_is_cancelled(serve: Serve) -> None:
    """The caller learns it; grpc.aio would leave it waiting."""

    async def cancels(request: bytes, context: Any) -> bytes:
        raise asyncio.CancelledError

    channel = serve({"Cancels": ("unary_unary", cancels)})

    assert Outcome(grpc.StatusCode.CANCELLED, "CANCELLED") == channel.call("/test.Test/Cancels")
