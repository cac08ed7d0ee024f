"""Full duplex through a bridge of its own process, with functions of the local Lambda: what becomes of 200 calls that
are under way when something ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import grpc
import pytest
import yaml

from lambda_fn.duplex.order import KEY
from tests.support.bridge_process import RunningBridge, plain_environment, running_bridge
from tests.support.byte_methods import stream_stream, unary_unary
from tests.support.duplex_chat import (
    CALLS,
    CHAT,
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
from tests.support.programs import free_port

pytestmark = pytest.mark.slow

_RETURNS_SECONDS = 1.0
"""Within which a function returns when its bridge is gone."""


def warnings_of(bridge: RunningBridge) -> list[str]:
    quiet = ('"level":"info"', '"method":', "chat | ")
    return [line for line in bridge.lines if not any(each in line for each in quiet)]


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("bridge")
    with running_bridge(folder, configured()) as running:
        yield running


async def test_many_streams_share_few_instances_and_leave_none_behind(bridge: RunningBridge) -> None:
    async with chatting(bridge.address) as chats:
        assert [OF_ONE_INSTANCE] * 4 == list(Counter(chat.process for chat in chats).values())
        assert 4 == metric(bridge, "bridge_attached_instances")
        assert CALLS == metric(bridge, "bridge_instance_calls")
        assert {grpc.StatusCode.OK: CALLS} == statuses(await all_of(chat.end() for chat in chats))
    bridge.wait_until(lambda: metric(bridge, "bridge_attached_instances") == 0)
    assert 0 == metric(bridge, "bridge_instance_calls")
    entries = bridge.wait_for_log(CHAT, CALLS)
    assert 4 == len({entry["request_id"] for entry in entries})
    assert {1} == {entry["attempts"] for entry in entries}


async def test_a_function_that_is_killed_ends_its_own_calls_alone(bridge: RunningBridge) -> None:
    async with chatting(bridge.address) as chats:
        victim = chats[0].process
        os.kill(victim, signal.SIGKILL)
        dead = [chat for chat in chats if chat.process == victim]
        alive = [chat for chat in chats if chat.process != victim]
        ended = await all_of(chat.status() for chat in dead)
        assert {grpc.StatusCode.UNAVAILABLE: OF_ONE_INSTANCE} == statuses(ended)
        assert all("may have run" in text for _, text in ended)
        await all_of(chat.ask() for chat in alive)
        assert {grpc.StatusCode.OK: CALLS - OF_ONE_INSTANCE} == statuses(await all_of(chat.end() for chat in alive))
    bridge.wait_until(lambda: metric(bridge, "bridge_attached_instances") == 0)


async def test_a_bridge_that_drains_lets_its_calls_end(tmp_path: Path) -> None:
    with running_bridge(tmp_path, configured(drain="30s")) as bridge:
        async with chatting(bridge.address) as chats:
            bridge.process.send_signal(signal.SIGTERM)
            bridge.wait_for_line("draining")
            await all_of(chat.ask() for chat in chats)
            assert {grpc.StatusCode.OK: CALLS} == statuses(await all_of(chat.end() for chat in chats))
        assert 0 == bridge.process.wait(30)
        bridge.stop()
        assert [] == warnings_of(bridge)


async def test_calls_that_wait_for_their_function_are_served_in_a_drain(tmp_path: Path) -> None:
    """The signal comes while four instances are attaching."""
    slow = function(env={"SLEEPS_FIRST": "1.5"})
    with running_bridge(tmp_path, configured(drain="30s", functions={"chat": slow})) as bridge:
        async with grpc.aio.insecure_channel(bridge.address) as channel:
            chats = [Chat(channel, number) for number in range(CALLS)]
            asking = asyncio.get_running_loop().create_task(all_of(chat.ask() for chat in chats))
            while metric(bridge, "bridge_instance_calls") < CALLS:
                await asyncio.sleep(0.02)
            assert 0 == metric(bridge, "bridge_attached_instances")
            bridge.process.send_signal(signal.SIGTERM)
            bridge.wait_for_line("draining")
            await asking
            assert {grpc.StatusCode.OK: CALLS} == statuses(await all_of(chat.end() for chat in chats))
        assert 0 == bridge.process.wait(30)
        bridge.stop()
        assert [] == warnings_of(bridge)


async def test_a_reload_while_instances_attach_harms_no_call(tmp_path: Path) -> None:
    """Only `idle` changes, so the target is another one. Calls end where they began, and their instances with them."""
    config = configured(functions={"chat": function(env={"SLEEPS_FIRST": "1.5"})})
    config["services"]["test.Test"]["duplex"]["idle"] = "10m"
    with running_bridge(tmp_path, config) as bridge:
        async with grpc.aio.insecure_channel(bridge.address) as channel:
            chats = [Chat(channel, number) for number in range(CALLS)]
            asking = asyncio.get_running_loop().create_task(all_of(chat.ask() for chat in chats))
            while metric(bridge, "bridge_instance_calls") < CALLS:
                await asyncio.sleep(0.02)
            file = tmp_path / "bridge.yaml"
            file.write_text(file.read_text().replace("idle: 10m", "idle: 1s"))
            _reload(bridge, 1)
            later = Chat(channel, CALLS)
            await all_of((asking, later.ask()))
            assert later.process not in {chat.process for chat in chats}
            assert {grpc.StatusCode.OK: CALLS + 1} == statuses(await all_of(chat.end() for chat in [*chats, later]))
        bridge.wait_until(lambda: metric(bridge, "bridge_attached_instances") == 0)


async def test_calls_that_outlast_the_drain_end_unavailable(tmp_path: Path) -> None:
    """One status each, and the functions return before the bridge has ended: nobody pays for them."""
    with running_bridge(tmp_path, configured(drain="500ms")) as bridge:
        async with chatting(bridge.address) as chats:
            bridge.process.send_signal(signal.SIGTERM)
            assert {grpc.StatusCode.UNAVAILABLE: CALLS} == statuses(await all_of(chat.status() for chat in chats))
        assert 0 == bridge.process.wait(30)
        bridge.stop()
        assert not any("Invoke connection was lost" in line for line in bridge.lines)
        assert not any("Traceback" in line for line in bridge.lines)


async def test_a_reload_keeps_the_instances_of_unchanged_targets(tmp_path: Path) -> None:
    """Calls of targets that have changed go on to their end, on the instances that they began on."""
    config = configured(calls=2 * CALLS)
    config["services"] |= {"test.Test/Sleep": "local:other"}
    config["functions"]["other"] = function()
    with running_bridge(tmp_path, config) as bridge:
        async with chatting(bridge.address) as chats, grpc.aio.insecure_channel(bridge.address) as channel:
            (kept,) = {chat.process for chat in chats}
            file = tmp_path / "bridge.yaml"
            file.write_text(file.read_text().replace("local:other", "local:chat"))
            _reload(bridge, 1)
            more = Chat(channel, CALLS)
            await more.ask()
            assert kept == more.process

            changed = yaml.safe_load(file.read_text())
            changed["services"]["test.Test"]["duplex"]["calls"] = CALLS
            file.write_text(yaml.safe_dump(changed))
            _reload(bridge, 2)
            latest = Chat(channel, CALLS + 1)
            await latest.ask()
            assert kept != latest.process
            everybody = [*chats, more, latest]
            await all_of(chat.ask() for chat in everybody)
            assert {grpc.StatusCode.OK: CALLS + 2} == statuses(await all_of(chat.end() for chat in everybody))
        bridge.wait_until(lambda: metric(bridge, "bridge_attached_instances") == 0)


async def test_calls_that_wait_after_a_reload_get_the_places_of_those_before(tmp_path: Path) -> None:
    """`max_concurrency` counts both. A call that began before the reload wakes one that waits after it."""
    config = configured()
    config["services"]["test.Test"]["max_concurrency"] = 1
    with running_bridge(tmp_path, config) as bridge:
        async with chatting(bridge.address, 1) as (before,), grpc.aio.insecure_channel(bridge.address) as channel:
            _reload(bridge, 1)
            after = Chat(channel, 1)
            asking = asyncio.get_running_loop().create_task(after.ask())
            while metric(bridge, "bridge_queue_length") < 1:
                await asyncio.sleep(0.02)
            await before.ask()
            assert not asking.done()
            assert grpc.StatusCode.OK is (await before.end())[0]
            await asking
            assert grpc.StatusCode.OK is (await after.end())[0]


def _reload(bridge: RunningBridge, times: int) -> None:
    bridge.process.send_signal(signal.SIGHUP)
    bridge.wait_until(lambda: sum("reloaded" in line for line in tuple(bridge.lines)) == times)


async def test_throttled_calls_wait_for_their_turn(tmp_path: Path) -> None:
    """The account lets two instances run, so 20 calls at a time: the others wait, and all are served once."""
    config = configured(calls=10, functions={"chat": function(concurrency=2)})
    with running_bridge(tmp_path, config) as bridge:
        async with grpc.aio.insecure_channel(bridge.address) as channel:
            sleep = unary_unary(channel, SLEEP)
            answers = await all_of(_one(sleep(b"0.05")) for _ in range(CALLS))
        assert 2 >= len(set(answers))
        assert CALLS == len(bridge.wait_for_log(SLEEP, CALLS))
        assert metric(bridge, "bridge_throttles_total") > 0


async def _one(call: Any) -> bytes:
    answer: bytes = await call
    return answer


async def test_functions_that_never_connect_end_each_call_once(tmp_path: Path) -> None:
    config = configured(functions={"chat": function(env={"SLEEPS_FIRST": "60"})})
    config["services"]["test.Test"] |= {"retry": {"attempts": 1}}
    config["services"]["test.Test"]["duplex"]["attach"] = "1s"
    with running_bridge(tmp_path, config) as bridge:
        async with grpc.aio.insecure_channel(bridge.address) as channel:
            calls = [stream_stream(channel, CHAT)() for _ in range(CALLS)]
            ended = await all_of(call.code() for call in calls)
            text = await calls[0].details()
        assert {grpc.StatusCode.UNAVAILABLE: CALLS} == Counter(ended)
        assert config["duplex"]["listen"] in (text or "")
        assert CALLS == len(bridge.wait_for_log(CHAT, CALLS))


async def test_each_worker_meets_its_functions_at_a_port_of_its_own(tmp_path: Path) -> None:
    port = _free_ports()
    config = configured(calls=CALLS, workers=2, duplex={"listen": f"127.0.0.1:{port}"})
    options = [("grpc.use_local_subchannel_pool", 1)]
    with running_bridge(tmp_path, config) as bridge:
        channels: list[grpc.aio.Channel] = []
        chats: list[Chat] = []
        # Whichever worker is awake accepts: on a busy machine one may take many connections before the other.
        while len(chats) < CALLS or len({chat.process for chat in chats}) < 2:
            channels.append(grpc.aio.insecure_channel(bridge.address, options))
            more = [Chat(channels[-1], len(chats) + number) for number in range(10)]
            await all_of(chat.ask() for chat in more)
            chats += more
        assert _is_free(port)
        assert not _is_free(port + 1)
        assert not _is_free(port + 2)
        assert 2 == len({chat.process for chat in chats})
        assert 2 == metric(bridge, "bridge_attached_instances")
        assert {grpc.StatusCode.OK: len(chats)} == statuses(await all_of(chat.end() for chat in chats))
        for channel in channels:
            await channel.close()


async def test_a_worker_that_is_killed_ends_its_own_calls_alone_and_its_successor_meets_functions_too(
    tmp_path: Path,
) -> None:
    config = configured(calls=CALLS, workers=2, duplex={"listen": f"127.0.0.1:{_free_ports()}"})
    options = [("grpc.use_local_subchannel_pool", 1)]
    with running_bridge(tmp_path, config) as bridge:
        channels = await _channels_of_two_workers(bridge, options)
        chats = [Chat(channels[number % 20], number) for number in range(CALLS)]
        await all_of(chat.ask() for chat in chats)
        victim = _workers(bridge.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        dead = [chat for chat in chats if not await _goes_on(chat)]
        alive = [chat for chat in chats if chat not in dead]
        assert {grpc.StatusCode.UNAVAILABLE: len(dead)} == statuses(await all_of(chat.status() for chat in dead))
        assert [1, 1] == [len({chat.process for chat in each}) for each in (dead, alive)]
        bridge.wait_until(lambda: len(_workers(bridge.process.pid)) == 2 and victim not in _workers(bridge.process.pid))

        fresh = await _channels_of_two_workers(bridge, options)
        later = [Chat(channel, CALLS + number) for number, channel in enumerate(fresh)]
        await all_of(chat.ask() for chat in later)
        assert 2 == len({chat.process for chat in later})
        assert {grpc.StatusCode.OK: len(alive) + 20} == statuses(await all_of(chat.end() for chat in [*alive, *later]))
        for channel in (*channels, *fresh):
            await channel.close()


async def _channels_of_two_workers(bridge: RunningBridge, options: Sequence[tuple[str, int]]) -> list[grpc.aio.Channel]:
    """Twenty connections, ten of them to each worker. The system gives each new one to whichever worker is faster."""
    found: dict[int, list[grpc.aio.Channel]] = {}
    while len(found) < 2 or min(map(len, found.values())) < 10:
        channel = grpc.aio.insecure_channel(bridge.address, options)
        probe = Chat(channel, 0)
        await probe.ask()
        assert (grpc.StatusCode.OK, "") == await probe.end()
        of_worker = found.setdefault(probe.process, [])
        if len(of_worker) < 10:
            of_worker.append(channel)
        else:
            await channel.close()
    return [channel for pair in zip(*found.values(), strict=True) for channel in pair]


def _free_ports() -> int:
    """A port, and two free ones behind it for the workers."""
    while True:
        port = free_port()
        if _is_free(port + 1) and _is_free(port + 2):
            return port


def _workers(supervisor: int) -> list[int]:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(each) for each in children if b"bridge.commands.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


async def _goes_on(chat: Chat) -> bool:
    try:
        await chat.ask()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, AssertionError):
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def test_the_death_of_one_tenants_instance_is_nothing_to_another(tmp_path: Path) -> None:
    """Two tenants with 100 calls each: no process has calls of both."""
    config = configured(functions={"chat": function(tenants=True)})
    config["services"]["test.Test"]["tenant"] = {"metadata": "x-tenant"}
    with running_bridge(tmp_path, config) as bridge:
        async with grpc.aio.insecure_channel(bridge.address) as channel:
            chats = [Chat(channel, number, (("x-tenant", f"tenant {number % 2}"),)) for number in range(CALLS)]
            await all_of(chat.ask() for chat in chats)
            first, second = ({chat.process for chat in chats[tenant::2]} for tenant in range(2))
            assert (2, 2, set()) == (len(first), len(second), first & second)
            victim = chats[0].process
            os.kill(victim, signal.SIGKILL)
            dead = [chat for chat in chats if chat.process == victim]
            alive = [chat for chat in chats if chat.process != victim]
            assert {grpc.StatusCode.UNAVAILABLE: OF_ONE_INSTANCE} == statuses(
                await all_of(chat.status() for chat in dead)
            )
            await all_of(chat.ask() for chat in alive)
            assert {grpc.StatusCode.OK: len(alive)} == statuses(await all_of(chat.end() for chat in alive))
        assert CALLS == len(bridge.wait_for_log(CHAT, CALLS))


async def test_a_thousand_streams_over_twenty_instances(tmp_path: Path) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with running_bridge(tmp_path, configured(functions={"chat": function(concurrency=20)})) as bridge:
        channels = [grpc.aio.insecure_channel(bridge.address, options) for _ in range(20)]
        chats = [Chat(channels[number % 20], number) for number in range(1000)]
        await all_of((chat.ask() for chat in chats), 300)
        assert [OF_ONE_INSTANCE] * 20 == list(Counter(chat.process for chat in chats).values())
        await all_of(chat.ask() for chat in chats)
        assert {grpc.StatusCode.OK: 1000} == statuses(await all_of(chat.end() for chat in chats))
        for channel in channels:
            await channel.close()


async def test_an_order_that_comes_through_a_function_url_is_none(tmp_path: Path) -> None:
    """Its front door writes the top-level keys of the event. What a caller sends stands below them."""
    config = configured(functions={"chat": function(url={"auth": "none"})})
    with socket.create_server(("127.0.0.1", 0)) as forger, running_bridge(tmp_path, config) as bridge:
        forger.settimeout(0)
        found = re.search(r"http://127.0.0.1:\d+/lambda-url/chat/", "\n".join(bridge.lines))
        assert found is not None
        order = json.dumps({KEY: _order(forger)})
        for path in ("grpc-lambda-bridge.duplex.v1/attach", f"test.Test/Sleep?{KEY}={quote(order)}"):
            headers = {KEY: order, "content-type": "application/json"}
            with pytest.raises(HTTPError):
                urlopen(Request(found[0] + path, order.encode(), headers), timeout=30)
        with pytest.raises(BlockingIOError):
            forger.accept()


def _order(forger: socket.socket) -> dict[str, Any]:
    return {
        "version": 1,
        "address": "{}:{}".format(*forger.getsockname()),
        "token": "x" * 43,
        "tls": None,
        "attachSeconds": 5.0,
        "calls": 10,
    }


# -- a bridge that is killed -------------------------------------------------------------------------------------------


@contextmanager
def _local_lambda(folder: Path) -> Iterator[tuple[str, Path]]:
    """A local Lambda of a process of its own: its URL, and its log."""
    file, log = folder / "emulator.yaml", folder / "emulator.log"
    file.write_text(yaml.safe_dump({"functions": {"chat": function()}}))
    command = [sys.executable, "-m", "bridge", "emulate", "-c", str(file), "--emulator", "127.0.0.1:0"]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, env=plain_environment()) as process:
        try:
            until = time.monotonic() + 60
            while (found := re.search(r"local Lambda on (http://[^\s:]+:\d+)", log.read_text())) is None:
                assert process.poll() is None
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            yield found[1], log
        finally:
            process.terminate()


async def test_a_function_returns_at_once_when_its_bridge_is_killed(tmp_path: Path) -> None:
    """Nobody pays for an invocation that serves nobody."""
    with _local_lambda(tmp_path) as (url, log):
        config = configured(emulator=url)
        del config["functions"]
        with running_bridge(tmp_path, config) as bridge:
            async with chatting(bridge.address) as chats:
                processes = {chat.process for chat in chats}
                killed = time.monotonic()
                bridge.process.kill()
                while processes - set(map(int, re.findall(r"returned (\d+)", log.read_text()))):
                    assert time.monotonic() - killed < 30, log.read_text()
                    await asyncio.sleep(0.02)
                took = time.monotonic() - killed
                assert {grpc.StatusCode.UNAVAILABLE: CALLS} == statuses(await all_of(chat.status() for chat in chats))
        assert 4 == len(processes)
        assert took < _RETURNS_SECONDS
