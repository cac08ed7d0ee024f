"""Budgets against frames that are legal once and an attack by the thousand. The engine reports facts. A spent budget is
a ConnectionFault.

Each figure comes from a server that has been attacked: nghttp2 (resets, answers), rust's h2 (small DATA), Envoy
(priorities, window updates), gRPC itself (pings, gRFC A8). Frames that cost the client work of its own are never
counted.
"""

from __future__ import annotations

from math import inf

from bridge.http2.events import ErrorCode, ViolationKind
from bridge.http2.faults import ConnectionFault
from bridge.http2.interface import EngineLimits

_REFUSED_BYTES = 4 << 20
_REFUSED_RATE = 2 << 20
"""Bytes a second. A client that sends 20 KB of metadata with each of 90 calls a second may go on."""
_REFUSED_BLOCK = 1 << 10
"""Bytes that a refused block counts in addition, for its answer."""
_WAITED_FOR = 1.0
"""Seconds, the value of Envoy's premature_reset_min_stream_lifetime."""
_MAX_PING_STRIKES = 2
_PING_TOLERANCE = 0.9
"""Clients that keep the interval exactly may seem a little early, because network delay varies."""
SHORTEST_MESSAGE = 5
"""A DATA frame shorter than the prefix of a gRPC message carries no message."""
_SMALL_DATA_COST = 16
"""Tokens that such a frame takes from its budget. Every byte of body gives one back."""

# Envoy allows some useless frames for each stream, and window updates for each stream and for each DATA frame that we
# sent.
_USELESS_PER_STREAM = 100
_SPARE_WINDOW_UPDATES = 5
_WINDOW_UPDATES_PER_STREAM = 2
_WINDOW_UPDATES_PER_DATA = 20


class Bucket:
    """Tokens that are spent, and come back over time."""

    __slots__ = ("_at", "_rate", "_size", "_tokens")

    def __init__(self, size: int, rate: float) -> None:
        self._size = self._tokens = float(size)
        self._rate = rate
        """Tokens a second."""
        self._at = -inf

    def spend(self, now: float, amount: float = 1.0) -> bool:
        """Take this many tokens. If there are fewer, takes none and returns False."""
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True


class StreamBucket(Bucket):
    """Tokens for streams that go wrong. They come back over time, and one for each stream that goes well. So a client
    may go on for ever if half of its streams go well.
    """

    __slots__ = ("_most_sound", "_spoilt")

    def __init__(self, size: int, rate: float) -> None:
        super().__init__(size, rate)
        self._spoilt = 0
        self._most_sound = 0
        """The highest count of streams begun minus streams gone wrong. Streams that begin together and go wrong
        together give nothing back.
        """

    def spend_on(self, streams_begun: int, now: float, amount: float = 1.0) -> bool:
        """Take this many tokens for one stream of `streams_begun`. Returns False if there are fewer tokens."""
        self._spoilt += 1
        sound = streams_begun - self._spoilt
        if sound > self._most_sound:
            self._tokens = min(self._size, self._tokens + sound - self._most_sound)
            self._most_sound = sound
        return self.spend(now, amount)


class Budgets:
    """All budgets of one connection."""

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._resets = StreamBucket(limits.reset_burst, limits.reset_rate)
        self._own_resets = StreamBucket(limits.reset_burst, limits.reset_rate)
        self._settings = Bucket(limits.reset_burst, limits.reset_rate)
        # A client that has not yet read our SETTINGS does not know the limit.
        self._refusals = StreamBucket(limits.max_concurrent_streams * 10, limits.reset_rate)
        self._refused_blocks = Bucket(_REFUSED_BYTES, _REFUSED_RATE)
        self.unsent_answers = 0
        """Frames that only answer the client's, queued and not yet given to the transport. The engine sets it to 0."""
        self._empty_data = 0
        self._small_data = limits.small_data_budget
        self._body_seen = 0
        self._useless = 0
        self._window_updates = 0
        self._ping_strikes = 0
        self._last_ping = -inf
        self._sent_at_last_ping = 0

    def reset_received(self, age: float, streams_begun: int, now: float) -> None:
        """Count a reset by the client of a stream that we were working on, this many seconds after its request
        (CVE-2023-44487).

        A reset after a real wait is not an attack: after a second it costs nothing, after half a second half.
        """
        if age < _WAITED_FOR and not self._resets.spend_on(streams_begun, now, 1 - age / _WAITED_FOR):
            raise _calm_down(ViolationKind.RESETS, "too_many_resets")

    def reset_sent(self, streams_begun: int, now: float) -> None:
        """Count a stream that a mistake of the client made us reset (CVE-2025-8671)."""
        if not self._own_resets.spend_on(streams_begun, now):
            raise _calm_down(ViolationKind.OWN_RESETS, "too_many_stream_errors")

    def stream_refused(self, streams_begun: int, now: float) -> None:
        if not self._refusals.spend_on(streams_begun, now):
            raise _calm_down(ViolationKind.TOO_MANY_STREAMS, "too_many_streams")

    def block_refused(self, work: int, now: float) -> None:
        """Count a header block that was read at the cost of this many bytes and then refused. It was too large, one too
        many, or out of place.
        """
        if not self._refused_blocks.spend(now, _REFUSED_BLOCK + work):
            raise _calm_down(ViolationKind.HEADER_LIST, "too_many_refused_headers")

    def settings_received(self, entries: int, now: float) -> None:
        if entries > self._limits.max_settings_entries or not self._settings.spend(now):
            raise _calm_down(ViolationKind.SETTINGS, "too_many_settings")

    def answer_queued(self) -> None:
        """We queued a frame that only answers one of the client's (CVE-2019-9512, 9514, 9515)."""
        self.unsent_answers += 1
        if self.unsent_answers > self._limits.max_unsent_answers:
            raise _calm_down(ViolationKind.UNSENT_ANSWERS, "too_many_unsent_answers")

    def small_data(self, size: int, body_received: int) -> None:
        """Count a DATA frame of less than SHORTEST_MESSAGE bytes that does not end its stream (CVE-2019-9518). Takes
        the body bytes received so far.
        """
        gained = body_received - self._body_seen - size
        self._body_seen = body_received
        if size == 0:
            self._empty_data = 1 if gained else self._empty_data + 1
            if self._empty_data > self._limits.max_empty_data:
                raise _calm_down(ViolationKind.EMPTY_DATA, "too_many_empty_data_frames")
        self._small_data = min(self._limits.small_data_budget, self._small_data + gained) - _SMALL_DATA_COST
        if self._small_data < 0:
            raise _calm_down(ViolationKind.SMALL_DATA, "too_many_small_data_frames")

    def padding(self, size: int, body_received: int) -> None:
        """Count a DATA frame of padding with less than SHORTEST_MESSAGE bytes of data. Padding gives no tokens back."""
        self._body_seen = body_received - size
        self.small_data(size, body_received)

    def useless_frame(self, streams_begun: int, *, excused: int = 0) -> None:
        """Count a PRIORITY, an unknown frame type, or a frame for a stream that is over (CVE-2019-9513). `excused` more
        are allowed.
        """
        self._useless += 1
        if self._useless > _USELESS_PER_STREAM * (1 + streams_begun) + excused:
            raise _calm_down(ViolationKind.USELESS_FRAMES, "too_many_useless_frames")

    def window_update(self, streams_begun: int, data_sent: int) -> None:
        self._window_updates += 1
        allowed = (
            _SPARE_WINDOW_UPDATES + _WINDOW_UPDATES_PER_STREAM * streams_begun + _WINDOW_UPDATES_PER_DATA * data_sent
        )
        if self._window_updates > allowed:
            raise _calm_down(ViolationKind.WINDOW_UPDATES, "too_many_window_updates")

    def ping(self, frames_sent: int, now: float) -> None:
        """Count a PING. Takes the number of HEADERS and DATA frames that we have sent, which reset the count (gRFC A8).
        A PING that is too early does not count as the last one.
        """
        if frames_sent != self._sent_at_last_ping:
            self._sent_at_last_ping = frames_sent
            self._ping_strikes = 0
            self._last_ping = -inf
        if now - self._last_ping >= self._limits.min_ping_interval * _PING_TOLERANCE:
            self._last_ping = now
            return
        self._ping_strikes += 1
        if self._ping_strikes > _MAX_PING_STRIKES:
            raise _calm_down(ViolationKind.PINGS, "too_many_pings")


def _calm_down(kind: ViolationKind, reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, kind, reason)
