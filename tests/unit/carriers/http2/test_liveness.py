from __future__ import annotations

from bridge.carriers.http2.liveness import ConnectionTimes, Liveness, LivenessDue

TIMES = ConnectionTimes(keepalive=300, keepalive_timeout=20, idle=100, stall=60)


def due(
    liveness: Liveness, now: float, *, stalled_for: float = 0, calls: bool = True, reserved: bool = False
) -> LivenessDue:
    return liveness.due(now, stalled_for=stalled_for, has_calls=calls, is_reserved=reserved)


def opened() -> Liveness:
    liveness = Liveness(TIMES)
    liveness.begin(1000)
    return liveness


def test_a_silent_server_is_pinged_once_and_then_given_up() -> None:
    liveness = opened()

    found = [due(liveness, now) for now in (1299, 1300, 1305, 1319, 1320)]

    assert [
        LivenessDue.NOTHING,
        LivenessDue.PING,
        LivenessDue.NOTHING,
        LivenessDue.NOTHING,
        LivenessDue.SILENT,
    ] == found


def test_any_byte_answers_the_ping() -> None:
    liveness = opened()
    assert LivenessDue.PING is due(liveness, 1300)

    liveness.received(1310)

    assert LivenessDue.NOTHING is due(liveness, 1330)
    assert LivenessDue.PING is due(liveness, 1610)


def test_a_connection_without_calls_is_closed_and_never_pinged() -> None:
    liveness = opened()

    assert LivenessDue.NOTHING is due(liveness, 1099, calls=False)
    assert LivenessDue.IDLE is due(liveness, 1100, calls=False)
    assert LivenessDue.NOTHING is due(liveness, 1500, calls=False, reserved=True)


def test_a_connection_may_have_to_stay_without_calls() -> None:
    liveness = opened()
    liveness.stays_until = 1200

    assert LivenessDue.NOTHING is due(liveness, 1199, calls=False)
    assert LivenessDue.IDLE is due(liveness, 1200, calls=False)


def test_a_server_that_does_not_read_is_given_up_first() -> None:
    liveness = opened()

    assert LivenessDue.NOTHING is due(liveness, 1290, stalled_for=59)
    assert LivenessDue.STALLED is due(liveness, 1300, stalled_for=60)
    assert LivenessDue.STALLED is due(liveness, 1300, stalled_for=60, calls=False)
