"""The threads that servicers run on."""

from __future__ import annotations

from threading import Event

from lambda_fn.threads import Workers


def test_a_worker_that_is_told_to_end_gets_no_further_job() -> None:
    """Once it went back among the idle ones after `close`, and the next job waited in a queue that nobody read any more."""
    workers, may_end, ran = Workers(limit=2), Event(), Event()
    workers.start(may_end.wait)
    [busy] = workers._all
    workers.close()
    may_end.set()
    busy.thread.join(5)
    workers.start(ran.set)

    assert ran.wait(5)
    workers.close()
