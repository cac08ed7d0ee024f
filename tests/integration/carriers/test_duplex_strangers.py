"""Whoever else connects to the listener for functions: strangers, and tokens that are not valid."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from typing import Any

import grpc
import pytest

from bridge.aws.events.duplex_order import KEY
from bridge.carriers.duplex.rendezvous import MAX_STRANGERS_OF_ONE, Rendezvous
from bridge.config.schema import Duplex
from bridge.rpc.address import TcpAddress
from lambda_fn import LambdaServer
from tests.support.behaviours import add
from tests.support.byte_methods import unary_unary
from tests.support.duplex_bridge import (
    METHODS,
    bridged,
    status_of,
)
from tests.support.listening import eventually


async def _sends(address: TcpAddress, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "line",
    [
        b"GLB1 " + b"x" * 43 + b" request-1 60000\n",
        b"GLB1\n",
        b"\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"x" * 300,
        bytes(range(256)),
    ],
)
async def test_a_stranger_without_a_token_gets_nothing(line: bytes) -> None:
    async with bridged(METHODS) as bridge:
        assert b"" == await _sends(bridge.rendezvous.address, line)
        await eventually(lambda: bridge.refused == 1)


async def test_a_token_serves_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was used gets nothing, also while its instance lives."""
    lines: list[bytes] = []

    def watches(event: Any, context: Any) -> Any:
        lines.append(f"GLB1 {event[KEY]['token']} request-1 60000\n".encode())
        return server.handler(event, context)

    server = LambdaServer()
    add(server, METHODS)
    async with bridged(watches) as bridge, bridge.channel() as channel:
        assert b"echo 1" == await unary_unary(channel, "/test.Test/Echo")(b"1")
        assert b"" == await _sends(bridge.rendezvous.address, lines[0])
        assert b"echo 2" == await unary_unary(channel, "/test.Test/Echo")(b"2")
        assert 1 == bridge.functions.invoked
    server.close()


async def test_a_token_that_comes_late_gets_nothing() -> None:
    """Its invocation has been given up."""
    lines: list[bytes] = []

    def sleeps(event: Any, context: Any) -> Any:
        lines.append(f"GLB1 {event[KEY]['token']} request-1 60000\n".encode())
        return asyncio.run(asyncio.sleep(0.5))

    async with bridged(sleeps, settings=Duplex(attach=0.2)) as bridge, bridge.channel() as channel:
        code, _ = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
        assert grpc.StatusCode.UNAVAILABLE is code
        assert b"" == await _sends(bridge.rendezvous.address, lines[0])
        await eventually(lambda: bridge.refused == 1)


async def test_a_token_of_another_function_or_bridge_serves_that_one_alone() -> None:
    """Two functions of a bridge: each token leads to the calls of its own. Another bridge does not know it."""
    lines: list[bytes] = []

    def tells(event: Any, context: Any) -> Any:
        lines.append(f"GLB1 {event[KEY]['token']} request-1 60000\n".encode())
        return asyncio.run(asyncio.sleep(1.0))

    async with bridged(tells, settings=Duplex(attach=0.8)) as bridge, bridged(METHODS) as other:
        async with bridge.channel() as channel, other.channel() as other_channel:
            call = unary_unary(channel, "/test.Test/Echo")(b"")
            await eventually(lambda: bool(lines))
            assert b"" == await _sends(other.rendezvous.address, lines[0])
            assert b"echo 1" == await unary_unary(other_channel, "/test.Test/Echo")(b"1")
            assert grpc.StatusCode.UNAVAILABLE is (await status_of(call))[0]
        assert 1 == other.functions.invoked


async def test_strangers_do_not_keep_a_function_out() -> None:
    """Silent ones give way to those who come later, and a function says at once who it is."""
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        address = bridge.rendezvous.address
        silent = [await asyncio.open_connection(address.host, address.port) for _ in range(2 * MAX_STRANGERS_OF_ONE)]
        assert b"echo 1" == await unary_unary(channel, "/test.Test/Echo")(b"1")
        assert bridge.refused >= MAX_STRANGERS_OF_ONE - 1
        for _, writer in silent:
            writer.close()


async def test_a_stranger_has_a_few_seconds() -> None:
    refused: list[None] = []
    rendezvous = Rendezvous(TcpAddress("127.0.0.1", 0), line_seconds=0.05, count_stranger=lambda: refused.append(None))
    address = rendezvous.listen(TcpAddress("127.0.0.1", 0))
    assert b"" == await _sends(address, b"GLB1 ")
    assert 1 == len(refused)
    await rendezvous.close()


async def test_a_stranger_that_comes_while_the_listener_closes_leaves_nothing_open() -> None:
    """Its task is cancelled before its first step. A socket that nobody closed would warn."""
    rendezvous = Rendezvous(TcpAddress("127.0.0.1", 0), line_seconds=5.0)
    address = rendezvous.listen(TcpAddress("127.0.0.1", 0))
    with warnings.catch_warnings(record=True) as told, socket.create_connection((address.host, address.port)):
        warnings.simplefilter("always")
        while not rendezvous._strangers:
            await asyncio.sleep(0)
        await rendezvous.close()
        gc.collect()

    assert [] == [str(each.message) for each in told]
