"""Plain numbers counted on the per-call path; the admin server turns them into Prometheus families when scraped."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from bridge.rpc.buffers import Buffers
from bridge.rpc.places import Places
from bridge.rpc.status import CODES

SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
)
BYTES = (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0)


class Histogram:
    """How many values lie below which bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Not cumulative: one count for each bound, one for what lies above them all."""
        self.total = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Count these values. A bound holds what is equal to it."""
        rising = sorted(values)
        self.total += sum(rising)
        counted = 0
        for place, bound in enumerate(self.bounds):
            if counted == len(rising):
                return
            below = bisect_right(rising, bound)
            self.counts[place] += below - counted
            counted = below
        self.counts[-1] += len(rising) - counted


class CallFigures(Protocol):
    """What a call counted about itself, read once at its end."""

    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    upstream_seconds: float


_TALLIED_AT = 64
"""Finished calls that are counted together: one at a time they would cost three times as much."""


class MethodFigures:
    """The figures of one method. Whoever reads them calls `tally` first: the last calls wait to be counted together."""

    __slots__ = ("_finished", "handled", "kind", "method", "received", "request_bytes", "response_bytes", "seconds", "sent", "service",
                 "started", "upstream")  # fmt: skip

    def __init__(self, service: str, method: str, kind: str = "unknown") -> None:
        self.service = service
        self.method = method
        self.kind = kind
        """unary, client_stream, server_stream, bidi_stream, or unknown without a descriptor."""
        self.started = 0
        self.handled = [0] * len(CODES)
        """By code."""
        self.received = 0
        self.sent = 0
        self.seconds = Histogram(SECONDS)
        self.upstream = Histogram(SECONDS)
        self.request_bytes = Histogram(BYTES)
        self.response_bytes = Histogram(BYTES)
        self._finished: list[tuple[int, float, float, int, int, int, int]] = []
        """Of calls that are not in the figures yet: what `finished` was told, in the order that `tally` takes it apart."""

    def finished(self, call: CallFigures, code: int, seconds: float) -> None:
        finished = self._finished
        finished.append(
            (
                code,
                seconds,
                call.upstream_seconds,
                call.bytes_received,
                call.bytes_sent,
                call.messages_received,
                call.messages_sent,
            )
        )
        if len(finished) >= _TALLIED_AT:
            self.tally()

    def tally(self) -> None:
        """Bring the figures up to date."""
        if not self._finished:
            return
        codes, seconds, upstream, bytes_in, bytes_out, received, sent = zip(
            *self._finished, strict=True
        )
        self._finished.clear()
        for code, count in Counter(codes).items():
            self.handled[code] += count
        self.received += sum(received)
        self.sent += sum(sent)
        self.seconds.add(seconds)
        self.upstream.add(filter(None, upstream))  # none was spent on calls that went nowhere
        self.request_bytes.add(bytes_in)
        self.response_bytes.add(bytes_out)


class TargetFigures:
    """The figures of one target."""

    __slots__ = ("cold_starts", "name", "places", "retries", "throttled")

    def __init__(self, name: str) -> None:
        self.name = name
        self.places = Places()
        self.retries = 0
        self.cold_starts = 0
        self.throttled: Counter[str] = Counter()
        """By AWS's reason."""

    @property
    def in_flight(self) -> int:
        """Calls that have a place."""
        return len(self.places.calls)


_NO_BOUND = 1 << 62
"""Bytes."""


class BridgeFigures:
    """The figures of one process."""

    __slots__ = ("buffers", "connections_accepted", "connections_open", "connections_refused", "protocol_errors", "refused", "shortened_headers", "shortened_trailers",
                 "streams_open")  # fmt: skip

    def __init__(self, buffers: Buffers | None = None) -> None:
        """`buffers`: None: without a bound."""
        self.connections_open = 0
        self.connections_accepted = 0
        self.connections_refused: Counter[str] = Counter()
        """By reason: sockets that were closed as soon as they were accepted, and idle connections that made room for new ones."""
        self.streams_open = 0
        self.buffers = buffers or Buffers(_NO_BOUND)
        """What is held for calls: requests, events, replies in progress, and replies that clients have not taken yet."""
        self.shortened_headers = 0
        self.shortened_trailers = 0
        self.protocol_errors: Counter[str] = Counter()
        """By kind: what clients did against HTTP/2 or gRPC."""
        self.refused: Counter[str] = Counter()
        """By reason: calls that the bridge did not take."""
