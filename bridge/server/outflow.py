"""What leaves for a client: everything queued is written once in each turn of the loop.

It also counts the bytes of replies that the client has not read. They wait in the engine for the client's windows, and
in the transport until the client reads. Both use the bridge's memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized

from bridge.http2.interface import Engine
from bridge.rpc.buffers import Buffers, Level


class Outflow:
    """Of one connection."""

    __slots__ = ("_buffers", "_calls", "_engine", "_is_due", "_is_open", "_loop", "_transport", "_unread")

    def __init__(self, engine: Engine, buffers: Buffers, calls: Sized) -> None:
        """Take the connection's calls whose handlers have not returned, to know how many there are."""
        self._engine = engine
        self._buffers = buffers
        self._calls = calls
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_open = False
        """Whether something may still be written."""
        self._is_due = False
        """Whether a flush follows in this turn."""
        self._unread = Level(buffers)

    def start(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_open = True

    def stop(self) -> None:
        """Write nothing more."""
        self._is_open = False

    def clear(self) -> None:
        """Forget what is unread: the socket is closed."""
        self._is_open = False
        self._transport = None
        self._unread.become(0)

    # -- writing ------------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """Send everything queued, once, at the end of this loop turn."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.flush)

    def flush_for_one(self) -> None:
        """Send what a call has queued: now if it is the only call, else together with the others. A write is a system
        call.
        """
        if len(self._calls) == 1:
            self.flush()
        elif not self._is_due:
            self.flush_soon()

    def flush(self) -> None:
        """Send everything queued, now."""
        self._is_due = False
        if not self._is_open or self._transport is None:
            return
        if self._unread.size:
            self.look()  # before the write, because the client may read it at once
        data = self._engine.bytes_to_send()
        if data:
            self._transport.write(data)

    # -- what the client has not read ---------------------------------------------------------------------------------

    def count(self, size: int) -> None:
        """Count a sent message as unread until the flush of this turn has looked."""
        if self._is_open:  # if no flush follows
            self._unread.become(self._unread.size + size)

    def look(self) -> None:
        """Find out how much is unread."""
        if self._transport is not None:
            self._unread.become(self._engine.queued_bytes + self._transport.get_write_buffer_size())

    @property
    def is_too_far_behind(self) -> bool:
        """Whether the buffers are full but for the part kept for other calls, and replies that this client does not
        read fill much of them.
        """
        buffers = self._buffers
        return buffers.held > buffers.for_unread and self._unread.size > buffers.much_for_one
