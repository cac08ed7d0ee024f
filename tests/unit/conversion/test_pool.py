"""Pool: who waits, what counts, and how a job and a process end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.conversion.jobs import FromJson, ToJson
from bridge.conversion.pool import ConversionLimits, ConversionPool
from bridge.rpc.buffers import Buffers
from bridge.rpc.errors import (
    BadReply,
    ConversionFailed,
    Draining,
    MessageTooLarge,
    Overloaded,
    ReplyTooLarge,
)
from bridge.rpc.status import StatusCode
from bridge.services.descriptors import Descriptors, load_descriptors

pytestmark = pytest.mark.real_clock  # processes answer

ORDERS = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")
ECHO = "/orders.v1.Orders/Echo"
ORDER, JSON = b"\x0a\x017", b'{"id":"7"}'
MEMORY = 64 << 20
SLOW = b'{"extra":{"%b":[%b1]}}' % (b"k" * 1_000_000, b"1," * 400_000)
"""JSON that takes minutes: json_format notes the key again for each element."""


def to_json(set_id: int = 1, *, memory: int = MEMORY) -> ToJson:
    return ToJson(set_id, ECHO, 1 << 20, memory, proto_names=False, defaults=False)


def from_json(set_id: int = 1, *, memory: int = MEMORY) -> FromJson:
    return FromJson(set_id, ECHO, 64 << 20, memory)


class Bench:
    def __init__(self, *, buffers: int = 1 << 30, max_processes: int = 2, **limits: Any) -> None:
        self.buffers = Buffers(buffers)
        self.pool = ConversionPool(buffers=self.buffers, max_processes=max_processes, limits=ConversionLimits(**limits))
        assert 1 == self.pool.add(ORDERS)
        self._tasks: list[asyncio.Task[bytes]] = []

    def begin(self, job: FromJson | ToJson, payload: bytes) -> asyncio.Task[bytes]:
        task = asyncio.get_running_loop().create_task(self.pool.run(job, payload))
        self._tasks.append(task)
        return task

    @property
    def pids(self) -> list[int]:
        return sorted(worker.pid for worker in self.pool._workers)

    async def close(self) -> None:
        await self.pool.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def benched(**limits: Any) -> AsyncIterator[Bench]:
    """Whatever happens, no process is left and nothing counts any more."""
    bench = Bench(**limits)
    try:
        yield bench
    finally:
        pids = bench.pids
        await bench.close()
    assert 0 == bench.buffers.held
    assert not bench.pids
    assert not any(_exists(pid) for pid in pids)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # true for a zombie, too
    except ProcessLookupError:
        return False
    return True


async def until(happened: Callable[[], object]) -> None:
    while not happened():
        await asyncio.sleep(0.01)


async def test_a_close_before_a_job_begins_gives_its_place_and_memory_back() -> None:
    """The job's task is cancelled before its first step."""
    async with benched() as bench:
        job = bench.begin(to_json(), ORDER)
        while not bench.pool._jobs:
            await asyncio.sleep(0)
        held = bench.buffers.held
        await bench.pool.close()

        assert held >= MEMORY
        assert (0, 0) == (bench.buffers.held, bench.pool._running)
        with pytest.raises(asyncio.CancelledError):
            await job


# -- jobs --------------------------------------------------------------------------------------------------------------


async def test_both_directions_in_one_process() -> None:
    """It starts with the first job, and the next finds it there."""
    async with benched() as bench:
        assert not bench.pids

        assert JSON == await bench.pool.run(to_json(), ORDER)
        pids = bench.pids
        assert ORDER == await bench.pool.run(from_json(), JSON)

        assert 1 == len(pids)
        assert pids == bench.pids
        assert bench.pool.resident_bytes > 1 << 20 or sys.platform != "linux"


async def test_other_tasks_go_on_meanwhile() -> None:
    async with benched() as bench:
        turns = 0
        large = b'{"parts":[%b{}]}' % (b'{"id":"x"},' * 5_000)
        job = bench.begin(from_json(), large)
        while not job.done():
            await asyncio.sleep(0.0001)
            turns += 1

        assert len(await job) > 5_000
        assert turns > 20


async def test_what_is_wrong_with_a_message_reaches_the_call() -> None:
    async with benched() as bench:
        with pytest.raises(BadReply, match="is no orders") as raised:
            await bench.pool.run(from_json(), b'{"totalCents": "x"}')
        notes = raised.value.__notes__
        assert JSON == await bench.pool.run(to_json(), ORDER)

    assert notes
    assert "not a number" in notes[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds memory")
async def test_too_little_memory() -> None:
    """The status names both sizes."""
    async with benched() as bench:
        small = 16 << 20
        with pytest.raises(MessageTooLarge, match=rf"of 3000000 bytes .* {small} bytes of memory"):
            await bench.pool.run(to_json(memory=small), b"\x42\x00" * 1_500_000)
        with pytest.raises(ReplyTooLarge, match=rf"of 3000011 bytes .* {small} bytes of memory"):
            await bench.pool.run(from_json(memory=small), b'{"no":[%b[]]}' % (b"[]," * 1_000_000))


async def test_a_job_that_takes_too_long() -> None:
    """It ends, and its process; other jobs go on."""
    async with benched(job_seconds=0.5) as bench:
        assert JSON == await bench.pool.run(to_json(), ORDER)
        slow = bench.begin(from_json(), SLOW)
        with pytest.raises(ConversionFailed, match=r"took longer than .* send less") as raised:
            await slow
        assert JSON == await bench.pool.run(to_json(), ORDER)

    assert StatusCode.INTERNAL is raised.value.code


async def test_a_process_that_dies_ends_only_its_job(caplog: pytest.LogCaptureFixture) -> None:
    async with benched() as bench:
        doomed = bench.begin(from_json(), SLOW)
        await until(lambda: bench.pids)
        other = bench.begin(to_json(), ORDER)
        assert JSON == await other

        busy = next(worker for worker in bench.pool._workers if worker not in bench.pool._idle)
        os.kill(busy.pid, signal.SIGKILL)

        with pytest.raises(ConversionFailed, match="died; it may have needed"):
            await doomed
        assert JSON == await bench.pool.run(to_json(), ORDER)
    assert "ended with -9" in caplog.text


async def test_a_process_that_died_while_idle_is_not_used() -> None:
    async with benched() as bench:
        await bench.pool.run(to_json(), ORDER)
        pids = bench.pids
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: not bench.pool._idle[0].is_alive)

        assert JSON == await bench.pool.run(to_json(), ORDER)

        assert pids != bench.pids


async def test_a_command_that_cannot_be_run() -> None:
    bench = Bench()
    bench.pool._command = ("/no/such/program",)

    with pytest.raises(ConversionFailed, match="no process could be started"):
        await bench.pool.run(to_json(), ORDER)

    assert 0 == bench.buffers.held
    await bench.close()


# -- waiting -----------------------------------------------------------------------------------------------------------


async def test_two_processes_at_most() -> None:
    async with benched() as bench:
        jobs = [bench.begin(to_json(), ORDER) for _ in range(20)]

        assert [JSON] * 20 == await asyncio.gather(*jobs)
        assert len(bench.pids) <= 2


async def test_the_memory_of_what_runs_counts() -> None:
    async with benched(max_processes=1) as bench:
        bench.begin(from_json(memory=1000), SLOW)
        await asyncio.sleep(0)
        bench.begin(from_json(memory=1000), JSON)
        await asyncio.sleep(0)

        assert 1000 == bench.buffers.held


async def test_the_number_that_waits_is_bounded() -> None:
    async with benched(max_processes=1, waiting=2) as bench:
        for _ in range(3):
            bench.begin(from_json(), SLOW)
            await asyncio.sleep(0)

        with pytest.raises(Overloaded, match="2 messages wait to be converted") as raised:
            await bench.pool.run(to_json(), ORDER)

    assert StatusCode.RESOURCE_EXHAUSTED is raised.value.code
    assert "conversions" == raised.value.reason


async def test_jobs_wait_for_the_memory_of_others() -> None:
    async with benched(buffers=MEMORY * 2 // 5) as bench:
        jobs = [bench.begin(to_json(), ORDER) for _ in range(3)]
        await until(jobs[0].done)

        assert [JSON] * 3 == await asyncio.gather(*jobs)
        assert 1 == len(bench.pids)


async def test_a_job_for_which_there_is_no_memory() -> None:
    """Nothing that ends would make room for it. With a quarter of what it wants it runs."""
    async with benched(buffers=MEMORY) as bench:
        with pytest.raises(Overloaded, match=rf"{MEMORY} bytes of memory .*buffers is {MEMORY} bytes") as raised:
            await bench.pool.run(to_json(memory=4 * MEMORY), ORDER)

        assert JSON == await bench.pool.run(to_json(memory=3 * MEMORY), ORDER)
    assert "buffers" == raised.value.reason


# -- calls that end ----------------------------------------------------------------------------------------------------


async def test_a_cancelled_job_frees_its_place() -> None:
    """The one that runs, with its process if it does not end soon, and one that waits."""
    async with benched(max_processes=1) as bench:
        await bench.pool.run(to_json(), ORDER)
        pids = bench.pids
        running, waiting = bench.begin(from_json(), SLOW), bench.begin(from_json(), SLOW)
        await until(lambda: not bench.pool._idle)
        next_one = bench.begin(to_json(), ORDER)
        await asyncio.sleep(0)

        waiting.cancel()
        running.cancel()

        assert JSON == await next_one
        assert pids != bench.pids
        assert running.cancelled()
        assert waiting.cancelled()


async def test_a_cancelled_job_that_ends_soon_keeps_its_process() -> None:
    async with benched(max_processes=1, grace=60.0) as bench:
        await bench.pool.run(to_json(), ORDER)
        pids = bench.pids
        job = bench.begin(to_json(), ORDER)
        while bench.pool._idle:
            await asyncio.sleep(0)

        job.cancel()

        assert JSON == await bench.pool.run(to_json(), ORDER)
        assert pids == bench.pids


async def test_a_job_cancelled_while_its_process_starts() -> None:
    """The process is there for the next job; a second one is not started beside it."""
    async with benched(max_processes=1) as bench:
        job = bench.begin(to_json(), ORDER)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        job.cancel()

        assert JSON == await bench.pool.run(to_json(), ORDER)
        assert 1 == len(bench.pids)


async def test_closing_ends_all() -> None:
    async with benched(max_processes=1) as bench:
        running, waiting = bench.begin(from_json(), SLOW), bench.begin(to_json(), ORDER)
        await until(lambda: bench.pids)

        await bench.pool.close()

        with pytest.raises(Draining):
            await waiting
        with pytest.raises(asyncio.CancelledError):
            await running
        await bench.pool.close()


# -- time and descriptors ----------------------------------------------------------------------------------------------


async def test_idle_processes_end() -> None:
    async with benched(idle_seconds=0.05) as bench:
        await asyncio.gather(*(bench.begin(to_json(), ORDER) for _ in range(2)))
        pids = bench.pids

        await until(lambda: not bench.pids)

        assert not any(_exists(pid) for pid in pids)
        assert JSON == await bench.pool.run(to_json(), ORDER)


async def test_descriptors_are_learnt_before_a_job_needs_them() -> None:
    """A reload teaches the processes that run, and they forget what no stack needs any more."""
    other = Descriptors(ORDERS.files, name="another name")
    async with benched() as bench:
        await bench.pool.run(to_json(), ORDER)
        worker = next(iter(bench.pool._workers))
        new = bench.pool.add(other)

        await bench.pool.teach()
        assert {1, new} == worker._known
        bench.pool.remove(1)
        await until(lambda: worker._known == {new})

        assert JSON == await bench.pool.run(to_json(new), ORDER)


async def test_the_same_descriptors_are_kept_once() -> None:
    """Most reloads change no descriptors: nothing is sent again."""
    async with benched() as bench:
        same = bench.pool.add(Descriptors(ORDERS.files, name=ORDERS.name))
        bench.pool.remove(1)

        assert 1 == same
        assert JSON == await bench.pool.run(to_json(), ORDER)
