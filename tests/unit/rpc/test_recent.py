"""The last minutes: slots of calls, their bounds, and the sum of several processes."""

from __future__ import annotations

import msgspec

from bridge.rpc.figures import MethodFigures
from bridge.rpc.recent import MOST_CALLS, SLOT_SECONDS, SLOTS, CallRecord, IdentityState, OpenCall, Recent, RecentSlots
from bridge.rpc.spread import Spread
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall

NOW = 1_000_000.0


def method(name: str = "C", target: str = "t") -> MethodFigures:
    return MethodFigures("a.B", name, target=target)


def ended(figures: MethodFigures, *seconds: float, code: StatusCode = StatusCode.OK) -> None:
    for each in seconds:
        figures.finished(RecordingCall(), code, each)


def record(time: float, *, seconds: float = 1.0, target: str = "t") -> CallRecord:
    return CallRecord(time, "/a.B/C", "INTERNAL", seconds, target)


def test_a_slot_has_the_calls_that_ended_in_it() -> None:
    """By method and target, with their codes and latencies; calls are counted once."""
    slots, one, other = RecentSlots(), method(), method(target="u")
    ended(one, 0.1, 0.1)
    ended(one, 0.3, code=StatusCode.NOT_FOUND)
    slots.note([one, other], now=NOW)
    ended(one, 0.2)
    ended(other, 0.5)
    slots.note([one, other], now=NOW + 1)
    slots.note([one, other], now=NOW + SLOT_SECONDS)
    (slot,) = slots.within(now=NOW + SLOT_SECONDS)
    first, second = slot.rows

    assert ("/a.B/C", "t", {0: 3, 5: 1}) == (first.method, first.target, first.codes)
    assert [0.1, 0.3] == first.seconds.quantiles((0.5, 1.0))
    assert ("u", {0: 1}) == (second.target, second.codes)


def test_old_slots_go() -> None:
    """After five minutes, also while nothing is called."""
    slots, figures = RecentSlots(), method()
    for number in range(SLOTS + 5):
        ended(figures, 0.1)
        slots.note([figures], now=NOW + number * SLOT_SECONDS)
    later = NOW + (SLOTS + 4) * SLOT_SECONDS

    assert SLOTS == len(slots.within(now=later))
    assert [] == slots.within(now=later + SLOTS * SLOT_SECONDS)


def test_latencies_are_bounded() -> None:
    """The oldest slots go first. In one that is too large itself, calls are counted without their latencies."""
    slots, methods = RecentSlots(most_values=50), [method(f"M{number}") for number in range(100)]
    for number in range(3):
        for figures in methods:
            ended(figures, 0.1, 1.0)
        slots.note(methods, now=NOW + number * SLOT_SECONDS)
    kept = slots.within(now=NOW + 2 * SLOT_SECONDS)

    assert 200 == sum(count for row in kept[-1].rows for count in row.codes.values())
    assert sum(slot.values for slot in kept) < 50 + 2 * len(methods) * 3
    assert any(not row.seconds.counts for row in kept[-1].rows)


def test_seconds_that_nobody_takes_are_bounded() -> None:
    """The counts stay exact."""
    figures = method()
    ended(figures, *[0.1] * 20_000)
    codes, seconds = figures.take_recent()

    assert {0: 20_000} == codes
    assert len(seconds) <= 16_384
    assert ({}, []) == figures.take_recent()


def test_two_processes_add_up() -> None:
    """Slots by their number, records in order, open calls the oldest first, as if all had been one process."""
    processes = []
    for late in (0, 1):
        slots, figures = RecentSlots(), method()
        ended(figures, 0.1 + late)
        slots.note([figures], now=NOW)
        if late:
            ended(figures, 7.0)
            slots.note([figures], now=NOW + SLOT_SECONDS)
        processes.append(
            Recent(
                slots=slots.within(now=NOW + SLOT_SECONDS),
                failures=[record(NOW + late)],
                slow=[record(NOW, seconds=5.0 + late)],
                open_calls=[OpenCall("/a.B/C", 1.0 + late, "waits")],
                last_failures={"t": record(NOW + late), f"own{late}": record(NOW)},
                credentials=[IdentityState("role x", fault="late" if late else "")],
            )
        )
    travelled = msgspec.json.decode(msgspec.json.encode(processes[1]), type=Recent)
    whole = processes[0]
    whole.add(travelled)
    first, second = whole.slots

    assert {0: 2} == first.rows[0].codes
    assert [0.1, 1.1] == first.rows[0].seconds.quantiles((0.5, 1.0))
    assert [7.0] == second.rows[0].seconds.quantiles((0.5,))
    assert [NOW + 1, NOW] == [each.time for each in whole.failures]
    assert [6.0, 5.0] == [each.seconds for each in whole.slow]
    assert [2.0, 1.0] == [each.seconds for each in whole.open_calls]
    assert {"t": NOW + 1, "own0": NOW, "own1": NOW} == {key: each.time for key, each in whole.last_failures.items()}
    assert [IdentityState("role x", fault="late")] == whole.credentials  # trouble is not hidden by the other process


def test_sums_are_bounded() -> None:
    """However many workers there are."""
    whole = Recent()
    for number in range(5):
        whole.add(Recent(failures=[record(NOW + number)] * MOST_CALLS, refusals=[record(NOW)] * MOST_CALLS))

    assert [MOST_CALLS] * 2 == [len(whole.failures), len(whole.refusals)]
    assert NOW + 4 == whole.failures[0].time


def test_a_process_that_has_ended_leaves_what_happened() -> None:
    """Its failures may say why it ended. Its open calls and credentials went with it."""
    former = Recent(
        failures=[record(NOW)], open_calls=[OpenCall("/a.B/C", 1.0, "waits")], credentials=[IdentityState("x")]
    )
    left = former.counts()

    assert ([record(NOW)], [], []) == (left.failures, left.open_calls, left.credentials)


def test_spreads_of_a_snapshot_are_copies() -> None:
    """What is counted afterwards is not in it."""
    spread = Spread()
    spread.observe([1.0])

    assert 1 == (spread + Spread()).count
