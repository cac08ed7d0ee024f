"""What the OTEL_ variables ask for: which signals are exported, with which exporters, and in whose name.

In: the environment. Out: names and entry points of exporters, or a sentence that says what is missing. The SDK is
imported by `resource` alone, which nobody calls while nothing is exported.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

SERVICE = "grpc-lambda-bridge"


class Signal(NamedTuple):
    """One kind of what is exported."""

    name: str
    """As the variables and the groups of entry points spell it."""

    @property
    def _variable(self) -> str:
        return self.name.upper()

    def exporters(self, environ: Mapping[str, str]) -> list[EntryPoint]:
        """Return the exporters that the variables ask for. Empty if the signal is off, or if `problem` has a reason."""
        names = self._exporter_names(environ)
        found = [each for name in names if (each := self._installed(name)) is not None]
        return found if len(found) == len(names) else []

    def problem(self, environ: Mapping[str, str]) -> str | None:
        """Return why nothing of this signal is exported although the variables ask for it, or None."""
        missing = [name for name in self._exporter_names(environ) if self._installed(name) is None]
        if not missing:
            return None
        return (
            f"the OTEL_ variables ask for {self.name}, but no exporter {' and no '.join(missing)} is installed: there"
            " are none (pip install 'grpc-lambda-bridge[otel]'; OTLP over gRPC needs"
            " opentelemetry-exporter-otlp-proto-grpc too)"
        )

    def _exporter_names(self, environ: Mapping[str, str]) -> list[str]:
        """Return the exporters as entry points are named. Empty: the signal is off."""
        if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return []
        listed = environ.get(f"OTEL_{self._variable}_EXPORTER", "").split(",")
        names = [name.strip() for name in listed if name.strip()]
        endpoints = (f"OTEL_EXPORTER_OTLP_{self._variable}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        if not names and any(environ.get(name) for name in endpoints):
            names = ["otlp"]
        if "none" in names:
            return []
        return [self._otlp(environ) if name == "otlp" else name for name in names]

    def _otlp(self, environ: Mapping[str, str]) -> str:
        variables = (f"OTEL_EXPORTER_OTLP_{self._variable}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        named = (environ[name] for name in variables if environ.get(name))
        # The specification's default. The SDK's own set-up is older and takes gRPC.
        protocol = next(named, "http/protobuf")
        return f"otlp_proto_{protocol.removesuffix('/protobuf')}"

    def _installed(self, name: str) -> EntryPoint | None:
        found = entry_points(group=f"opentelemetry_{self.name}_exporter", name=name)
        return next(iter(found), None)


TRACES, METRICS = Signal("traces"), Signal("metrics")


def problems(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each signal that is asked for and cannot be exported."""
    return [why for signal in (TRACES, METRICS) if (why := signal.problem(environ)) is not None]


def resource(instance: str) -> Resource:
    """Return who exports. `instance` differs between processes. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come
    first.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {"service.name": SERVICE, "service.version": version(SERVICE), "service.instance.id": instance}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


async def ends_within(seconds: float, work: Callable[[], None]) -> bool:
    """Run `work` in a thread and wait for its end, at most so long. Returns whether it ended. A process does not wait
    for the thread when it exits.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:  # too late: the loop is closed
            pass

    # A daemon: the SDK cannot be told to stop, and an executor's thread would be waited for at exit.
    threading.Thread(target=run, daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return False
    return True
