"""A function under a debugger, called through the bridge by a gRPC client; and `breakpoint()` on a terminal."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.examples import greeter, helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import bridge_command, running_bridge
from tests.support.dap import editor
from tests.support.programs import free_port

pytestmark = pytest.mark.slow

GREETER = Path(greeter.__file__)


def line_of(text: str) -> int:
    """The number of the first line of the Greeter that has this text."""
    lines = GREETER.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def config(port: int, **debug: object) -> dict[str, Any]:
    function = {
        "handler": "lambda_fn.examples.greeter.handler",
        "timeout": "1s",
        "memory": "512MiB",
        "debug": {"port": port, **debug},
    }
    return {"services": {"helloworld.Greeter": "local:greeter"}, "functions": {"greeter": function}}


async def greet(address: str, *, timeout: float = 60) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        reply = await stub.SayHello(helloworld_pb2.HelloRequest(name="you"), timeout=timeout)
    text: str = reply.message
    return text


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_call_stops_at_a_breakpoint_and_goes_on(tmp_path: Path, workers: int) -> None:
    """It takes longer than the function's time limit, and ends well."""
    port = free_port()
    with running_bridge(tmp_path, {**config(port), "workers": workers}) as bridge:
        await asyncio.to_thread(bridge.wait_for_line, f"debugpy listens on 127.0.0.1:{port}")
        async with editor(port) as attached:
            await attached.attach((GREETER, line_of("return ")))
            calling = asyncio.get_running_loop().create_task(greet(bridge.address))
            frame = await attached.stopped()
            await asyncio.sleep(1.5)
            await attached.go_on()
            message = await calling

    assert "SayHello" == frame["name"]
    assert "Hello, you!" == message


async def test_the_callers_deadline_ends_its_call_all_the_same(tmp_path: Path) -> None:
    """The function stays where it is. Once it goes on, it serves the next call."""
    port = free_port()
    with running_bridge(tmp_path, config(port)) as bridge:
        await asyncio.to_thread(bridge.wait_for_line, f"debugpy listens on 127.0.0.1:{port}")
        async with editor(port) as attached:
            await attached.attach((GREETER, line_of("return ")))
            calling = asyncio.get_running_loop().create_task(greet(bridge.address, timeout=5))
            await attached.stopped()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await calling
            await attached.ask("setBreakpoints", source={"path": str(GREETER)}, breakpoints=[])
            await attached.go_on()
            message = await greet(bridge.address)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()
    assert "Hello, you!" == message


async def test_call_and_invoke_debug_the_function_that_they_run(tmp_path: Path) -> None:
    """And no other one of the configuration, whose port may be taken by a bridge that runs."""
    port = free_port()
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return event\n")
    file = {
        "services": {},
        "functions": {
            "other": {"handler": "app.handler", "debug": free_port()},
            "fn": {"handler": "app.handler", "timeout": "1s", "debug": {"port": port, "wait": True}},
        },
    }
    (tmp_path / "bridge.yaml").write_text(json.dumps(file))
    invoking = asyncio.get_running_loop().create_task(
        asyncio.to_thread(bridge_command, "invoke", "fn", "[1]", folder=tmp_path)
    )
    while True:
        try:
            async with editor(port) as attached:
                await attached.attach((tmp_path / "app.py", 2))
                await attached.stopped()
                await attached.go_on()
                ended = await invoking
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)

    assert (0, [1]) == (ended.returncode, json.loads(ended.stdout))
    assert f"debugpy listens on 127.0.0.1:{port}. The function waits for an editor." in ended.stderr
    assert 1 == ended.stderr.count("listens on")


def test_check_says_what_a_function_cannot_be_debugged_with(tmp_path: Path) -> None:
    """A program that is neither Python nor JavaScript."""
    shutil.copy("/bin/true", tmp_path / "bootstrap")
    file = {"services": {}, "functions": {"fn": {"command": ["./bootstrap"], "debug": 5678}}}
    (tmp_path / "bridge.yaml").write_text(json.dumps(file))
    ended = bridge_command("check", folder=tmp_path)

    assert 2 == ended.returncode
    assert "functions.fn.debug: starts handlers in Python and JavaScript only; for another program" in ended.stderr
