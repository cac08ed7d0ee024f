"""Call: one RPC between the thread that must give Lambda a reply in time and the servicer that makes it.

The servicer's side reads, sends and ends; the caller's side waits and, when time is up, interrupts. Whoever ends the
call first decides its status; what comes later changes nothing. Every method may be called from any thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Condition
from typing import Any

from lambda_fn.http import Peer
from lambda_fn.rpc import IDENTITY, IncomingCall, Responder, WholeReply, reply_too_large
from lambda_fn.status import UNKNOWN, Metadata, Refused, Status

_logger = logging.getLogger("lambda_fn")

_ROOM = 1 << 20
"""Bytes of a streamed reply that may wait for the runtime before the servicer has to."""


class Call:
    """One RPC."""

    def __init__(
        self,
        incoming: IncomingCall,
        responder: Responder,
        *,
        deadline: float | None,
        compression: str = IDENTITY,
        max_reply: int,
        is_streamed: bool = False,
        event: Mapping[str, Any] | None = None,
        lambda_context: object = None,
    ) -> None:
        self.method: str = incoming.method
        self.metadata: Metadata = incoming.metadata
        self.peer: Peer = incoming.peer
        self.deadline = deadline
        """Monotonic seconds."""
        self.event = event
        self.lambda_context = lambda_context
        self.compression = compression
        """The compression to use, if the caller reads it; fixed when the head is sent."""
        self.compress_next = True
        self.streams_responses = False
        """Known when the method has been found."""
        self.is_unknown = False
        """Whether there is no handler for the method."""
        self.undecodable = incoming.undecodable

        self.status: Status | None = None
        self.trailing: Metadata = ()
        self.is_interrupted = False
        """Whether the call was ended from outside: its deadline, or its own cancel()."""
        self.is_closed = False
        """Whether nothing more is to be done for the call, callbacks among it."""
        self.crash: BaseException | None = None
        """What a servicer raised to end the process."""
        self.stop: Callable[[], None] | None = None
        """Stops what serves the call, where that is possible; it then closes the call."""

        self._incoming = incoming
        self._responder = responder
        self._changed = Condition()
        self._callbacks: list[Callable[[], object]] | None = []
        self._initial: Metadata | None = None
        self._sent_compression = IDENTITY
        self._messages: list[bytes] = []
        self._held = 0
        self._max_reply = max_reply
        self._is_streamed = is_streamed

    def found(self, *, streams_responses: bool) -> None:
        """Take the method that has been found."""
        with self._changed:
            self.streams_responses = streams_responses
            self._changed.notify_all()

    # -- the servicer's side --

    @property
    def is_active(self) -> bool:
        return self.status is None

    @property
    def is_open(self) -> bool:
        """Whether initial metadata has been sent."""
        return self._initial is not None

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, none of them negative; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def read(self) -> bytes | None:
        """Return the next request message, or None after the last. Raises Refused."""
        return next(self._incoming.messages, None)

    def open(self, initial: Metadata = ()) -> None:
        """Send initial metadata; only the first time counts."""
        with self._changed:
            if self._initial is not None or self.status is not None:
                return
            if self.compression in self._incoming.accepted:
                self._sent_compression = self.compression
            self._initial = initial
            self._changed.notify_all()

    def send(self, data: bytes) -> bool:
        """Send a message. False: the call has ended and the message is dropped."""
        self.open()
        compression = self._sent_compression if self.compress_next else IDENTITY
        self.compress_next = True
        try:
            message = self._responder.message(data, compression)
        except Refused as refusal:
            self.end(refusal.status, refusal.trailing)
            return False
        with self._changed:
            if self.status is not None:
                return False
            self._held += len(message)
            if self._is_streamed or self._held <= self._max_reply:
                self._messages.append(message)
                self._changed.notify_all()
                return True
            held = self._held
        self.end(reply_too_large(held, self._max_reply))
        return False

    def has_room(self) -> bool:
        is_bounded = self._is_streamed and self.streams_responses
        return not is_bounded or self._held <= _ROOM or self.status is not None

    def wait_for_room(self) -> None:
        """Return when the runtime has taken enough of a streamed reply, or the call has ended."""
        with self._changed:
            self._changed.wait_for(self.has_room)

    def end(self, status: Status, trailing: Metadata = ()) -> None:
        """Decide the call's status; only the first time counts."""
        with self._changed:
            if self.status is None:
                self.status, self.trailing = status, trailing
                self._changed.notify_all()

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have `callback` called when the call is over. False: it is."""
        with self._changed:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def close(self) -> None:
        """Nothing serves the call any more: run its callbacks, then let the reply go."""
        with self._changed:
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is None:
            return
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _logger.exception("a callback of %s raised", self.method)
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def crash_with(self, error: BaseException) -> None:
        """Give an exception that means to end the process to the thread that can do so."""
        self.crash = error
        self.end(Status(UNKNOWN, "the process ends"))
        self.close()

    # -- the caller's side --

    def interrupt(self, status: Status) -> bool:
        """End the call from outside. What serves it is stopped if it can be; a plain function runs on, its results
        dropped.

        False: the call has ended already.
        """
        with self._changed:
            if self.status is not None:
                return False
            self.status = status
            self.is_interrupted = True
            self._changed.notify_all()
        if self.stop is None:
            self.close()
        else:
            self.stop()
        return True

    def wait(self, condition: Callable[[Call], bool], *, until: float | None) -> bool:
        """Wait for `condition`, at most until `until` (monotonic seconds); whether it holds."""
        timeout = None if until is None else max(0.0, until - time.monotonic())
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout)

    def opened(self) -> tuple[Metadata, str]:
        """Return the initial metadata sent, and the compression named with it."""
        return self._initial or (), self._sent_compression

    def has_messages(self) -> bool:
        return bool(self._messages)

    def take_messages(self) -> list[bytes]:
        """Return the messages that wait to be sent on."""
        with self._changed:
            taken, self._messages, self._held = self._messages, [], 0
            self._changed.notify_all()
            return taken

    def reply(self) -> WholeReply:
        """All that was sent. The call has ended."""
        with self._changed:
            status = self.status
            assert status is not None
            return WholeReply(
                status,
                self.trailing,
                self._initial,
                self._sent_compression,
                tuple(self._messages),
                self.is_unknown,
            )
