"""Calls in full duplex through a bridge of its own process: 200 chats that are under way while something happens."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from tests.support.bridge_process import RunningBridge
from tests.support.byte_methods import stream_stream
from tests.support.clients import ROOT
from tests.support.programs import free_port

CALLS = 200
OF_ONE_INSTANCE = 50
CHAT, SLEEP = "/test.Test/Chat", "/test.Test/Sleep"


def function(**keys: Any) -> dict[str, Any]:
    return {"handler": "tests.support.duplex_function.handler", "code": str(ROOT), "timeout": "60s", **keys}


def configured(target: str = "local:chat", /, *, calls: int = OF_ONE_INSTANCE, **keys: Any) -> dict[str, Any]:
    return {
        "duplex": {"listen": f"127.0.0.1:{free_port()}"},
        "services": {"test.Test": {"target": target, "duplex": {"use": "always", "calls": calls}}},
        "functions": {"chat": function()},
        **keys,
    }


class Chat:
    """One call, which asks again and again."""

    def __init__(self, channel: grpc.aio.Channel, name: int, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._call = stream_stream(channel, CHAT)(metadata=metadata)
        self._name = name
        self._asked = 0
        self.process = 0
        """Of the function that answered."""

    async def ask(self) -> None:
        """Send a message and wait for its answer: of the same process, and of this call."""
        self._asked += 1
        text = b"%d.%d" % (self._name, self._asked)
        await self._call.write(text)
        answer = await self._call.read()
        assert isinstance(answer, bytes), self._call.code()
        process, _, echoed = answer.partition(b" ")
        assert text == echoed
        assert self.process in {0, int(process)}
        self.process = int(process)

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """The call's status, once its client has ended."""
        await self._call.done_writing()
        return await self.status()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        return await self._call.code(), await self._call.details() or ""


@asynccontextmanager
async def chatting(address: str, count: int = CALLS) -> AsyncIterator[list[Chat]]:
    """So many calls that are under way."""
    async with grpc.aio.insecure_channel(address) as channel:
        chats = [Chat(channel, number) for number in range(count)]
        await all_of(chat.ask() for chat in chats)
        yield chats


async def all_of(tasks: Any, seconds: float = 60) -> list[Any]:
    async with asyncio.timeout(seconds):
        return list(await asyncio.gather(*tasks))


def statuses(found: list[tuple[grpc.StatusCode, str]]) -> Counter[grpc.StatusCode]:
    return Counter(code for code, _ in found)


def metric(bridge: RunningBridge, name: str) -> float:
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", bridge.get("/metrics"), re.MULTILINE)
    return sum(map(float, values))
