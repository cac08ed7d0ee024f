from __future__ import annotations

import asyncio
import socket

import pytest
from msgspec import Raw

from bridge.config.problems import Problem
from bridge.server.control import (
    Begin,
    Changed,
    Channel,
    ControlMessage,
    Drain,
    ReloadWorker,
    ReportFigures,
    Serving,
    StartFailed,
    Unready,
    WorkerFigures,
)

MESSAGES: list[ControlMessage] = [
    Begin("bridge.yaml", {"listen": "a:1"}, (3, 4), "http://127.0.0.1:9001", 2),
    ReloadWorker("http://127.0.0.1:9001"),
    Changed("greeter"),
    Drain(),
    ReportFigures(7),
    Serving(),
    StartFailed("näh"),
    StartFailed("two", (Problem("bridge.yaml", 3, "services.a.A", "no", (5, 8)), Problem("--listen", None, "", "no"))),
    Unready(("draining",)),
    WorkerFigures(7, Raw(b'{"methods":{}}')),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
async def test_every_message_crosses(message: ControlMessage) -> None:
    """What one end sends the other receives."""
    ours, theirs = socket.socketpair()
    sender, receiver = await Channel.over(ours), await Channel.over(theirs)
    sender.send(message)
    received = await receiver.receive()
    sender.close()
    receiver.close()

    assert message == received


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"type":"Other"}\n', b'{"type":"Drain"}'])
async def test_what_is_no_message_ends_the_conversation(line: bytes) -> None:
    """Garbage, an unknown message and one that is cut off are as good as an end that has gone."""
    ours, theirs = socket.socketpair()
    receiver = await Channel.over(theirs)
    with ours:
        await asyncio.get_running_loop().sock_sendall(ours, line)
    received = await receiver.receive()
    receiver.close()

    assert received is None
