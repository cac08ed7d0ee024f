"""Plain counters: histograms and what a finished call adds."""

import random

import pytest

from bridge.rpc.figures import (
    BYTES_BUCKETS,
    SECONDS_BUCKETS,
    BridgeFigures,
    MethodFigures,
    TargetFigures,
)
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall


@pytest.mark.parametrize(
    ("value", "place"), [(0.0, 0), (SECONDS_BUCKETS[0], 0), (0.0011, 1), (SECONDS_BUCKETS[1], 1), (2000.0, -1)]
)
def test_value_counts_in_the_first_bound_not_below_it(value: float, place: int) -> None:
    """A bound holds what is equal to it, as Prometheus' `le` does; the last count is for what lies above."""
    figures = MethodFigures("a.B", "C")
    figures.finished(RecordingCall(), StatusCode.OK, value)
    figures.tally()

    assert 1 == figures.seconds.counts[place] == sum(figures.seconds.counts)
    assert value == figures.seconds.total


@pytest.mark.parametrize("bounds", [SECONDS_BUCKETS, BYTES_BUCKETS])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    """Else bisection would lie."""
    assert sorted(set(bounds)) == list(bounds)


def test_finished_call_adds_what_it_counted() -> None:
    """Messages, bytes, seconds, its code; upstream time only if there was any."""
    figures = MethodFigures("a.B", "C")
    call = RecordingCall()
    call.messages_received, call.messages_sent, call.bytes_received, call.bytes_sent = (
        1,
        2,
        300,
        5000,
    )
    figures.finished(call, StatusCode.NOT_FOUND, 0.2)
    call.upstream_seconds = 0.1
    figures.finished(call, StatusCode.OK, 0.3)
    figures.tally()

    assert (1, 1) == (figures.handled[StatusCode.NOT_FOUND], figures.handled[StatusCode.OK])
    assert (2, 4) == (figures.received, figures.sent)
    assert pytest.approx(0.5) == figures.seconds.total
    assert (600, 10_000) == (figures.request_bytes.total, figures.response_bytes.total)
    assert 1 == sum(figures.upstream.counts)


def test_calls_tallied_together_count_as_they_do_one_by_one() -> None:
    """However many there are between two tallies, those that `finished` makes by itself included."""
    together, one_by_one = MethodFigures("a.B", "C"), MethodFigures("a.B", "C")
    rng = random.Random(7)
    for number in range(1000):
        call = RecordingCall()
        call.messages_received, call.messages_sent = number % 3, number % 5
        call.bytes_received, call.bytes_sent = rng.choice((0, 256, 257, 5000, 1 << 23)), number
        call.upstream_seconds = rng.choice((0.0, 0.001, 2.0, 5000.0))
        seconds, code = rng.choice(SECONDS_BUCKETS) * rng.choice((1.0, 1.0, 1.5)), number % 17
        together.finished(call, code, seconds)
        one_by_one.finished(call, code, seconds)
        one_by_one.tally()
    together.tally()

    for name in ("seconds", "upstream", "request_bytes", "response_bytes"):
        found, expected = getattr(together, name), getattr(one_by_one, name)
        assert expected.counts == found.counts
        assert pytest.approx(expected.total) == found.total
    assert (one_by_one.handled, one_by_one.received, one_by_one.sent) == (
        together.handled,
        together.received,
        together.sent,
    )
    assert 1000 == sum(together.handled)


def test_figures_begin_at_nothing() -> None:
    """Gauges and counters alike."""
    bridge, target = BridgeFigures(), TargetFigures("orders")

    assert (0, 0, 0) == (bridge.buffers.held, bridge.streams_open, target.in_flight)
    assert not bridge.refused
    assert "unknown" == MethodFigures("a.B", "C").kind
