"""What one connection to a server may cost, and how many frames without content its server may still send."""

from __future__ import annotations

from bridge.http2.client_sender import ClientSender
from bridge.http2.events import ErrorCode, ViolationKind
from bridge.http2.faults import ConnectionFault
from bridge.rpc.value import FrozenValue


class ClientLimits(FrozenValue, frozen=True):
    """What one connection to a server may cost."""

    stream_window: int = 256 << 10
    """Bytes that a server may send on a stream before anything is read from it."""
    connection_window: int = 16 << 20
    """Bytes that may be in flight on all streams. It is refilled as bytes arrive, so that one slow reader does not
    block the others.
    """
    max_header_list: int = 1 << 20
    """As RFC 9113 6.5.2 counts."""
    max_header_fields: int = 2000
    max_header_block: int = 4 << 20
    """Bytes of a header block as sent. A longer one ends the connection."""
    patience: int = 10_000
    """Frames without content that are allowed: PING, SETTINGS, WINDOW_UPDATE, empty DATA and the like."""
    patience_rate: float = 200.0
    """How many more of them are allowed each second."""
    patience_for_data: int = 20
    """How many more are allowed for each DATA frame in either direction: a server may send a PING or open windows for
    each.
    """


class Patience:
    """How many frames without content the server may still send. DATA in both directions gives it more."""

    __slots__ = ("_at", "_left", "_limits", "_seen", "_sender", "now")

    def __init__(self, limits: ClientLimits, sender: ClientSender) -> None:
        self._limits = limits
        self._sender = sender
        self._left = float(limits.patience)
        self._at = 0.0
        self._seen = 0
        """How many of the sender's DATA frames have been counted."""

        self.now = 0.0
        """Monotonic time (seconds) of the bytes that are being read."""

    def data_arrived(self) -> None:
        self._left += self._limits.patience_for_data

    def charge(self, cost: int = 1) -> None:
        """Count frames without content. Raises ConnectionFault when there are too many."""
        limits, sent, now = self._limits, self._sender.data_frames, self.now
        gained = (now - self._at) * limits.patience_rate + (sent - self._seen) * limits.patience_for_data
        self._left = min(limits.patience, self._left + gained) - cost
        self._at = now
        self._seen = sent
        if self._left < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, ViolationKind.USELESS_FRAMES, "too_many_useless_frames")
