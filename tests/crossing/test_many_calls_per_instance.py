"""gRPC clients and one instance that serves many calls at once: each call has its own reply and exactly one status."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge

pytestmark = pytest.mark.slow

PLACES = 16

APP = """
import asyncio, os, threading, time
import grpc
from lambda_fn import LambdaServer, invocation

together = threading.Barrier(16, timeout=60)
arrived = None

def answer(request, context):
    trace = context.lambda_context.xray_trace_id
    request_id = invocation.current().request_id
    assert context.lambda_context.aws_request_id == request_id
    assert (trace, "_X_AMZN_TRACE_ID" in os.environ) == (invocation.current().trace_id, False)
    return b"%s;%d" % (request, os.getpid())

def meet(request, context):
    together.wait()
    return answer(request, context)

async def meet_async(request, context):
    global arrived
    arrived = arrived or asyncio.Barrier(16)
    await arrived.wait()
    return answer(request, context)

def late(request, context):
    together.wait()
    if request == b"0":
        time.sleep(8)
    return answer(request, context)

def die(request, context):
    together.wait()
    if request == b"0":
        os._exit(3)
    time.sleep(30)

def stream(request, context):
    for part in range(3):
        together.wait()
        yield b"%s:%d" % (request, part)

def handlers(**methods):
    return {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}

server = LambdaServer()
server.add_registered_method_handlers(
    "many.Calls",
    handlers(Meet=meet, MeetAsync=meet_async, Late=late, Die=die, Answer=answer)
    | {"Stream": grpc.unary_stream_rpc_method_handler(stream)},
)
handler = server.handler
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder = tmp_path_factory.mktemp("many")
    (folder / "many_app.py").write_text(APP)
    function = {
        "handler": "many_app.handler",
        "code": str(folder),
        "instance_concurrency": PLACES,
        "concurrency": 1,
        "timeout": "5s",
        "memory": "1GiB",
    }
    services = {"many.Calls": {"target": "local:many", "invoke_mode": "response_stream"}}
    with running_bridge(folder, {"services": services, "functions": {"many": function}}) as bridge:
        yield bridge


async def outcome(channel: grpc.aio.Channel, method: str, request: bytes) -> tuple[grpc.StatusCode, bytes]:
    """The status, and the reply or the details."""
    try:
        call: Any = channel.unary_unary(f"/many.Calls/{method}")
        return grpc.StatusCode.OK, await call(request, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code(), (error.details() or "").encode()


async def all_at_once(bridge: RunningBridge, method: str) -> list[tuple[grpc.StatusCode, bytes]]:
    async with grpc.aio.insecure_channel(bridge.address) as channel:
        return await asyncio.gather(*(outcome(channel, method, b"%d" % number) for number in range(PLACES)))


@pytest.mark.parametrize("method", ["Meet", "MeetAsync"])
async def test_one_process_serves_all_calls_at_once(bridge: RunningBridge, method: str) -> None:
    """Sync servicers in threads, async ones on one loop."""
    found = await all_at_once(bridge, method)

    assert {grpc.StatusCode.OK} == {code for code, _ in found}
    replies = [reply.split(b";") for _, reply in found]
    assert [b"%d" % number for number in range(PLACES)] == [request for request, _ in replies]
    assert 1 == len({pid for _, pid in replies})


async def test_streams_of_many_calls_run_side_by_side(bridge: RunningBridge) -> None:
    async def read(channel: grpc.aio.Channel, request: bytes) -> list[bytes]:
        call: Any = channel.unary_stream("/many.Calls/Stream")
        return [part async for part in call(request, timeout=60)]

    async with grpc.aio.insecure_channel(bridge.address) as channel:
        found = await asyncio.gather(*(read(channel, b"%d" % number) for number in range(PLACES)))

    assert [[b"%d:%d" % (number, part) for part in range(3)] for number in range(PLACES)] == found


async def test_a_time_limit_ends_one_call(bridge: RunningBridge) -> None:
    found = await all_at_once(bridge, "Late")

    assert grpc.StatusCode.DEADLINE_EXCEEDED is found[0][0]
    assert {grpc.StatusCode.OK: PLACES - 1} == Counter(code for code, _ in found[1:])


async def test_a_process_that_dies_gives_each_call_one_status(bridge: RunningBridge) -> None:
    """And the next call finds another one."""
    before = len(bridge.wait_for_log("/many.Calls/Die", 0))
    found = await all_at_once(bridge, "Die")
    entries = bridge.wait_for_log("/many.Calls/Die", before + PLACES)
    async with grpc.aio.insecure_channel(bridge.address) as channel:
        later = await outcome(channel, "Answer", b"again")

    assert {grpc.StatusCode.INTERNAL: PLACES} == Counter(code for code, _ in found)
    assert all(b"Runtime.ExitError" in details for _, details in found)
    assert PLACES == len({entry["request_id"] for entry in entries})
    assert grpc.StatusCode.OK is later[0]
