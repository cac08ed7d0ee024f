"""Whether traces are asked for, what is said when they cannot be had, and the bounded end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from bridge.otel import environment, traces
from bridge.otel.environment import TRACES
from bridge.otel.traces import Tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


class Collector(SpanExporter):
    """Takes spans once it may."""

    def __init__(self, *, is_open: bool) -> None:
        self.names: list[str] = []
        self.may_take = threading.Event()
        if is_open:
            self.may_take.set()

    def load(self) -> Collector:
        return self

    def __call__(self) -> Collector:
        """As an entry point that is loaded and called."""
        return self

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may_take.wait()
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "a", "OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "True"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": " true "},
    ],
)
def test_traces_are_off_unless_they_are_asked_for(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is even looked for."""
    monkeypatch.delattr(environment, "entry_points")

    assert TRACES.problem(environ) is None
    assert traces.start_tracing(environ, instance="1") is None


def test_nothing_is_imported_while_traces_are_off() -> None:
    """What would cost start and memory."""
    program = (
        "import sys; import bridge.commands.serve, bridge.commands.worker;"
        " print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "" == ran.stdout.strip()


@pytest.mark.parametrize(
    "environ",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {"OTEL_TRACES_EXPORTER": " console , otlp", "OTEL_SDK_DISABLED": "false"},
        {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_without_the_extra_one_sentence_says_so(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert TRACES.problem(environ) is None

    monkeypatch.setattr(environment, "entry_points", lambda **_: ())

    assert "pip install 'grpc-lambda-bridge[otel]'" in str(TRACES.problem(environ))
    assert traces.start_tracing(environ, instance="1") is None


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        (
            {
                **ENDPOINT,
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            "otlp_proto_grpc",
        ),
        ({"OTEL_TRACES_EXPORTER": "console,smoke"}, "smoke"),
    ],
)
def test_an_exporter_that_nobody_installed_is_named(environ: Mapping[str, str], missing: str) -> None:
    assert f"no exporter {missing} is installed" in str(TRACES.problem(environ))
    assert traces.start_tracing(environ, instance="1") is None


def test_what_only_the_sdk_can_know_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that it refuses costs the traces, not the bridge."""

    def refuse(exporters: object, *, instance: str) -> None:
        raise ValueError("Propagator smoke not found")

    monkeypatch.setattr(traces, "Tracing", refuse)

    assert traces.start_tracing(ENDPOINT, instance="1") is None
    assert ["the OTEL_ variables cannot be used, there are no traces: Propagator smoke not found"] == caplog.messages


def test_the_service_is_named_unless_the_variables_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    unnamed = environment.resource("1").attributes
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=edge,team=a")
    named = environment.resource("2").attributes

    assert ("grpc-lambda-bridge", "edge") == (unnamed["service.name"], named["service.name"])
    assert "a" == named["team"]
    assert ("1", "2") == (unnamed["service.instance.id"], named["service.instance.id"])


@pytest.mark.real_clock  # the exporter has a thread
async def test_closing_sends_what_is_left() -> None:
    collector = Collector(is_open=True)
    tracing = Tracing([cast("EntryPoint", collector)], instance="1")
    tracing.tracer.start_span("last").end()
    await tracing.close(seconds=30)
    await tracing.close(seconds=30)

    assert ["last"] == collector.names


async def test_closing_does_not_wait_for_a_collector_that_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collector = Collector(is_open=False)
    tracing = Tracing([cast("EntryPoint", collector)], instance="1")
    tracing.tracer.start_span("last").end()
    await tracing.close(seconds=0.01)
    collector.may_take.set()

    assert ["the last spans could not be sent within 0.01 s"] == caplog.messages
