"""Writes one line for each call. Entries are written in batches, because one write per line costs more than signing the
call.

A client can cheaply make thousands of calls that fail before they reach a target. The first ones of a connection have a
line each. After that, those above one a second are only counted. A line every ten seconds tells how many they were.

Writing never waits. A terminal held by Ctrl-S or a full pipe loses log lines and delays no call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from msgspec import Struct
from msgspec.json import Encoder

from bridge.http2.abuse import Bucket
from bridge.logs import console_line, encodable
from bridge.lossy_writer import MOST_WAITING, LossyWriter
from bridge.rpc.call import Call, Peer
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.rpc.status import CODES, Status, StatusCode

_FLUSH_AFTER = 0.2
"""Seconds an entry may wait."""
_FLUSH_AT = 256
_RETRY_AFTER = 0.01
"""Seconds until a write that found no room is tried again. A pipe holds 64 KiB, and a busy bridge writes megabytes a
second.
"""
_LONGEST_TEXT = 500
"""Characters of a path or a status message. Clients that send long ones must not fill the log."""
_LONGEST_ID = 100


_LAST_PATIENCE = 1.0

_LINES_AT_ONCE = 10
_LINES_A_SECOND = 1.0
"""Lines of one connection about calls that reached no target."""
_SUMMARY_AFTER = 10.0
"""Seconds until a summary line counts the calls that had no line."""
_MOST_COUNTED = 1000
"""Pairs of address and code that are counted apart in that time. All others are counted together."""
_OTHERS = "others"

_LEVEL = "info"
_LOGGER = "bridge.access"

_NAMES = tuple(code.name for code in CODES)
"""By code."""

_logger = logging.getLogger(__name__)


class AccessLogEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """The facts about a call at its end. Durations are in microseconds, sizes in bytes."""

    time: datetime
    level: str
    logger: str
    method: str
    code: str
    duration_us: int
    upstream_us: int
    attempts: int
    received: int
    sent: int
    peer: str
    target: str = ""
    """The one that answered, as the configuration writes it. Empty: the bridge itself."""
    message: str = ""
    """The status message, for calls that failed."""
    request_id: str = ""
    """AWS's id of the last attempt."""
    trace_id: str = ""
    queued_us: int = 0
    """How long the call waited for its turn."""
    tenant: str = ""
    cold_start: bool = False
    """Whether the call started a new instance. Only functions with `lambda_fn` report this."""
    calls: int = 0
    """The number of calls that a summary line stands for. Its method is `*`."""


LineFormat = Callable[[list[AccessLogEntry]], bytes]

json_lines: LineFormat = Encoder().encode_lines


def console_lines(entries: list[AccessLogEntry]) -> bytes:
    """Format entries for people: time, code, method, duration, and what went wrong."""
    return "".join([_console_line(entry) for entry in entries]).encode()


def _console_line(entry: AccessLogEntry) -> str:
    if entry.calls:
        text = f"{entry.code:<17} {entry.calls} more calls from {entry.peer} that did nothing"
        return console_line(entry.time, entry.level, entry.logger, text) + "\n"
    facts = (
        f"{entry.duration_us / 1000:.1f} ms",
        f"queued={entry.queued_us / 1000:.1f} ms" if entry.queued_us else "",
        f"attempts={entry.attempts}" if entry.attempts > 1 else "",
        "cold" if entry.cold_start else "",
        f"target={entry.target}" if entry.target else "",
        f"tenant={entry.tenant}" if entry.tenant else "",
    )
    text = f"{entry.code:<17} {entry.method}  {' '.join(filter(None, facts))}"
    if entry.message:
        text = f"{text}  {entry.message}"
    return console_line(entry.time, entry.level, entry.logger, text) + "\n"


class AccessLog:
    """Collects entries, and formats and writes them in batches to a file descriptor."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        wall_clock: Callable[[], float],
        line_format: LineFormat = json_lines,
        descriptor: int = 2,
        is_on: bool = True,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """Begin without entries. `most_waiting`: bytes that may wait for a reader that has stopped."""
        self._loop = loop
        self._wall_clock = wall_clock
        self._format = line_format
        self._entries: list[AccessLogEntry] = []
        self._outlet = LossyWriter(descriptor, most_waiting=most_waiting)
        self._lost = 0
        """Lines lost because the writer had no room."""
        self._timer: asyncio.TimerHandle | None = None
        self.is_on = is_on
        self._last_metadata: Metadata = EMPTY
        self._last_trace_id = ""
        self._allowances: WeakKeyDictionary[Hashable, Bucket] = WeakKeyDictionary()
        """By connection: how many more lines it may have about calls that reached no target."""
        self._without_line: Counter[tuple[str, str]] = Counter()
        """By address and code: calls that reached no target and have no line."""
        self._summary: asyncio.TimerHandle | None = None

    def write(self, call: Call, code: StatusCode, seconds: float) -> None:
        """Write the line of a call that has ended, soon. A flood of calls that reached no target gets few lines."""
        route = call.route
        if not (self.is_on and route.is_logged):
            return
        if code and not call.attempts and not self._allows_line(call.connection, call.peer, code):
            return
        metadata = call.metadata
        if metadata is not self._last_metadata:
            # Calls with the same header block share their metadata.
            self._last_metadata, self._last_trace_id = metadata, trace_id_in(metadata)
        self._add(
            AccessLogEntry(
                datetime.fromtimestamp(self._wall_clock(), UTC),
                _LEVEL,
                _LOGGER,
                call.path[:_LONGEST_TEXT],
                _NAMES[code],
                int(seconds * 1e6),
                int(call.upstream_seconds * 1e6),
                call.attempts,
                call.bytes_received,
                call.bytes_sent,
                call.peer.address,
                route.target,
                _message_of(call.status) if code else "",
                call.request_id[:_LONGEST_ID],
                self._last_trace_id,
                int(call.queued_seconds * 1e6) if call.queued_seconds else 0,
                call.tenant,
                call.is_cold_start,
            )
        )

    def _allows_line(self, connection: Hashable, peer: Peer, code: StatusCode) -> bool:
        """Whether a call of this connection that reached no target gets its own line. If not, it is counted."""
        allowance = self._allowances.get(connection)
        if allowance is None:
            allowance = self._allowances[connection] = Bucket(_LINES_AT_ONCE, _LINES_A_SECOND)
        if allowance.spend(self._loop.time()):
            return True
        kind = (peer.address, _NAMES[code])
        if kind not in self._without_line and len(self._without_line) >= _MOST_COUNTED:
            kind = (_OTHERS, _NAMES[code])
        self._without_line[kind] += 1
        if self._summary is None:
            self._summary = self._loop.call_later(_SUMMARY_AFTER, self._summarise)
        return False

    def _summarise(self) -> None:
        """Write the summary lines of calls that had no line."""
        if self._summary is not None:
            self._summary.cancel()
            self._summary = None
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        without_line, self._without_line = self._without_line, Counter()
        for (address, code), count in without_line.items():
            self._add(AccessLogEntry(now, _LEVEL, _LOGGER, "*", code, 0, 0, 0, 0, 0, address, calls=count))

    def write_refused(self, path: str, status: Status, peer: Peer, connection: Hashable | None = None) -> None:
        """Write the line of a request that is not a gRPC call. `connection` bounds the number of its lines."""
        if self.is_on and (connection is None or self._allows_line(connection, peer, status.code)):
            now = datetime.fromtimestamp(self._wall_clock(), UTC)
            code = CODES[status.code].name
            self._add(
                AccessLogEntry(
                    now,
                    _LEVEL,
                    _LOGGER,
                    path[:_LONGEST_TEXT],
                    code,
                    0,
                    0,
                    0,
                    0,
                    0,
                    peer.address,
                    message=encodable(status.message[:_LONGEST_TEXT]),
                )
            )

    def _add(self, entry: AccessLogEntry) -> None:
        entries = self._entries
        if self._timer is None:
            self._timer = self._loop.call_later(_FLUSH_AFTER, self.flush)
        entries.append(entry)
        if len(entries) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write what can be written now. The rest is tried again in a moment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries = self._entries, []
        if self._outlet.is_full:
            self._lost += len(entries)
        elif entries:
            self._outlet.add(self._format(entries))
        self._outlet.write_out()
        if not self._outlet.is_empty:
            self._timer = self._loop.call_later(_RETRY_AFTER, self.flush)
        elif self._lost:
            lost, self._lost = self._lost, 0
            _logger.warning("%d lines of the access log were lost: the reader of the log was too slow", lost)

    def close(self) -> None:
        """Write the last lines, and wait a moment for room, because there is no later try."""
        self._summarise()
        self.flush()
        self._outlet.write_out(patience=_LAST_PATIENCE)
        if self._timer is not None:
            self._timer.cancel()


def _message_of(status: Status | None) -> str:
    return "" if status is None else encodable(status.message[:_LONGEST_TEXT])


def trace_id_in(metadata: Metadata) -> str:
    """Return the id of the trace that the client began, or an empty text."""
    for name, value in metadata:
        if name == "traceparent":
            return value[3:35]  # W3C Trace Context: version-traceid-parentid-flags
        if name == "x-amzn-trace-id":
            return value[:_LONGEST_ID]
    return ""
