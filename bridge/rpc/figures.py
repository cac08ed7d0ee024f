"""Plain numbers counted on the per-call path, each declared with the metric family that it becomes when it is scraped.

A new metric is one field here and one line where it is counted. Classes named `Counts` hold what is counted: they add
up and travel between processes. Classes named `Figures` are those of a running process: they add what only serves the
counting.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from itertools import chain
from typing import Annotated, Protocol, Self

from msgspec import field

from bridge.rpc.buffers import Buffers
from bridge.rpc.families import Family, Figures, Histogram
from bridge.rpc.places import Places
from bridge.rpc.spread import Spread
from bridge.rpc.status import CODES

SECONDS_BUCKETS = (
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
    1800.0,
)
BYTES_BUCKETS = (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0)


Counts = dict[str, int]
"""By reason or kind. A Counter where a running process counts, a plain dict once it has travelled."""


def _no_seconds() -> Histogram:
    return Histogram(SECONDS_BUCKETS)


def _no_bytes() -> Histogram:
    return Histogram(BYTES_BUCKETS)


class CallFigures(Protocol):
    """What a call counted about itself, read once at its end."""

    messages_sent: int
    bytes_received: int
    bytes_sent: int
    upstream_seconds: float

    @property
    def messages_received(self) -> int: ...


class MethodCounts(Figures):
    """What is counted for one method, or for the part of its calls that one target answers."""

    service: str = ""
    method: str = ""
    kind: str = "unknown"
    """unary, client_stream, server_stream, bidi_stream, or unknown without a descriptor."""
    started: Annotated[int, Family("grpc_server_started", "Calls begun.")] = 0
    handled: Annotated[list[int], Family("grpc_server_handled", "Calls ended, by status.", "grpc_code")] = field(
        default_factory=lambda: [0] * len(CODES)
    )
    """By status code."""
    received: Annotated[int, Family("grpc_server_msg_received", "Messages received from clients.")] = 0
    sent: Annotated[int, Family("grpc_server_msg_sent", "Messages sent to clients.")] = 0
    seconds: Annotated[
        Histogram,
        Family("grpc_server_handling_seconds", "Seconds from a call's first headers to its status."),
    ] = field(default_factory=_no_seconds)
    upstream: Annotated[
        Histogram,
        Family("bridge_upstream_seconds", "Seconds of a call spent waiting for its target."),
    ] = field(default_factory=_no_seconds)
    request_bytes: Annotated[Histogram, Family("bridge_request_bytes", "Bytes of request messages in a call.")] = field(
        default_factory=_no_bytes
    )
    response_bytes: Annotated[Histogram, Family("bridge_response_bytes", "Bytes of response messages in a call.")] = (
        field(default_factory=_no_bytes)
    )

    def add(self, other: Self) -> None:
        """Take in the same method's figures; a kind that only the other knows is taken over."""
        if self.kind == "unknown":
            self.kind = other.kind
        super().add(other)


_MOST_RECENT = 256
"""Tallies whose seconds are kept until somebody takes them: 16,384 calls, about 0.5 MB."""
_TALLIED_AT = 64
"""Finished calls that are counted together: one at a time they would cost three times as much."""


class MethodFigures(MethodCounts, eq=False):
    """The figures of one method. Whoever reads them calls `tally` first: the last calls wait to be counted together."""

    _finished: list[tuple[int, float, float, int, int, int, int]] = field(default_factory=list)
    """Of calls that are not in the figures yet: what `finished` was told, in the order that `tally` takes it apart."""
    target: str = ""
    """The target's name, as the configuration writes it. Empty: no target has these calls."""
    _recent: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=_MOST_RECENT))
    """The seconds of calls that `take_recent` has not returned yet."""
    _taken: list[int] = field(default_factory=lambda: [0] * len(CODES))
    """What `handled` was at the last `take_recent`."""

    def finished(self, call: CallFigures, code: int, seconds: float) -> None:
        """Take down the end of a call. The figures are added up later, many calls at once."""
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
        codes, seconds, upstream, bytes_in, bytes_out, received, sent = zip(*self._finished, strict=True)
        self._finished.clear()
        for code, count in Counter(codes).items():
            self.handled[code] += count
        self.received += sum(received)
        self.sent += sum(sent)
        self.seconds.observe(seconds)
        self._recent.append(seconds)
        self.upstream.observe(filter(None, upstream))  # none was spent on calls that went nowhere
        self.request_bytes.observe(bytes_in)
        self.response_bytes.observe(bytes_out)

    def take_recent(self) -> tuple[dict[int, int], list[float]]:
        """Return the calls since the last time: how many by code, and how many seconds each took. Of more than some
        thousands only the newest have their seconds.
        """
        self.tally()
        codes = {
            code: now - then
            for code, (now, then) in enumerate(zip(self.handled, self._taken, strict=True))
            if now != then
        }
        if codes:
            self._taken = self.handled.copy()
        seconds = list(chain.from_iterable(self._recent))
        self._recent.clear()
        return codes, seconds


class TargetCounts(Figures):
    """What is counted for one target."""

    name: str = ""
    retries: Annotated[int, Family("bridge_retries", "Attempts after a call's first.")] = 0
    cold_starts: Annotated[int, Family("bridge_cold_starts", "Calls that started a new instance of a function.")] = 0
    throttled: Annotated[Counts, Family("bridge_throttles", "Attempts that AWS throttled.", "reason")] = field(
        default_factory=Counter
    )
    """By AWS's reason."""
    queued: Annotated[int, Family("bridge_queue_length", "Calls that wait for their turn.", is_gauge=True)] = 0
    queue_seconds: Annotated[
        Histogram, Family("bridge_queue_seconds", "Seconds that calls waited for a turn, of those that waited.")
    ] = field(default_factory=_no_seconds)
    waits: Spread = field(default_factory=Spread)
    """The same seconds, for quantiles."""
    queue_refused: Annotated[
        Counts, Family("bridge_queue_refused", "Calls that could not wait, or waited too long.", "reason")
    ] = field(default_factory=Counter)
    """By reason: full, wait, deadline."""
    attached_instances: Annotated[
        int, Family("bridge_attached_instances", "Instances of a function that are connected.", is_gauge=True)
    ] = 0
    instance_calls: Annotated[
        int, Family("bridge_instance_calls", "Calls in full duplex that are under way or wait.", is_gauge=True)
    ] = 0
    attach_seconds: Annotated[
        Histogram, Family("bridge_attach_seconds", "Seconds from an invocation until its instance is connected.")
    ] = field(default_factory=_no_seconds)


class TargetFigures(TargetCounts, eq=False):
    """The figures of one target."""

    places: Places = field(default_factory=Places)
    duplex_places: Places = field(default_factory=Places)
    """Of calls in full duplex. They wait in a queue of their own, because many share an invocation."""
    read_limit: Callable[[], int | None] | None = None
    """Reads how many calls at a time the function takes, as far as throttles have told. None: another target of the
    same function tells it, or nobody.
    """

    def waited(self, seconds: float) -> None:
        """Note that a call waited for its turn."""
        self.queue_seconds.observe((seconds,))
        self.waits.observe((seconds,))

    @property
    def in_flight(self) -> int:
        """Calls that have a place."""
        return len(self.places.calls) + len(self.duplex_places.calls)

    def instance_came(self, seconds: float) -> None:
        """Note that an instance is attached. `seconds`: how long that took."""
        self.attached_instances += 1
        self.attach_seconds.observe((seconds,))

    def instance_left(self) -> None:
        """Note that an instance is no longer attached."""
        self.attached_instances -= 1

    def call_began(self) -> None:
        """Note that a call goes in full duplex."""
        self.instance_calls += 1

    def call_ended(self) -> None:
        """Note that a call in full duplex has ended."""
        self.instance_calls -= 1


class BridgeCounts(Figures, kw_only=True):
    """What is counted for one process."""

    connections_open: Annotated[int, Family("bridge_connections", "Client connections open.", is_gauge=True)] = 0
    connections_accepted: Annotated[int, Family("bridge_connections_accepted", "Client connections accepted.")] = 0
    connections_refused: Annotated[
        Counts,
        Family(
            "bridge_connections_refused",
            "Client connections that were not taken, or made room for others.",
            "reason",
        ),
    ] = field(default_factory=Counter)
    """By reason: sockets that were closed as soon as they were accepted, and idle connections that made room for new
    ones.
    """
    duplex_strangers: Annotated[
        int, Family("bridge_duplex_strangers", "Connections at the listener for functions without a valid token.")
    ] = 0
    streams_open: Annotated[int, Family("bridge_streams", "Streams open: calls in flight.", is_gauge=True)] = 0
    shortened_headers: Annotated[
        int,
        Family("bridge_shortened_headers", "Initial metadata cut down to fit a limit."),
    ] = 0
    shortened_trailers: Annotated[int, Family("bridge_shortened_trailers", "Trailers cut down to fit a limit.")] = 0
    protocol_errors: Annotated[
        Counts,
        Family("bridge_protocol_errors", "Rules that clients broke and limits that they met.", "kind"),
    ] = field(default_factory=Counter)
    """By kind: what clients did against HTTP/2 or gRPC."""
    refused: Annotated[Counts, Family("bridge_refused", "Calls that the bridge did not take.", "reason")] = field(
        default_factory=Counter
    )
    """By reason: calls that the bridge did not take."""


_NO_BOUND = 1 << 62
"""Bytes."""


class BridgeFigures(BridgeCounts, eq=False):
    """The figures of one process."""

    buffers: Buffers = field(default_factory=lambda: Buffers(_NO_BOUND))
    """What is held for calls: requests, events, replies in progress, and replies that clients have not taken yet."""
