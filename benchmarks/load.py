"""Load by h2load: calls sent, and what it says of them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from benchmarks.machine import LOAD_CORE, on_core

_FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s|m)")
_SUCCEEDED = re.compile(r"(\d+) succeeded, ")
_BODIES = re.compile(r"\((\d+)\) data")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_LONGEST_RUN = 120.0

REPLY_BODY = 5 + 13
"""Bytes of a "Hello world" with its prefix."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How calls are sent."""

    calls: int
    connections: int = 4
    streams: int = 16
    """Calls in flight on each connection."""
    rate: int | None = None
    """Calls a second over all connections; None: as fast as they are answered."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. Seconds."""

    calls: int
    seconds: float
    latencies: tuple[float, ...]
    """Sorted."""


def send(port: int, paths: tuple[str, ...], shape: Shape, *, body: Path, reply_body: int = REPLY_BODY) -> Load:
    """Send the calls. Raises RuntimeError unless each was answered with a body of this size.

    h2load knows no gRPC: a call that failed has HTTP status 200 as well, but no message.
    """
    with NamedTemporaryFile("r", suffix=".tsv") as log:
        command = on_core(
            LOAD_CORE,
            "h2load",
            "-n",
            str(shape.calls),
            "-c",
            str(shape.connections),
            "-m",
            str(shape.streams),
            "-d",
            str(body),
            f"--log-file={log.name}",
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
            *(() if shape.rate is None else (f"--rps={shape.rate / shape.connections:g}",)),
            *(f"http://127.0.0.1:{port}{path}" for path in paths),
        )
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LONGEST_RUN).stdout
        rows = [row.split("\t") for row in log.read().splitlines()]
    succeeded, bodies, seconds = parse(told)
    if succeeded != shape.calls or bodies != succeeded * reply_body:
        raise RuntimeError(f"calls to {paths[0]} on port {port} failed:\n{told}")
    latencies = sorted(int(row[2]) * 1e-6 for row in rows)
    return Load(succeeded, seconds, tuple(latencies))


def parse(told: str) -> tuple[int, int, float]:
    """Calls that got HTTP 200, bytes of all bodies, seconds. Raises RuntimeError for a text that is not h2load's."""
    finished, counts, bodies = _FINISHED.search(told), _SUCCEEDED.search(told), _BODIES.search(told)
    if finished is None or counts is None or bodies is None:
        raise RuntimeError(f"h2load said something else than expected:\n{told}")
    return int(counts[1]), int(bodies[1]), float(finished[1]) * _SECONDS[finished[2]]
