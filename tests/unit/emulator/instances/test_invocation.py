"""A reply as a stream between the runtime and the invoker."""

from __future__ import annotations

import asyncio

from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import REPLY_HIGH_WATER, Reply

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


async def test_what_is_streamed_may_have_a_limit_of_its_own() -> None:
    """Only if the function streams."""
    whole, streamed = Reply(limit=3, streamed_limit=5), Reply(limit=3, streamed_limit=5)
    streamed.is_streamed = True
    for reply in (whole, streamed):
        reply.feed(b"abcd", ignore)

    assert (whole.failure is None, streamed.failure is None) == (False, True)


async def test_an_abandoned_reply_holds_nothing_and_nobody_back() -> None:
    """What was held is dropped, as is all that follows; its end still comes."""
    reply = Reply()
    resumed: list[str] = []
    reply.feed(b"x" * REPLY_HIGH_WATER, lambda: resumed.append("now"))
    reply.abandon()
    goes_on = reply.feed(b"x" * REPLY_HIGH_WATER, ignore)
    reply.end()

    assert (resumed, goes_on) == (["now"], True)
    assert await reply.whole() == b""
    assert reply.size == 2 * REPLY_HIGH_WATER


async def test_unread_bytes_pause_the_runtime_until_they_are_read() -> None:
    reply = Reply()
    resumed: list[str] = []
    took = reply.feed(b"x" * REPLY_HIGH_WATER, lambda: resumed.append("now"))
    before = list(resumed)
    await anext(reply.chunks())

    assert (took, before, resumed) == (False, [], ["now"])


async def test_a_failure_resumes_the_runtime() -> None:
    """What it still sends is dropped, and must not be stuck."""
    reply = Reply()
    resumed: list[str] = []
    reply.feed(b"x" * REPLY_HIGH_WATER, lambda: resumed.append("now"))
    reply.fail(FAILURE)

    assert resumed == ["now"]
