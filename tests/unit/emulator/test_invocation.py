"""A reply as a stream between the runtime and the invoker."""

from __future__ import annotations

import asyncio

from bridge.emulator.failures import Failure
from bridge.emulator.invocation import HIGH_WATER, Reply

FAILURE = Failure("Oops", b'{"errorType":"Oops"}')


def ignore() -> None:
    """Nobody waits for the reply to drain."""


async def test_a_reply_is_read_whole() -> None:
    reply = Reply()
    for chunk in (b"a", b"b"):
        reply.feed(chunk, ignore)
    reply.end()

    assert await reply.whole() == b"ab"
    assert reply.failure is None


async def test_a_reply_is_read_while_it_comes() -> None:
    reply = Reply()
    chunks = reply.chunks()
    first = asyncio.get_running_loop().create_task(anext(chunks))
    await asyncio.sleep(0)
    reply.feed(b"a", ignore)
    got = [await first]
    reply.feed(b"b", ignore)
    reply.end()
    got += [chunk async for chunk in chunks]

    assert got == [b"a", b"b"]


async def test_a_failed_reply_is_its_failure_when_read_whole() -> None:
    """Who reads chunks has had what came before."""
    reply = Reply()
    reply.feed(b"part", ignore)
    reply.fail(FAILURE)

    assert FAILURE.body == await reply.whole()


async def test_the_first_end_counts() -> None:
    """A process that dies after its answer changes nothing, nor does a late answer after the time limit."""
    answered = Reply()
    answered.end()
    answered.fail(FAILURE)
    failed = Reply()
    failed.fail(FAILURE)
    failed.feed(b"late", ignore)
    failed.end()

    assert (answered.failure, failed.failure) == (None, FAILURE)
    assert failed.size == 0


async def test_above_its_limit_a_reply_fails_and_takes_no_more() -> None:
    reply = Reply(limit=3)
    reply.feed(b"abc", ignore)
    within = reply.failure
    goes_on = reply.feed(b"d", ignore)

    assert within is None
    assert goes_on
    assert reply.failure is not None
    assert reply.failure.error_type == "Function.ResponseSizeTooLarge"


async def test_unread_bytes_pause_the_runtime_until_they_are_read() -> None:
    reply = Reply()
    resumed: list[str] = []
    took = reply.feed(b"x" * HIGH_WATER, lambda: resumed.append("now"))
    before = list(resumed)
    await anext(reply.chunks())

    assert (took, before, resumed) == (False, [], ["now"])


async def test_a_failure_resumes_the_runtime() -> None:
    """What it still sends is dropped, and must not be stuck."""
    reply = Reply()
    resumed: list[str] = []
    reply.feed(b"x" * HIGH_WATER, lambda: resumed.append("now"))
    reply.fail(FAILURE)

    assert resumed == ["now"]
