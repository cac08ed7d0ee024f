"""What a function writes: bytes of its stdout and stderr in, bounded lines and the last 4 KB out; and AWS's own log
lines.
"""

from __future__ import annotations

import math
import re

from bridge.rpc.limits import MIB
from bridge.rpc.value import FrozenValue

MAX_LOG_LINE = 16 * 1024
"""Bytes of one line; longer ones are shown in pieces."""
MAX_TAIL = 4 * 1024
"""Bytes of `X-Amz-Log-Result` before base64."""

_lacks_lambda_fn = re.compile(r"No module named '?lambda_fn\b").search


class LineSplitter:
    """Bytes in any chunking → lines. A carriage return breaks a line, too: AWS's Python runtime joins tracebacks with
    it.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the whole lines that these bytes complete. A line that is too long comes in pieces."""
        *whole, rest = (self._rest + data).splitlines(keepends=True) or [b""]
        if rest.endswith(b"\n"):
            whole.append(rest)
            rest = b""
        lines = [text for line in whole for text in _bounded(line.rstrip(b"\r\n"))]
        # A carriage return at the very end stays, too: a newline may follow.
        while len(rest) - rest.endswith(b"\r") > MAX_LOG_LINE:
            lines.append(_text(rest[:MAX_LOG_LINE]))
            rest = rest[MAX_LOG_LINE:]
        self._rest = rest
        return lines

    def finish(self) -> list[str]:
        """Return the last line if it has no end."""
        rest, self._rest = self._rest, b""
        return [_text(rest.rstrip(b"\r"))] if rest else []


def _bounded(line: bytes) -> list[str]:
    if len(line) <= MAX_LOG_LINE:
        return [_text(line)]
    return [_text(line[start : start + MAX_LOG_LINE]) for start in range(0, len(line), MAX_LOG_LINE)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b").findall


def request_ids_in(line: str) -> set[str]:
    """Return what looks like a request id in a line. Some of it may be others' ids."""
    return set(_UUID(line))


class LogTail:
    """The last MAX_TAIL bytes of what it was given."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data[-MAX_TAIL:]
        del self._kept[:-MAX_TAIL]

    def add_line(self, line: str) -> None:
        self.add(line.encode() + b"\n")

    def take(self) -> bytes:
        """Return what was kept and begin anew."""
        kept = bytes(self._kept)
        self._kept.clear()
        return kept


class InvocationReport(FrozenValue, frozen=True):
    """What AWS writes about an invocation when it is over. Durations in seconds, sizes in bytes."""

    request_id: str
    duration: float
    memory_size: int
    memory_used: int
    init_duration: float | None = None
    """Only on the first invocation of an instance."""
    outcome: str = ""
    """`Status: timeout` or `Status: error\tError Type: …`; empty when all went well."""

    @property
    def line(self) -> str:
        """AWS bills the init, too, since August 2025 (Lambda pricing, "INIT phase")."""
        billed = self.duration + (self.init_duration or 0.0)
        parts = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {self.duration * 1000:.2f} ms",
            f"Billed Duration: {math.ceil(billed * 1000)} ms",
            f"Memory Size: {math.ceil(self.memory_size / MIB)} MB",
            f"Max Memory Used: {math.ceil(self.memory_used / MIB)} MB",
        ]
        if self.init_duration is not None:
            parts.append(f"Init Duration: {self.init_duration * 1000:.2f} ms")
        if self.outcome:
            parts.append(self.outcome)
        return "\t".join(parts) + "\t"


def start_line(request_id: str) -> str:
    return f"START RequestId: {request_id} Version: $LATEST"


def end_line(request_id: str) -> str:
    return f"END RequestId: {request_id}"


def trace_line(trace_id: str) -> str | None:
    """Return the line that follows the report of a sampled invocation, from the trace header that the runtime got. None
    for others (AWS X-Ray, "Tracing header").
    """
    fields = dict(part.strip().partition("=")[::2] for part in trace_id.split(";"))
    if fields.get("Sampled") != "1" or not fields.get("Root") or not fields.get("Parent"):
        return None
    return f"XRAY TraceId: {fields['Root']}\tSegmentId: {fields['Parent']}\tSampled: true\t"


def failed_init_line(duration: float, outcome: str) -> str:
    """Return what AWS writes when an instance does not get as far as its first invocation."""
    return f"INIT_REPORT Init Duration: {duration * 1000:.2f} ms\tPhase: init\t{outcome}"


def advice_on(line: str) -> str | None:
    """Return what to do about a line that says that Python does not find lambda_fn, or None for other lines.

    Functions with a `handler` get the bridge's copy. Programs of their own (`command`) have only what is installed.
    """
    if _lacks_lambda_fn(line) is None:
        return None
    return "lambda_fn is not installed there: pip install grpc-lambda-fn (from a checkout: pip install ./lambda_fn)"
