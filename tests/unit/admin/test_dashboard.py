"""What the status page shows: tables and plots, of everything or of one method or target."""

from __future__ import annotations

import msgspec

from bridge.admin.dashboard import Dashboard, Filter, dashboard
from bridge.admin.snapshot import Snapshot, take_snapshot
from bridge.rpc.figures import BridgeFigures, MethodFigures, TargetFigures
from bridge.rpc.recent import SLOT_SECONDS, CallRecord, OpenCall, Recent, RecentSlots
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall

NOW = 1_000_000.0


def busy(seconds: float = 0.1) -> Snapshot:
    """A method with two targets: of one a call succeeded, of the other one took 10.05 s and failed."""
    quick, slow = MethodFigures("a.B", "C", target="t"), MethodFigures("a.B", "C", target="u")
    for figures, code, took in ((quick, StatusCode.OK, seconds), (slow, StatusCode.UNAVAILABLE, 10.05)):
        figures.started += 1
        figures.finished(RecordingCall(), code, took)
    slots = RecentSlots()
    slots.note([quick, slow], now=NOW)
    failed = CallRecord(NOW, "/a.B/C", "UNAVAILABLE", 10.05, "u", "no answer")
    target = TargetFigures("t")
    target.waited(0.25)
    return take_snapshot(
        BridgeFigures(),
        methods=[quick, slow],
        targets=[target, TargetFigures("u")],
        recent=Recent(
            slots=slots.within(now=NOW),
            failures=[failed],
            refusals=[CallRecord(NOW, "/x.Y/Z", "UNIMPLEMENTED", 0.0)],
            slow=[failed],
            open_calls=[OpenCall("/a.B/C", 3.0, "waits", "t")],
            last_failures={"u": failed},
        ),
    )


def shown(snapshot: Snapshot, selected: Filter | None = None) -> Dashboard:
    return dashboard(
        snapshot,
        selected=selected or Filter(),
        now=NOW + SLOT_SECONDS,
        version="1.2.3",
        uptime=5.0,
        listeners=("127.0.0.1:50051",),
        unready=(),
    )


def test_quantiles_are_those_of_calls() -> None:
    """One call of 10.05 s has no p50 of 20 s, in no table."""
    page = shown(busy())
    (method,), (one, other) = page.methods, page.targets

    assert [0.1, 10.05, 10.05] == method.seconds
    assert [0.1] * 3 == one.seconds
    assert [10.05] * 3 == other.seconds
    assert [0.25] * 3 == one.waits


def test_calls_of_all_targets_are_those_of_the_method() -> None:
    """Counted once."""
    (method,) = shown(busy()).methods

    assert ("/a.B/C", 2, 1, 2, 1) == (
        method.method,
        method.calls,
        method.errors,
        method.recent_calls,
        method.recent_errors,
    )


def test_a_target_has_its_last_failure() -> None:
    one, other = shown(busy()).targets

    assert one.last_failure is None
    assert other.last_failure is not None
    assert "no answer" == other.last_failure.message


def test_plots_have_a_value_for_each_slot() -> None:
    """The last slot that is over is the last value; a slot without calls has no latency."""
    plots = shown(busy()).plots

    assert [0.0, 2 / SLOT_SECONDS] == plots.rates[-2:]
    assert {"UNAVAILABLE": 1 / SLOT_SECONDS} == {code: series[-1] for code, series in plots.errors.items()}
    assert [0.1, 10.05, 10.05] == [series[-1] for series in plots.quantiles]
    assert all(series[-2] is None for series in plots.quantiles)
    assert NOW + SLOT_SECONDS == plots.begin + len(plots.rates) * plots.step


def test_one_target_may_be_selected() -> None:
    """Plots and single calls are then its own; the tables still show all."""
    page = shown(busy(), Filter(target="t"))

    assert [0.1] * 3 == [series[-1] for series in page.plots.quantiles]
    assert ({}, [], []) == (page.plots.errors, page.failures, page.slow)
    assert ["t", "u"] == [row.target for row in page.targets]
    assert 1 == len(page.open_calls)
    assert [] == shown(busy(), Filter(method="/x.Y/Other")).open_calls


def test_workers_add_up() -> None:
    """After a journey as JSON. A quantile is then one of all their calls."""
    whole = busy()
    for _ in range(2):
        whole.add(msgspec.json.decode(msgspec.json.encode(busy(seconds=0.3)), type=Snapshot))
    page = shown(whole)

    assert [6 / SLOT_SECONDS] == page.plots.rates[-1:]
    assert [0.3] * 3 == page.targets[0].seconds
    assert (6, 3) == (page.methods[0].calls, page.methods[0].errors)
    assert 3 == len(page.failures)


def test_a_bridge_without_calls_has_a_page() -> None:
    page = shown(Snapshot())

    assert ([], [], []) == (page.methods, page.targets, page.failures)
    assert {0.0} == set(page.plots.rates)
