"""Budgets against what is legal once and an attack by the thousand. Facts are reported by the engine; a budget spent is a ConnectionFault.

Each figure comes from a server that has been attacked: nghttp2 (resets, answers), rust's h2 (small DATA), Envoy (priorities, window
updates), gRPC itself (pings, gRFC A8). What a client has paid for with work of its own is never counted against it.
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
"""Bytes that a refused block counts on top of its own: its answer."""
_WAITED_FOR = 1.0
"""Seconds; as Envoy's premature_reset_min_stream_lifetime."""
_MAX_PING_STRIKES = 2
_PING_TOLERANCE = 0.9
"""Clients that keep to the interval exactly seem a little early now and then: the way is not always equally long."""
SHORTEST_MESSAGE = 5
"""A DATA frame shorter than a gRPC message's prefix carries no message, however small the messages are."""
_SMALL_DATA_COST = 16
"""What such a frame takes from its budget; every byte of body gives one back."""

# Envoy: frames that ask for nothing, for each stream begun; and window updates, for each stream and for each DATA frame we sent.
_USELESS_PER_STREAM = 100
_SPARE_WINDOW_UPDATES = 5
_WINDOW_UPDATES_PER_STREAM = 2
_WINDOW_UPDATES_PER_DATA = 20


class Bucket:
    """Tokens that are spent one by one and come back with time."""

    __slots__ = ("_at", "_rate", "_size", "_tokens")

    def __init__(self, size: int, rate: float) -> None:
        self._size = self._tokens = float(size)
        self._rate = rate
        """Tokens a second."""
        self._at = -inf

    def spend(self, now: float, amount: float = 1.0) -> bool:
        """Take so many; False, and nothing is taken, if there are fewer."""
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True


class StreamBucket(Bucket):
    """Tokens for what goes wrong with streams. They come back with time, and one for each stream with which nothing goes wrong.

    So a client may go on for ever as long as it is content with half of its streams.
    """

    __slots__ = ("_most_sound", "_spoilt")

    def __init__(self, size: int, rate: float) -> None:
        super().__init__(size, rate)
        self._spoilt = 0
        self._most_sound = 0
        """Streams begun less those spoilt, at its highest: streams that are begun together and spoilt together give nothing back."""

    def spend_on(self, streams_begun: int, now: float, amount: float = 1.0) -> bool:
        """Take so many tokens for one stream of so many; False if there are fewer."""
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
        # A client that has not read our SETTINGS yet cannot know better.
        self._refusals = StreamBucket(limits.max_concurrent_streams * 10, limits.reset_rate)
        self._refused_blocks = Bucket(_REFUSED_BYTES, _REFUSED_RATE)
        self._answers = 0
        self._empty_data = 0
        self._small_data = limits.small_data_budget
        self._body_seen = 0
        self._useless = 0
        self._window_updates = 0
        self._ping_strikes = 0
        self._last_ping = -inf
        self._sent_at_last_ping = 0

    def reset_received(self, age: float, streams_begun: int, now: float) -> None:
        """The client reset a stream we were working on, so many seconds after its request (CVE-2023-44487).

        A call that its client has waited for is no attack: a second makes it free, half a second halves its price.
        """
        if age < _WAITED_FOR and not self._resets.spend_on(streams_begun, now, 1 - age / _WAITED_FOR):  # fmt: skip
            raise _calm_down(ViolationKind.RESETS, "too_many_resets")

    def reset_sent(self, streams_begun: int, now: float) -> None:
        """A mistake of the client made us reset a stream (CVE-2025-8671)."""
        if not self._own_resets.spend_on(streams_begun, now):
            raise _calm_down(ViolationKind.OWN_RESETS, "too_many_stream_errors")

    def stream_refused(self, streams_begun: int, now: float) -> None:
        if not self._refusals.spend_on(streams_begun, now):
            raise _calm_down(ViolationKind.TOO_MANY_STREAMS, "too_many_streams")

    def block_refused(self, work: int, now: float) -> None:
        """A header block was read, which took the work of so many bytes, and it was not taken: too large, too many, or out of place."""
        if not self._refused_blocks.spend(now, _REFUSED_BLOCK + work):
            raise _calm_down(ViolationKind.HEADER_LIST, "too_many_refused_headers")

    def settings_received(self, entries: int, now: float) -> None:
        if entries > self._limits.max_settings_entries or not self._settings.spend(now):
            raise _calm_down(ViolationKind.SETTINGS, "too_many_settings")

    def answer_queued(self) -> None:
        """A frame of ours that only answers one of theirs (CVE-2019-9512, 9514, 9515)."""
        self._answers += 1
        if self._answers > self._limits.max_unsent_answers:
            raise _calm_down(ViolationKind.UNSENT_ANSWERS, "too_many_unsent_answers")

    def answers_taken(self) -> None:
        """Nothing is queued any more: the transport has it."""
        self._answers = 0

    def small_data(self, size: int, body_received: int) -> None:
        """A DATA frame of less than SHORTEST_MESSAGE bytes that does not end its stream, after so many body bytes in all (CVE-2019-9518)."""
        gained = body_received - self._body_seen - size
        self._body_seen = body_received
        if size == 0:
            self._empty_data = 1 if gained else self._empty_data + 1
            if self._empty_data > self._limits.max_empty_data:
                raise _calm_down(ViolationKind.EMPTY_DATA, "too_many_empty_data_frames")
        self._small_data = min(self._limits.small_data_budget, self._small_data + gained) - _SMALL_DATA_COST  # fmt: skip
        if self._small_data < 0:
            raise _calm_down(ViolationKind.SMALL_DATA, "too_many_small_data_frames")

    def padding(self, size: int, body_received: int) -> None:
        """A DATA frame of padding, with fewer than SHORTEST_MESSAGE bytes besides. The padding itself earns nothing."""
        self._body_seen = body_received - size
        self.small_data(size, body_received)

    def useless_frame(self, streams_begun: int, *, excused: int = 0) -> None:
        """PRIORITY, a frame of an unknown type, or one for a stream that is over (CVE-2019-9513). `excused`: so many more may come."""
        self._useless += 1
        if self._useless > _USELESS_PER_STREAM * (1 + streams_begun) + excused:
            raise _calm_down(ViolationKind.USELESS_FRAMES, "too_many_useless_frames")

    def window_update(self, streams_begun: int, data_sent: int) -> None:
        self._window_updates += 1
        allowed = _SPARE_WINDOW_UPDATES + _WINDOW_UPDATES_PER_STREAM * streams_begun + _WINDOW_UPDATES_PER_DATA * data_sent  # fmt: skip
        if self._window_updates > allowed:
            raise _calm_down(ViolationKind.WINDOW_UPDATES, "too_many_window_updates")

    def ping(self, frames_sent: int, now: float) -> None:
        """A PING, after so many HEADERS and DATA frames of ours. gRFC A8: those forgive everything; a bad PING does not move the last good."""
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
