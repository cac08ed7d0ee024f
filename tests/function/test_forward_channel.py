"""The kept channel: one connection for many calls, a new one after a long sleep."""

from __future__ import annotations

from lambda_fn.forwarding.channel import MAX_IDLE, KeptChannel
from lambda_fn.forwarding.target import Target


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_channel_is_kept_while_calls_come() -> None:
    """Idle for a minute is still fine."""
    clock = Clock()
    kept = KeptChannel(Target("localhost:1"), now=clock)
    with kept.use() as first:
        clock.now += 3600  # a long call is not idle
    clock.now += MAX_IDLE
    with kept.use() as second:
        kept.close()

    assert first is second


def test_a_channel_that_slept_is_rebuilt_before_the_call() -> None:
    """Lambda froze the process: by the wall clock more than a minute has gone."""
    clock = Clock()
    kept = KeptChannel(Target("localhost:1"), now=clock)
    with kept.use() as first:
        pass
    clock.now += MAX_IDLE + 1
    with kept.use() as second:
        kept.close()

    assert first is not second


def test_a_channel_in_use_is_not_idle() -> None:
    """Instances that take several calls at once: a long one keeps its channel when another begins."""
    clock = Clock()
    kept = KeptChannel(Target("localhost:1"), now=clock)
    with kept.use() as first:
        clock.now += 3600
        with kept.use() as second:
            kept.close()

    assert first is second


def test_a_closed_channel_is_opened_anew() -> None:
    """As after the server behind it has been started again."""
    kept = KeptChannel(Target("localhost:1"))
    with kept.use() as first:
        kept.close()
    with kept.use() as second:
        kept.close()

    assert first is not second
