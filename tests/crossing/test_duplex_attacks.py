"""Attacks on the listener for functions while 200 calls are under way: all calls go on, and no attacker gets a byte."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from bridge.carriers.duplex.rendezvous import MAX_STRANGERS
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.duplex_chat import (
    CALLS,
    OF_ONE_INSTANCE,
    SLEEP,
    Chat,
    all_of,
    chatting,
    configured,
    function,
    metric,
    statuses,
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Served:
    """A bridge with two functions. One connects, the other one never does. Both tell their tokens."""

    bridge: RunningBridge
    port: int
    folder: Path

    def tokens(self, name: str) -> list[str]:
        return (self.folder / name).read_text().split()

    async def sends(self, data: bytes, *, pause: float = 0.0) -> bytes:
        """What the listener answers until it closes the connection. `pause`: seconds between two bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in [bytes([each]) for each in data] if pause else [data]:
                if reader.at_eof():
                    break
                writer.write(piece)
                await asyncio.sleep(pause)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("attacks")
    config = configured()
    config["services"]["test.Test"]["duplex"]["idle"] = "500ms"
    config["services"]["test.Test/Sleep"] = {
        "target": "local:silent",
        "retry": {"attempts": 1},
        "duplex": {"use": "always", "attach": "500ms"},
    }
    config["functions"] = {
        "chat": function(env={"TELLS_TOKENS": str(folder / "used")}),
        "silent": function(env={"TELLS_TOKENS": str(folder / "late"), "SLEEPS_FIRST": "60"}, concurrency=5),
    }
    with running_bridge(folder, config) as bridge:
        yield Served(bridge, int(config["duplex"]["listen"].rpartition(":")[2]), folder)


def _line(token: str) -> bytes:
    return f"GLB1 {token} request-1 60000\n".encode()


async def _replayed(served: Served) -> list[bytes]:
    """Tokens that have been used, many times each, and stolen ones with other words around them."""
    used = served.tokens("used")
    lines = [_line(token) for token in used for _ in range(10)]
    lines += [f"GLB1 {token} x -1\n".encode() for token in used] + [f"{token}\n".encode() for token in used]
    return await all_of(served.sends(line + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") for line in lines)


async def _late(served: Served) -> list[bytes]:
    """The token of an invocation that has been given up."""
    async with grpc.aio.insecure_channel(served.bridge.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await unary_unary(channel, SLEEP)(b"0")
    assert grpc.StatusCode.UNAVAILABLE is raised.value.code()
    return await all_of(served.sends(_line(token)) for token in served.tokens("late"))


async def _foreign(served: Served) -> list[bytes]:
    """Tokens that another bridge has made."""
    return await all_of(served.sends(_line(secrets.token_urlsafe(32))) for _ in range(100))


async def _guessed(served: Served) -> list[bytes]:
    """Tokens that are almost those in use."""
    used = served.tokens("used")[0]
    lines = [_line(used[:-1] + last) for last in "ABCDEFGHIJ"] + [_line(used.swapcase()), _line(used + "A"), _line("")]
    return await all_of(served.sends(line) for line in lines)


async def _truncated(served: Served) -> list[bytes]:
    """A line without its end. The attacker closes first, or the listener does after its time."""
    lines = [_line(served.tokens("used")[0])[:size] for size in (0, 4, 20, 48, 60)]
    return await all_of(served.sends(line) for line in lines)


async def _oversized(served: Served) -> list[bytes]:
    """A line of a mebibyte, and long ones with an end."""
    token = served.tokens("used")[0]
    lines = [b"GLB1 " + b"x" * (1 << 20), _line(token + "x" * 300), b"\xff" * 5000 + b"\n", b" " * 257 + b"\n"]
    return await all_of(served.sends(line) for line in lines * 10)


async def _slow(served: Served) -> list[bytes]:
    """A line of which one byte comes in 0.2 s: the whole would take 12 s."""
    return await all_of(served.sends(_line(served.tokens("used")[0]), pause=0.2) for _ in range(20))


async def _many(served: Served) -> list[bytes]:
    """More strangers than one address may have, and they say nothing. A function finds its way between them."""
    opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(MAX_STRANGERS + 100)]
    async with grpc.aio.insecure_channel(served.bridge.address) as channel:
        one_more = Chat(channel, CALLS)
        await one_more.ask()
        assert grpc.StatusCode.OK is (await one_more.end())[0]
    answers = await all_of(reader.read() for reader, _ in opened)
    for _, writer in opened:
        writer.close()
    return answers


Attack = Callable[[Served], Awaitable[list[bytes]]]
ATTACKS: dict[str, Attack] = {
    "replayed": _replayed,
    "late": _late,
    "foreign": _foreign,
    "guessed": _guessed,
    "truncated": _truncated,
    "oversized": _oversized,
    "slow": _slow,
    "many": _many,
}


@asynccontextmanager
async def _talking(chats: list[Chat]) -> AsyncIterator[None]:
    """All of them ask again and again meanwhile."""

    async def talks() -> None:
        while not is_over:
            await all_of(chat.ask() for chat in chats)

    is_over: list[None] = []
    task = asyncio.get_running_loop().create_task(talks())
    try:
        yield
    finally:
        is_over.append(None)
        await task


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_at_the_functions_listener_harms_none_of_200_calls(served: Served, name: str) -> None:
    before = metric(served.bridge, "bridge_duplex_strangers_total")
    async with chatting(served.bridge.address) as chats:
        async with _talking(chats):
            answers = await ATTACKS[name](served)
        assert [b""] * len(answers) == answers
        assert len(answers) > 0
        assert [OF_ONE_INSTANCE] * 4 == [len(each) for each in _by_process(chats)]
        assert {grpc.StatusCode.OK: CALLS} == statuses(await all_of(chat.end() for chat in chats))
    assert len(answers) == metric(served.bridge, "bridge_duplex_strangers_total") - before
    served.bridge.wait_until(lambda: metric(served.bridge, "bridge_attached_instances") == 0)


def _by_process(chats: list[Chat]) -> list[list[Chat]]:
    return [[chat for chat in chats if chat.process == each] for each in {chat.process for chat in chats}]


def test_no_log_has_a_token(served: Served) -> None:
    tokens = {*served.tokens("used"), *served.tokens("late")}

    assert tokens
    assert [] == [line for line in served.bridge.lines if any(token in line for token in tokens)]
