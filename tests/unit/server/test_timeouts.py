"""What a connection must do because time has passed, limit by limit. test_connection.py shows that it does so."""

from __future__ import annotations

import pytest

from bridge.rpc.limits import ConnectionLimits
from bridge.server.timeouts import ConnectionState, Due, Timeouts

LIMITS = ConnectionLimits(
    handshake=10, write_stall=60, keepalive_interval=300, keepalive_timeout=20, max_age=2000, idle=100, grace=25
)
BEGAN = 1000.0
OPEN, LEAVING, DRAINING, CLOSED = ConnectionState


def due(
    times: Timeouts,
    after: float,
    state: ConnectionState = OPEN,
    *,
    is_choked: bool = False,
    is_new: bool = False,
    is_idle: bool = False,
) -> Due | None:
    return times.due(BEGAN + after, state, is_choked=is_choked, is_new=is_new, is_idle=is_idle)


@pytest.mark.parametrize(
    ("state", "facts", "limit", "expected"),
    [
        (CLOSED, {}, 60, Due.KILL),
        (OPEN, {"is_choked": True}, 60, Due.WRITE_STALL),
        (DRAINING, {"is_choked": True}, 60, Due.WRITE_STALL),
        (OPEN, {"is_new": True}, 10, Due.HANDSHAKE),
        (LEAVING, {}, 5, Due.SECOND_GOAWAY),
        (DRAINING, {}, 25, Due.END_OF_GRACE),
        (OPEN, {"is_idle": True}, 100, Due.MAX_IDLE),
        (OPEN, {}, 300, Due.PING),
    ],
)
def test_each_limit(state: ConnectionState, facts: dict[str, bool], limit: float, expected: Due) -> None:
    """Nothing up to the limit, and the one thing after it."""
    assert due(Timeouts(LIMITS, now=BEGAN), limit, state, **facts) is None
    assert expected is due(Timeouts(LIMITS, now=BEGAN), limit + 0.1, state, **facts)


def test_open_header_block() -> None:
    """Its time runs from its beginning, whatever else arrives."""
    times = Timeouts(LIMITS, now=BEGAN)
    times.last_received = times.block_since = BEGAN + 50

    assert due(times, 60) is None
    assert Due.HEADER_BLOCK is due(times, 60.1)


def test_ping_without_an_answer() -> None:
    times = Timeouts(LIMITS, now=BEGAN)

    assert [Due.PING, None, Due.KEEPALIVE] == [due(times, after) for after in (301, 321, 321.1)]
    times.last_received = BEGAN + 321
    assert [None, Due.PING] == [due(times, after) for after in (621, 621.1)]


def test_age_is_spread_over_the_clients_of_a_fleet() -> None:
    """By a tenth to either side, so that not all of them come back at once."""
    ends = set()
    for _ in range(50):
        times = Timeouts(ConnectionLimits(max_age=100, keepalive_interval=None), now=BEGAN)
        ends.add(next(after for after in range(200) if due(times, after) is Due.MAX_AGE))

    assert len(ends) > 3
    assert 90 <= min(ends) <= max(ends) <= 111


def test_no_limit() -> None:
    limits = ConnectionLimits(keepalive_interval=None, max_age=None, idle=None)

    assert due(Timeouts(limits, now=BEGAN), 1e9, is_idle=True) is None
