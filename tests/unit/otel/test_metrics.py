"""Whether metrics are exported, and that a collector can neither hold the bridge back nor fill its memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from typing import Any, cast

import pytest

from bridge.otel import environment, metrics
from bridge.otel.metrics import MetricsExport, Reading, start_metrics

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}

pytestmark = pytest.mark.real_clock  # the export has a thread


class Exporter:
    """Takes metrics once it may."""

    def __init__(self, *, is_open: bool = True, error: Exception | None = None) -> None:
        self.exported: list[Any] = []
        self.timeouts: set[float] = set()
        self.is_shut_down = False
        self.may_take = threading.Event()
        self.has_begun = threading.Event()
        self.has_taken = threading.Event()
        self._error = error
        if is_open:
            self.may_take.set()

    def export(self, data: Any, timeout_millis: float) -> None:
        self.has_begun.set()
        self.may_take.wait()
        self.timeouts.add(timeout_millis)
        self.exported.append(data)
        self.has_taken.set()
        if self._error is not None:
            raise self._error

    def shutdown(self, timeout_millis: float) -> None:
        self.is_shut_down = True


def counting() -> Reading[int]:
    """Figures that say how often they were read."""
    taken = 0

    def take() -> int:
        nonlocal taken
        taken += 1
        return taken

    return Reading(take, lambda figures: cast("Any", figures))


def export(*exporters: Exporter, interval: float = 60, reading: Reading[int] | None = None) -> MetricsExport[int]:
    return MetricsExport(cast("Any", [*exporters]), reading or counting(), interval=interval, timeout=2)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"},
        {**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
    ],
)
async def test_metrics_are_off_unless_they_are_asked_for(environ: Mapping[str, str]) -> None:
    """Nothing is read and nothing imported."""

    def never() -> Reading[int]:
        raise AssertionError

    assert start_metrics(environ, never) is None


@pytest.mark.parametrize(
    "environ",
    [ENDPOINT, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"}, {"OTEL_METRICS_EXPORTER": "otlp"}],
)
async def test_without_the_extra_one_sentence_says_so(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [] == environment.problems(environ)

    monkeypatch.setattr(environment, "entry_points", lambda **_: ())
    about_metrics = environment.METRICS.problem(environ)

    assert about_metrics in environment.problems(environ)
    assert "ask for metrics" in str(about_metrics)
    assert "pip install 'grpc-lambda-bridge[otel]'" in str(about_metrics)
    assert start_metrics(environ, counting) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [(name, value) for name in (metrics._INTERVAL, metrics._TIMEOUT) for value in ("0", "-1", "soon", "inf", "nan")],
)
async def test_a_time_that_is_none_is_named(variable: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    """It costs the metrics, not the bridge."""
    assert start_metrics({**ENDPOINT, variable: value}, counting) is None
    assert f"no metrics are sent: {variable}={value} is not a number of milliseconds above 0" in caplog.text


async def test_an_exporter_that_waits_to_be_asked_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Prometheus' has the same group of entry points, and would open a port of its own."""
    asked = EntryPoint("prometheus", "builtins:object", "opentelemetry_metrics_exporter")
    monkeypatch.setattr(environment, "entry_points", lambda **_: (asked,))

    assert start_metrics({"OTEL_METRICS_EXPORTER": "prometheus"}, counting) is None
    assert "the admin address has /metrics" in caplog.text


async def test_differences_instead_of_totals_are_refused_in_words(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"OTEL_METRICS_EXPORTER": "console", metrics._TEMPORALITY: "delta", metrics._INTERVAL: "60000"}
    started = start_metrics(environ, lambda: Reading(lambda: 1, lambda figures: cast("Any", _Text())))
    assert started is not None
    await started.close(seconds=30)

    assert f"{metrics._TEMPORALITY}=delta is not supported" in caplog.text


class _Text:
    def to_json(self, indent: int | None = 4) -> str:
        return ""


async def test_figures_are_sent_at_each_interval_and_at_the_end() -> None:
    one, other = Exporter(), Exporter()
    sending = export(one, other, interval=0.01)
    await until(lambda: len(one.exported) > 1)
    await sending.close(seconds=30)
    await sending.close(seconds=30)

    assert one.exported == other.exported == list(range(1, len(one.exported) + 1))
    assert {2000} == one.timeouts
    assert (True, True) == (one.is_shut_down, other.is_shut_down)


async def test_figures_do_not_pile_up_behind_a_collector_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """The next sending has the same totals and more. The end does not wait for it either."""
    exporter, reading = Exporter(is_open=False), counting()
    sending = export(exporter, interval=0.001, reading=reading)
    await until(exporter.has_begun.is_set)
    await asyncio.sleep(0.05)
    await sending.close(seconds=0.01)
    last = reading.take()
    exporter.may_take.set()
    await until(lambda: exporter.is_shut_down)

    assert 3 == last  # the first, that of the end, and this one
    assert [1, 2] == exporter.exported
    assert ["the last metrics could not be sent within 0.01 s"] == caplog.messages


async def test_an_exporter_that_fails_is_tried_again_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = Exporter(error=RuntimeError("no route")), Exporter()
    sending = export(broken, sound, interval=0.005)
    await until(lambda: len(sound.exported) > 1)
    await sending.close(seconds=30)

    assert sound.exported == broken.exported
    assert {"metrics could not be sent: no route"} == set(caplog.messages)


async def test_figures_that_cannot_be_converted_cost_one_sending(caplog: pytest.LogCaptureFixture) -> None:
    def converted(figures: int) -> Any:
        if figures == 1:
            raise ValueError("no such figure")
        return figures

    exporter = Exporter()
    started = export(exporter, interval=0.001, reading=Reading(counting().take, converted))
    await until(exporter.has_taken.is_set)
    await started.close(seconds=30)

    assert 2 == exporter.exported[0]
    assert "no such figure" in caplog.text
