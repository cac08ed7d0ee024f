from __future__ import annotations

import asyncio

import pytest
from grpc_reflection.v1alpha import reflection_pb2

from bridge.rpc.errors import FunctionFailed, NoRoute, Throttled
from bridge.rpc.status import StatusCode
from bridge.services.descriptors import Descriptors
from bridge.services.errors import NotDescribed
from bridge.services.reflected_target import FAILURE_MEMORY, ReflectedTarget, first_implemented
from tests.support.fakes import FakeClock
from tests.support.reflecting import ReflectingFunction
from tests.support.schemas import CART, HELLO

Response = reflection_pb2.ServerReflectionResponse


def greeter() -> ReflectingFunction:
    return ReflectingFunction(["helloworld.Greeter"], {"helloworld.Greeter": HELLO})


def describing(target: ReflectedTarget) -> asyncio.Task[Descriptors]:
    return asyncio.get_running_loop().create_task(target.describe("helloworld.Greeter"))


async def test_a_target_is_asked_once() -> None:
    """The first describe asks, the next ones are answered from what it said."""
    function = greeter()
    target = ReflectedTarget(function, name="greeter", now=FakeClock())
    first = await target.describe("helloworld.Greeter")

    assert first is await target.describe("helloworld.Greeter")
    assert ("helloworld.Greeter",) == first.services
    assert [["*", "helloworld.Greeter"]] == function.asked


async def test_a_target_that_has_changed_is_asked_anew() -> None:
    """What it said before, be it an answer or a failure, holds no more; who waits is told to ask again."""
    function, clock = greeter(), FakeClock()
    target = ReflectedTarget(function, name="greeter", now=clock)
    function.failure = FunctionFailed("a typo")
    with pytest.raises(NotDescribed):
        await target.describe("helloworld.Greeter")
    function.failure = None
    target.forget()
    first = await target.describe("helloworld.Greeter")
    target.forget()
    function.gate = asyncio.Event()
    waiting = describing(target)
    await asyncio.sleep(0)
    target.forget()
    with pytest.raises(NotDescribed, match="ask again"):
        await waiting
    function.gate.set()

    assert first is not await target.describe("helloworld.Greeter")


async def test_clients_share_one_conversation() -> None:
    """Who asks while the target is being asked waits for the same answer."""
    function = greeter()
    function.gate = asyncio.Event()
    target = ReflectedTarget(function, name="greeter", now=FakeClock())
    waiting = [describing(target) for _ in range(3)]
    await asyncio.sleep(0)
    function.gate.set()
    first, second, third = await asyncio.gather(*waiting)

    assert first is second is third
    assert 1 == len(function.asked)


async def test_a_client_that_leaves_takes_nothing_with_it() -> None:
    """The conversation goes on for those who still wait."""
    function = greeter()
    function.gate = asyncio.Event()
    target = ReflectedTarget(function, name="greeter", now=FakeClock())
    leaving, staying = (describing(target) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    function.gate.set()

    assert ("helloworld.Greeter",) == (await staying).services
    assert leaving.cancelled()


async def test_a_failure_is_remembered_for_a_while() -> None:
    """A target that failed is left in peace, then asked anew."""
    function, clock = greeter(), FakeClock()
    function.failure = FunctionFailed("the function crashed")
    target = ReflectedTarget(function, name="greeter", now=clock)
    outcomes = []
    for seconds in (0.0, FAILURE_MEMORY - 1, 2.0):
        clock.advance(seconds)
        with pytest.raises(NotDescribed) as caught:
            await target.describe("helloworld.Greeter")
        outcomes.append((caught.value.code, len(function.asked)))

    assert outcomes == [
        (StatusCode.INTERNAL, 1),
        (StatusCode.INTERNAL, 1),
        (StatusCode.INTERNAL, 2),
    ]


@pytest.mark.parametrize(
    ("failure", "code", "text"),
    [
        (
            Throttled("greeter is throttled"),
            StatusCode.UNAVAILABLE,
            "could not be asked: greeter is",
        ),
        (NoRoute("no such method"), StatusCode.NOT_FOUND, "`descriptors` in the configuration"),
    ],
)
async def test_failures_say_what_to_do(failure: Exception, code: StatusCode, text: str) -> None:
    """A failure keeps its code; a target without reflection is simply not described."""
    function = greeter()
    function.failure = failure

    with pytest.raises(NotDescribed, match=text) as caught:
        await ReflectedTarget(function, name="greeter", now=FakeClock()).describe("helloworld.Greeter")
    assert code == caught.value.code


async def test_a_slow_target_is_given_up() -> None:
    """The whole conversation has a time limit."""
    function = greeter()
    function.gate = asyncio.Event()

    with pytest.raises(NotDescribed) as caught:
        await ReflectedTarget(function, name="greeter", now=FakeClock()).describe("helloworld.Greeter")
    assert StatusCode.DEADLINE_EXCEEDED == caught.value.code


async def test_an_unusable_answer_is_a_failure() -> None:
    """Descriptors that do not fit together are the target's fault, and the message says what is wrong."""
    function = ReflectingFunction(["shop.Cart"], {"shop.Cart": CART})

    with pytest.raises(NotDescribed, match=r"cannot be used: cart lacks money\.proto") as caught:
        await ReflectedTarget(function, name="cart", now=FakeClock()).describe("shop.Cart")
    assert StatusCode.INTERNAL == caught.value.code


async def test_closing_ends_the_wait() -> None:
    """When the configuration is replaced, those who wait are told so."""
    function = greeter()
    function.gate = asyncio.Event()
    target = ReflectedTarget(function, name="greeter", now=FakeClock())
    waiting = describing(target)
    await asyncio.sleep(0)
    target.close()

    with pytest.raises(NotDescribed) as caught:
        await waiting
    assert StatusCode.ABORTED == caught.value.code


async def test_the_older_reflection_is_tried_second() -> None:
    """A server that implements v1alpha alone is asked there."""
    old, new = greeter(), greeter()
    new.failure = NoRoute("unknown service grpc.reflection.v1.ServerReflection")
    target = ReflectedTarget(first_implemented(new, old), name="f", now=FakeClock())

    assert ("helloworld.Greeter",) == (await target.describe("helloworld.Greeter")).services


async def test_other_failures_do_not_lead_to_the_older_reflection() -> None:
    """Only UNIMPLEMENTED says that another way may work."""
    old, new = greeter(), greeter()
    new.failure = FunctionFailed("crashed")

    with pytest.raises(FunctionFailed):
        await first_implemented(new, old)([])
    assert [] == old.asked
