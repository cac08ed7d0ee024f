"""The threads that servicers run on."""

from __future__ import annotations

import asyncio
from threading import Event

from lambda_fn.threads import LoopThread, Workers


def test_a_worker_that_is_told_to_end_gets_no_further_job() -> None:
    """Once it went back among the idle ones after `close`, and the next job waited in a queue that nobody read any
    more.
    """
    workers, may_end, ran = Workers(limit=2), Event(), Event()

    def wait() -> None:
        may_end.wait()

    workers.start(wait)
    [busy] = workers._all
    workers.close()
    may_end.set()
    busy.thread.join(5)
    workers.start(ran.set)

    assert ran.wait(5)
    workers.close()


async def _exits() -> None:
    raise SystemExit(3)


def test_the_loop_outlives_a_task_that_means_to_end_the_process() -> None:
    """asyncio lets SystemExit through `run_forever`, also of a task that no call awaits: every later call failed."""
    loop, begun, ran = LoopThread(), Event(), Event()
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        tasks.append(asyncio.get_running_loop().create_task(_exits()))
        begun.set()

    async def run() -> None:
        ran.set()

    loop.start(begin, closed=lambda: None)
    assert begun.wait(5)
    loop.start(run, closed=lambda: None)

    assert ran.wait(5)
    assert isinstance(tasks[0].exception(), SystemExit)
    loop.close()
