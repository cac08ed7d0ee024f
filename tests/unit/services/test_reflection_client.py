from __future__ import annotations

import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse

from bridge.rpc.errors import BadReply, ReplyTooLarge
from bridge.services.errors import BadDescriptors
from bridge.services.reflection_client import ReflectionLimits, describe_target
from tests.support.reflecting import ReflectingFunction
from tests.support.schemas import CART, HELLO, MONEY, proto_file


def giving(file: bytes) -> bytes:
    response = ServerReflectionResponse(file_descriptor_response={"file_descriptor_proto": [file]})
    return bytes(response.SerializeToString())


async def test_one_exchange_is_enough_for_one_service() -> None:
    """The list and the service that a client wants are asked for together."""
    function = ReflectingFunction(["helloworld.Greeter"], {"helloworld.Greeter": HELLO})
    described = await describe_target(function, "helloworld.Greeter", name="f")

    assert ("helloworld.Greeter",) == described.services
    assert [["*", "helloworld.Greeter"]] == function.asked


async def test_missing_imports_and_other_services_are_asked_for() -> None:
    """A server that sends one file at a time is asked until nothing is open; protobuf's own files are known."""
    function = ReflectingFunction(
        ["shop.Cart", "helloworld.Greeter", "grpc.health.v1.Health"],
        {"shop.Cart": CART, "money.proto": MONEY, "helloworld.Greeter": HELLO},
    )
    described = await describe_target(function, "shop.Cart", name="f")

    assert {"shop.Cart", "helloworld.Greeter"} == set(described.services)
    assert [["*", "shop.Cart"], ["money.proto", "helloworld.Greeter"]] == function.asked


async def test_a_service_that_cannot_be_described_is_left_out() -> None:
    """What a target lists and then does not know spoils nothing else."""
    function = ReflectingFunction(["a.Ghost", "helloworld.Greeter"], {"helloworld.Greeter": HELLO})
    described = await describe_target(function, "helloworld.Greeter", name="f")

    assert ("helloworld.Greeter",) == described.services


async def test_an_incomplete_answer_names_what_is_missing() -> None:
    """A target that cannot give an import is of no use, and the message says which."""
    function = ReflectingFunction(["shop.Cart"], {"shop.Cart": CART})

    with pytest.raises(BadDescriptors, match=r"cart lacks money\.proto"):
        await describe_target(function, "shop.Cart", name="cart")


@pytest.mark.parametrize("answer", [b"\xff", giving(b"\xff")])
async def test_garbage_is_a_bad_reply(answer: bytes) -> None:
    """An answer that does not decode, or a file in it, ends the conversation."""

    async def ask(requests: list[bytes]) -> list[bytes]:
        return [answer]

    with pytest.raises(BadReply):
        await describe_target(ask, "a.B", name="f")


@pytest.mark.parametrize("limits", [ReflectionLimits(size=1), ReflectionLimits(files=1)])
async def test_a_target_may_not_fill_the_memory(limits: ReflectionLimits) -> None:
    """The bytes and the files of all that a target says are bounded."""
    function = ReflectingFunction(["shop.Cart"], {"shop.Cart": CART, "money.proto": MONEY})

    with pytest.raises(ReplyTooLarge):
        await describe_target(function, "shop.Cart", name="f", limits=limits)


async def test_questions_are_bounded() -> None:
    """What does not fit into one exchange is asked in the next, imports first."""
    function = ReflectingFunction(
        ["shop.Cart", "helloworld.Greeter"],
        {"shop.Cart": CART, "money.proto": MONEY, "helloworld.Greeter": HELLO},
    )
    await describe_target(function, "shop.Cart", name="f", limits=ReflectionLimits(requests=1))

    assert [["*", "shop.Cart"], ["money.proto"], ["helloworld.Greeter"]] == function.asked


async def test_a_target_that_always_names_more_is_cut_off() -> None:
    """A chain of imports without end is followed for a few rounds only."""
    asked = 0

    async def ask(requests: list[bytes]) -> list[bytes]:
        nonlocal asked
        asked += 1
        return [giving(proto_file(f"{asked}.proto", imports=[f"{asked + 1}.proto"]))]

    with pytest.raises(BadDescriptors, match="lacks"):
        await describe_target(ask, "a.B", name="f")
    assert ReflectionLimits().rounds == asked
