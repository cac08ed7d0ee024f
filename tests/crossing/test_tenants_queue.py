"""What tenants of one function do to each other: they take turns, and a throttle of one is no matter of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary

pytestmark = pytest.mark.slow

APP = """
import time
import grpc
from lambda_fn import LambdaServer

def say(request, context):
    time.sleep(float(request))
    return b"said"

server = LambdaServer()
server.add_registered_method_handlers("q.Turns", {"Say": grpc.unary_unary_rpc_method_handler(say)})
server.add_registered_method_handlers("q.Environments", {"Say": grpc.unary_unary_rpc_method_handler(say)})
handler = server.handler
"""

CONCURRENCY = 2
ENVIRONMENTS = 5
"""What the local Lambda allows for this concurrency."""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("tenants-queue")
    (folder / "queue_app.py").write_text(APP)
    function = {"handler": "queue_app.handler", "code": str(folder), "tenants": True, "timeout": "30s"}
    config = {
        "services": {
            "q.Turns": {"target": "local:many", "tenant": {"metadata": "x-tenant"}, "max_concurrency": 1},
            "q.Environments": {
                "target": "local:few",
                "tenant": {"metadata": "x-tenant"},
                "queue": {"wait": "1s"},
            },
        },
        "functions": {"many": function | {"concurrency": 50}, "few": function | {"concurrency": CONCURRENCY}},
    }
    with running_bridge(folder, config) as running:
        yield running


async def test_waiting_tenants_take_turns(bridge: RunningBridge) -> None:
    """On one connection, and behind many calls of another tenant."""
    ended: list[str] = []
    async with grpc.aio.insecure_channel(bridge.address) as channel:
        say = unary_unary(channel, "/q.Turns/Say")

        async def call(tenant: str) -> None:
            await say(b"0.2", metadata=(("x-tenant", tenant),), timeout=30)
            ended.append(tenant)

        await asyncio.gather(call("busy"), call("other"))  # their instances are warm now
        ended.clear()
        loop = asyncio.get_running_loop()
        busy = [loop.create_task(call("busy")) for _ in range(10)]
        while await asyncio.to_thread(_waiting, bridge) < 5:
            await asyncio.sleep(0)
        had_ended = len(ended)
        await call("other")
        before = ended.index("other") - had_ended
        await asyncio.gather(*busy)

    assert before <= 2
    assert 11 == len(ended)


def _waiting(bridge: RunningBridge) -> float:
    lines = bridge.get("/metrics").splitlines()
    queues = [line for line in lines if line.startswith("bridge_queue_length{") and '"local:many"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in queues)


async def test_a_throttle_of_one_tenant_holds_up_no_other(bridge: RunningBridge) -> None:
    """One tenant too many waits in vain. Those that have instances do not notice."""
    async with grpc.aio.insecure_channel(bridge.address) as channel:
        say = unary_unary(channel, "/q.Environments/Say")
        for number in range(ENVIRONMENTS):
            await say(b"0", metadata=(("x-tenant", str(number)),), timeout=30)
        throttled = asyncio.gather(
            *(say(b"0", metadata=(("x-tenant", "one more"),), timeout=30) for _ in range(3)), return_exceptions=True
        )
        while not throttled.done():
            assert b"said" == await say(b"0", metadata=(("x-tenant", "0"),), timeout=30)
        errors = await throttled

    assert [grpc.StatusCode.UNAVAILABLE] * 3 == [
        error.code() for error in errors if isinstance(error, grpc.aio.AioRpcError)
    ]
