"""Calls wait their turn at real functions: the local Lambda throttles as AWS does, and no caller notices.

`python -m benchmarks.queueing` shows the same for longer, with the times. The bounds here hold on a busy machine.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import grpc
import pytest

from benchmarks.queueing import Bridge, Load, bridge, invocations, seconds_until_found, warm
from tests.support.bridge_process import running_bridge
from tests.support.byte_methods import unary_unary

pytestmark = pytest.mark.slow

FIRST_BURST = 64
"""Calls that may be throttled before the first throttle has come back."""


async def _answered(load: Load, count: int) -> None:
    """Wait until so many more calls were answered."""
    until = len(load.calls.waits) + count
    while len(load.calls.waits) < until:
        await asyncio.sleep(0.05)


async def _throttled_since(running: Bridge, before: dict[str, float]) -> float:
    now = await running.figures()
    return now.get("bridge_throttles_total", 0) - before.get("bridge_throttles_total", 0)


async def test_overload_fails_nobody() -> None:
    """64 callers at 8 instances: all are answered, and few calls are sent twice."""
    with bridge({"f": {"concurrency": 8}}) as running:
        before = await running.figures()
        async with Load(running.address, "q.f", 64) as load:
            await _answered(load, 300)
        sent = await invocations(running, before)
        figures = await running.figures()

    assert {} == load.calls.failures
    assert sent.invocations - sent.calls <= FIRST_BURST + 0.1 * sent.calls
    assert 0 == figures["bridge_queue_length"] == figures["bridge_in_flight"]
    assert figures["bridge_queue_seconds_count"] > 200


async def test_a_limit_that_moves_is_found() -> None:
    """Lowered and raised while calls go on; none fails."""
    with bridge({"f": {"concurrency": 8}}) as running:
        await warm(running, "q.f", 8)
        async with Load(running.address, "q.f", 32) as load:
            await _answered(load, 50)
            for limit in (3, 8):
                await running.reserve("f", limit)
                await seconds_until_found(running, limit)
                await _answered(load, 50)

    assert {} == load.calls.failures


async def test_two_functions_share_the_limit_of_their_account() -> None:
    """Neither is starved, and no call fails."""
    with bridge({"f": {"concurrency": 50}, "g": {"concurrency": 50}}, account=8) as running:
        async with Load(running.address, "q.f", 16) as one:
            await _answered(one, 20)
            async with Load(running.address, "q.g", 16) as other:
                await _answered(other, 40)

    assert {} == one.calls.failures
    assert {} == other.calls.failures


async def test_a_rate_paces_and_leaves_the_concurrency_alone() -> None:
    with bridge({"f": {"concurrency": 32, "rate": 20}}) as running:
        before = await running.figures()
        async with Load(running.address, "q.f", 32) as load:
            await _answered(load, 150)
        throttled = await _throttled_since(running, before)
        figures = await running.figures()

    assert {} == load.calls.failures
    assert "bridge_concurrency_limit" not in figures
    assert 0 < throttled <= FIRST_BURST + 0.2 * len(load.calls.waits)


async def test_an_outage_causes_few_retries() -> None:
    """While every call is throttled, the function is asked now and then. Afterwards calls go on."""
    with bridge({"f": {"concurrency": 8}}) as running:
        await warm(running, "q.f", 8)
        async with Load(running.address, "q.f", 100) as load:
            await _answered(load, 100)
            await running.reserve("f", 0)
            before = await running.figures()
            await asyncio.sleep(4)
            throttled = await _throttled_since(running, before)
            await running.reserve("f", 8)
            await _answered(load, 100)

    assert {} == load.calls.failures
    assert throttled <= 0.2 * 100


async def test_a_reload_keeps_what_was_learned() -> None:
    """Of a target that did not change."""
    with bridge({"f": {"concurrency": 3}}) as running:
        async with Load(running.address, "q.f", 16) as load:
            await _answered(load, 50)
            before = await running.figures()
            running.reload(lambda config: config["services"].update({"q.other": "local:f"}))
            while "reloaded: " not in running.log():
                await asyncio.sleep(0.02)
            throttled = await _throttled_since(running, before)
            await _answered(load, 20)
            limit = (await running.figures())["bridge_concurrency_limit"]

    assert {} == load.calls.failures
    assert throttled <= 3
    assert limit <= 5


async def test_waiting_calls_go_on_in_a_drain() -> None:
    """Until `drain` ends: all that had been accepted are answered."""
    with bridge({"f": {"concurrency": 2}}) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            call = unary_unary(channel, "/q.f/Call")
            calls = [call(b"", timeout=30) for _ in range(20)]
            while (await running.figures()).get("bridge_queue_length", 0) < 15:
                await asyncio.sleep(0.02)
            running.drain()
            codes = [await each.code() for each in calls]

    assert [grpc.StatusCode.OK] * 20 == codes


async def test_waiting_calls_count_in_the_buffers() -> None:
    """All that waits is held: above `buffers` calls are refused, and the metric shows what they hold."""
    size = 1 << 20
    message = b"\n" + bytes([0x80, 0x80, 0x40]) + bytes(size)
    with bridge({"f": {"concurrency": 1}}, buffers="8MiB") as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            calls = [unary_unary(channel, "/q.f/Call")(message, timeout=60) for _ in range(20)]
            held = 0.0
            while held < 4 * size:
                figures = await running.figures()
                held = figures["bridge_buffered_bytes"] if figures.get("bridge_queue_length") else 0.0
                await asyncio.sleep(0.02)
            codes = Counter([(await call.code()).name for call in calls])
            texts = [await call.details() for call in calls if await call.code() is not grpc.StatusCode.OK]
        after = await running.figures()

    assert {"OK", "RESOURCE_EXHAUSTED"} == set(codes)
    assert all("(buffers)" in (text or "") for text in texts)
    assert after["bridge_buffered_bytes"] < size


async def test_what_the_queue_does_can_be_seen(tmp_path: Path) -> None:
    """The access log has the time that a call waited, and the status page the learned limit."""
    (tmp_path / "app.py").write_text(
        "import time\n"
        "def handler(event, context):\n"
        "    time.sleep(0.3)\n"
        "    return {'statusCode': 200, 'headers': {'grpc-status': '0'}, 'body': ''}\n"
    )
    config = {
        "services": {"q.f": "local:f", "q.full": {"target": "local:f", "queue": {"calls": 1}, "max_concurrency": 1}},
        "functions": {"f": {"handler": "app.handler", "concurrency": 1}},
    }
    with running_bridge(tmp_path, config) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            calls = [unary_unary(channel, "/q.f/Call")(b"", timeout=30) for _ in range(3)]
            assert [grpc.StatusCode.OK] * 3 == [await call.code() for call in calls]
            refused = [unary_unary(channel, "/q.full/Call")(b"", timeout=30) for _ in range(3)]
            codes = sorted([(await call.code()).name for call in refused])
        entries = await asyncio.to_thread(running.wait_for_log, "/q.f/Call", 3)
        page = json.loads(await asyncio.to_thread(running.get, "/status"))
        metrics = await asyncio.to_thread(running.get, "/metrics")

    assert ["OK", "OK", "RESOURCE_EXHAUSTED"] == codes
    assert 2 == sum(entry.get("queued_us", 0) > 100_000 for entry in entries)
    (target,) = page["targets"]
    assert target["limit"] in (1, 2)  # 2 while more is tried, which happens sooner or later on a busy machine
    assert {"full": 1} == target["refused"]
    assert sum(target["throttled"].values()) >= 1
    assert target["waits"][0] > 0.1
    assert 'bridge_queue_refused_total{reason="full",target="local:f"} 1.0' in metrics
    assert f'bridge_concurrency_limit{{target="local:f"}} {target["limit"]}.0' in metrics
