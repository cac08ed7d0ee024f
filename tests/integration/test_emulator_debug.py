"""`debug`: a function under debugpy, or under the inspector of Node.js, and an editor that attaches."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.config.schema import Debug, FunctionConfig, Reload
from bridge.emulator.instances.debugging import CannotDebug, DebugPorts, listens
from tests.support.dap import editor
from tests.support.emulator import Caller, handler, local_lambda
from tests.support.programs import free_port

pytestmark = pytest.mark.slow

SOURCE = """
import os

def handler(event, context):
    doubled = event * 2
    return [doubled, os.getpid(), context.get_remaining_time_in_millis()]
"""
LINE = 6
"""Where `doubled` is known."""


def function(folder: Path, port: int, source: str = SOURCE, *, wait: bool = False, **options: Any) -> FunctionConfig:
    return handler(folder, source, debug=Debug(port, wait), timeout=0.3, memory=512 << 20, **options)


async def started(caller: Caller, port: int, *, times: int = 1) -> None:
    """Until the log has said so often that the debugger listens."""
    await told(caller, f"listens on 127.0.0.1:{port}", times=times)


async def told(caller: Caller, text: str, *, times: int = 1) -> None:
    """Until so many lines have a text."""
    async with asyncio.timeout(30):
        while sum(text in line for _, line in caller.lines) < times:
            caller.written.clear()
            await caller.written.wait()


async def test_a_breakpoint_stops_an_invocation(tmp_path: Path) -> None:
    """Before the first invocation the editor attaches. The invocation outlives its time limit, and ends well."""
    port = free_port()
    async with local_lambda(function(tmp_path, port), idle_timeout=0.1) as caller:
        await started(caller, port)
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", LINE))
            invoking = asyncio.get_running_loop().create_task(caller.invoke(21))
            frame = await attached.stopped()
            await asyncio.sleep(0.5)
            assert not invoking.done()
            await attached.go_on()
            answer = await invoking
        again = await caller.invoke(1)

    assert ("handler", LINE, "42") == (frame["name"], frame["line"], frame["variables"]["doubled"])
    assert (None, 42) == (answer.function_error, answer.result[0])
    assert answer.result[1] == again.result[1]  # idle, and still there
    assert answer.result[2] > 3600 * 1000


async def test_a_function_may_wait_for_the_editor(tmp_path: Path) -> None:
    """So that a breakpoint in its first line is hit. It takes longer than a start may."""
    port = free_port()
    async with local_lambda(function(tmp_path, port, wait=True), init_timeout=0.2) as caller:
        invoking = asyncio.get_running_loop().create_task(caller.invoke(1))
        await started(caller, port)
        assert "The function waits for an editor." in caller.lines[0][1]
        await asyncio.sleep(0.5)
        assert not invoking.done()
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", 2))
            frame = await attached.stopped()
            await attached.go_on()
            answer = await invoking

    assert ("<module>", 2) == (frame["name"], frame["line"])
    assert (None, 2) == (answer.function_error, answer.result[0])


@pytest.mark.parametrize("is_attached", [True, False])
async def test_breakpoint_in_the_code_stops_for_an_editor_only(tmp_path: Path, is_attached: bool) -> None:
    port = free_port()
    source = SOURCE.replace("    return", "    breakpoint()\n    return")
    async with local_lambda(function(tmp_path, port, source)) as caller:
        await started(caller, port)
        if not is_attached:
            assert 2 == (await caller.invoke(1)).result[0]
            return
        async with editor(port) as attached:
            await attached.attach()
            invoking = asyncio.get_running_loop().create_task(caller.invoke(1))
            frame = await attached.stopped()
            await attached.go_on()
            assert 2 == (await invoking).result[0]
    assert "handler" == frame["name"]


async def test_awss_runtime_client_is_debugged_too(tmp_path: Path) -> None:
    port = free_port()
    async with local_lambda(function(tmp_path, port, runtime="awslambdaric")) as caller:
        await started(caller, port)
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", LINE))
            invoking = asyncio.get_running_loop().create_task(caller.invoke(21))
            assert "42" == (await attached.stopped())["variables"]["doubled"]
            await attached.go_on()
            assert 42 == (await invoking).result[0]


async def test_many_calls_of_one_instance_have_no_time_limit_either(tmp_path: Path) -> None:
    port = free_port()
    async with local_lambda(function(tmp_path, port, instance_concurrency=4)) as caller:
        await started(caller, port)
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", LINE))
            invoking = asyncio.get_running_loop().create_task(caller.invoke(21))
            await attached.stopped()
            await asyncio.sleep(0.5)
            await attached.go_on()
            assert 42 == (await invoking).result[0]


async def test_there_is_one_instance(tmp_path: Path) -> None:
    """A second invocation is throttled while the first is stopped, whatever `concurrency` is."""
    port = free_port()
    async with local_lambda(function(tmp_path, port, concurrency=5)) as caller:
        await started(caller, port)
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", LINE))
            invoking = asyncio.get_running_loop().create_task(caller.invoke(1))
            await attached.stopped()
            refused = await caller.refusal(2)
            await attached.go_on()
            await invoking

    assert "TooManyRequestsException" == refused["Error"]["Code"]


async def test_a_reload_gives_the_port_to_the_new_instance(tmp_path: Path) -> None:
    """While an editor is attached: its session ends, and it can attach again, before any invocation."""
    port = free_port()
    async with local_lambda(function(tmp_path, port, reload=Reload())) as caller:
        await started(caller, port)
        first = (await caller.invoke(1)).result
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", LINE))
            (tmp_path / "fn.py").write_text(SOURCE.replace("* 2", "* 3"))
            await attached.ended()
        await started(caller, port, times=2)
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", LINE))
            invoking = asyncio.get_running_loop().create_task(caller.invoke(2))
            frame = await attached.stopped()
            await attached.go_on()
            second = (await invoking).result

    assert "6" == frame["variables"]["doubled"]
    assert first[1] != second[1]


async def test_a_reload_waits_for_an_invocation_that_is_stopped(tmp_path: Path) -> None:
    """It ends where it is. Then the new instance gets the port, even after several reloads."""
    port = free_port()
    config = function(tmp_path, port)
    async with local_lambda(config) as caller:
        await started(caller, port)
        async with editor(port) as attached:
            await attached.attach((tmp_path / "fn.py", LINE))
            invoking = asyncio.get_running_loop().create_task(caller.invoke(1))
            await attached.stopped()
            for _ in range(3):
                caller.local._functions["fn"].renew(config)
            await asyncio.sleep(0.3)
            await attached.go_on()
            first = (await invoking).result
        await started(caller, port, times=2)
        second = (await caller.invoke(1)).result

    assert first[0] == second[0]
    assert first[1] != second[1]
    assert not any("debug: 127.0.0.1" in line for _, line in caller.lines)


async def test_nothing_of_it_is_left(tmp_path: Path) -> None:
    """Neither a process nor the debugger's own, which leaves the group of the function's."""
    port = free_port()
    async with local_lambda(function(tmp_path, port)) as caller:
        await started(caller, port)
    await DebugPorts(patience=30).take(port)  # the debugger's own process goes last


async def test_a_debugger_whose_function_was_killed_as_it_started_keeps_no_port(tmp_path: Path) -> None:
    """debugpy's own process waits for the function's for ever if they were not connected yet."""
    port = free_port()
    ports = DebugPorts(patience=30)
    await ports.take(port)
    found = find_spec("debugpy")
    assert found is not None
    assert found.origin is not None
    with socket.create_server(("127.0.0.1", 0)) as function:
        adapter = [str(Path(found.origin).parent / "adapter"), "--for-server", str(function.getsockname()[1])]
        # It goes on in the background, in a group of its own.
        adapter += ["--host", "127.0.0.1", "--port", str(port)]
        subprocess.run([sys.executable, *adapter], stderr=subprocess.DEVNULL, check=True)
        assert await listens(port, has_ended=lambda: False)
        ports.release(port)
        await ports.take(port)


async def test_a_taken_port_says_so(tmp_path: Path) -> None:
    """At once in the log, and to who invokes the function."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = function(tmp_path, port)
        async with local_lambda(config, debug_patience=0.2) as caller:
            await told(caller, f"debug: 127.0.0.1:{port} is taken by another program")
            answer = await caller.invoke(1)
            other.close()
            later = await caller.invoke(1)

    assert f"127.0.0.1:{port} is taken by another program" in answer.result["errorMessage"]
    assert 2 == later.result[0]


@pytest.mark.parametrize("own", [True, False], ids=["the bridge's Python", "another Python"])
async def test_without_debugpy_it_says_what_to_install(tmp_path: Path, own: bool, monkeypatch: Any) -> None:
    """And it works as soon as debugpy is there."""
    port = free_port()
    bare = tmp_path / "python"
    # An interpreter of its own, without what is installed in this one.
    bare.write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} -S "$@"\n')
    bare.chmod(0o755)
    if own:
        monkeypatch.setattr(sys, "executable", str(bare))
    config = replace(function(tmp_path, port), python=None if own else bare)
    installed = "pip install 'grpc-lambda-bridge[debug]'" if own else f"{bare} -m pip install debugpy"
    async with local_lambda(config) as caller:
        await told(caller, "debug: `debug` needs debugpy")
        answer = await caller.invoke(1)
        assert installed in answer.result["errorMessage"]
        (tmp_path / "debugpy.py").write_text(f"import socket, time\nsocket.create_server(('127.0.0.1', {port}))\n")
        later = await caller.invoke(1)

    assert "Runtime.ExitError" == later.result["errorType"]  # it was started


# -- Node.js -----------------------------------------------------------------------------------------------------------

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = """
let loads = 1;
exports.handler = async (event) => {
  const doubled = event * 2;
  return [doubled, process.pid, loads];
};
"""


def script(folder: Path, port: int, *, wait: bool = False, **options: Any) -> FunctionConfig:
    (folder / "index.js").write_text(SCRIPT)
    return FunctionConfig("fn", folder, handler="index.handler", debug=Debug(port, wait), timeout=0.3, **options)


class Inspector:
    """A client of Node.js's inspector."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def ask(self, method: str, **params: object) -> None:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})

    async def event(self, method: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                message = await self._socket.receive_json()
                if message.get("method") == method:
                    params: dict[str, Any] = message["params"]
                    return params


@asynccontextmanager
async def inspector(port: int) -> AsyncIterator[Inspector]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json") as response:
            (target,) = await response.json()
        async with session.ws_connect(target["webSocketDebuggerUrl"]) as connected:
            yield Inspector(connected)


@needs_node
async def test_the_inspector_of_node_answers(tmp_path: Path) -> None:
    """A breakpoint stops the invocation beyond its time limit."""
    port = free_port()
    async with local_lambda(script(tmp_path, port)) as caller:
        await started(caller, port)
        async with inspector(port) as attached:
            await attached.ask("Debugger.enable")
            url = f"file://{tmp_path}/index.js"
            await attached.ask("Debugger.setBreakpointByUrl", lineNumber=4, url=url)
            await asyncio.sleep(0.5)
            invoking = asyncio.get_running_loop().create_task(caller.invoke(21))
            paused = await attached.event("Debugger.paused")
            await asyncio.sleep(0.5)
            assert not invoking.done()
            await attached.ask("Debugger.resume")
            answer = await invoking

    assert 4 == paused["callFrames"][0]["location"]["lineNumber"]
    assert (None, 42) == (answer.function_error, answer.result[0])


@needs_node
async def test_node_may_wait_for_the_editor(tmp_path: Path) -> None:
    """A breakpoint in the first line of the function is hit."""
    port = free_port()
    async with local_lambda(script(tmp_path, port, wait=True), init_timeout=0.2) as caller:
        await started(caller, port)
        invoking = asyncio.get_running_loop().create_task(caller.invoke(1))
        await asyncio.sleep(0.5)
        assert not invoking.done()
        async with inspector(port) as attached:
            await attached.ask("Debugger.enable")
            await attached.ask("Debugger.setBreakpointByUrl", lineNumber=1, url=f"file://{tmp_path}/index.js")
            await attached.ask("Runtime.runIfWaitingForDebugger")
            paused = await attached.event("Debugger.paused")
            await attached.ask("Debugger.resume")
            answer = await invoking

    assert 1 == paused["callFrames"][0]["location"]["lineNumber"]
    assert 2 == answer.result[0]


@needs_node
async def test_a_reload_gives_the_inspectors_port_to_the_new_instance(tmp_path: Path) -> None:
    port = free_port()
    async with local_lambda(script(tmp_path, port, reload=Reload())) as caller:
        await started(caller, port)
        first = (await caller.invoke(1)).result
        async with inspector(port) as attached:
            await attached.ask("Debugger.enable")
            (tmp_path / "index.js").write_text(SCRIPT.replace("* 2", "* 3"))
            await started(caller, port, times=2)
        async with inspector(port) as attached:
            await attached.ask("Debugger.enable")
            second = (await caller.invoke(1)).result

    assert (2, 3) == (first[0], second[0])


# -- ports -------------------------------------------------------------------------------------------------------------


async def test_a_port_is_for_one_at_a_time() -> None:
    ports, port = DebugPorts(patience=0.1), free_port()
    await ports.take(port)
    second = asyncio.get_running_loop().create_task(ports.take(port))
    await asyncio.sleep(0.3)
    assert not second.done()
    ports.release(port)
    await second
    ports.release(port)


async def test_a_taken_port_can_be_taken_later() -> None:
    ports = DebugPorts(patience=0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotDebug, match=f"127.0.0.1:{port} is taken by another program"):
            await ports.take(port)
    await ports.take(port)
