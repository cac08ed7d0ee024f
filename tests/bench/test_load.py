"""What h2load says is read right."""

from __future__ import annotations

import pytest

from benchmarks.load import parse

TOLD = """
finished in 492.09ms, 20321.65 req/s, 1.11MB/s
requests: 10000 total, 10000 started, 10000 done, 9990 succeeded, 10 failed, 10 errored, 0 timeout
status codes: 9990 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 557.43KB (570808) total, 107.95KB (110544) headers (space savings 93.86%), 175.78KB (179820) data
"""


def test_calls_bodies_and_seconds_are_found() -> None:
    """The calls that failed are not among those that count."""
    calls, bodies, seconds = parse(TOLD)

    assert (9990, 179820) == (calls, bodies)
    assert 0.49209 == pytest.approx(seconds)


def test_another_text_is_refused() -> None:
    """A release of h2load that says it differently must not pass for one without failures."""
    with pytest.raises(RuntimeError, match="something else than expected"):
        parse("finished")
