"""Decides which unfinished requests may go on while the process's buffers run short, which wait, and which end.

Bytes that wait for the end of their message or request cannot be released, so requests that wait for each other could
hold the buffers for ever. Four rules prevent that, each a share of `buffers`:

* Up to a half, every client gets window back for what it sends.
* Above a half, a request waits: its client's window stays shut. A connection that holds less than its fair share may
  still send. The oldest waiting request may send too, one at a time, for as long as bytes arrive.
* A request that has waited for WAIT seconds ends with RESOURCE_EXHAUSTED.
* Windows that are already open let more arrive. Above three quarters, the connection that holds the most loses its
  youngest request.

If complete requests and replies fill the buffers, unfinished requests wait in the same way. They never take the last
quarter: it is for requests that are complete and for their replies.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from bridge.rpc.buffers import Buffers
from bridge.rpc.errors import BuffersFull

WAIT = 10.0
"""Seconds."""

UPLOAD_TURN = 2.0
"""Seconds without a byte after which the request that may send makes way for the next."""


class Upload(Protocol):
    """A request that has not ended."""

    @property
    def connection(self) -> Hashable:
        """Equal for all requests of one connection."""
        ...

    def send_on(self) -> None:
        """Give the client the window that was kept back."""
        ...

    def refuse(self, cause: BuffersFull) -> None:
        """End the call and keep nothing of the request."""
        ...


class _Share:
    """The bytes that one connection holds."""

    __slots__ = ("held", "uploads")

    def __init__(self) -> None:
        self.held = 0
        self.uploads: dict[Upload, int] = {}
        """Bytes by request, the oldest first."""


class Uploads:
    """All unfinished requests of a process. Times are the loop's, in seconds."""

    __slots__ = ("_buffers", "_hard", "_is_resuming", "_shares", "_soft", "_turn", "_turn_used", "_waiting", "held")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        buffers.when_freed(self._may_resume)
        self._soft = buffers.limit // 2
        self._hard = buffers.limit - buffers.limit // 4
        self._shares: dict[Hashable, _Share] = {}
        self._waiting: dict[Upload, float] = {}
        """The waiting requests with the time since when they wait, the longest waiting first."""
        self._turn: Upload | None = None
        """The one request that may send although there is no room, and (below) when it last did."""
        self._turn_used = 0.0
        self._is_resuming = False
        self.held = 0
        """Bytes."""

    def begin(self, upload: Upload, size: int) -> None:
        """`size` is the number of bytes that the request counts for before any of it has arrived."""
        share = self._shares.get(upload.connection)
        if share is None:
            share = self._shares[upload.connection] = _Share()
        share.uploads[upload] = 0
        self.grow(upload, size)

    def grow(self, upload: Upload, size: int) -> None:
        """Count this many more bytes as held for the request (fewer if negative). This may end requests, even this."""
        share = self._shares.get(upload.connection)
        if share is None or upload not in share.uploads:
            return
        share.uploads[upload] += size
        share.held += size
        self.held += size
        while size > 0 and self.held > self._hard and self._end_one():
            pass

    def end(self, upload: Upload) -> None:
        """Forget the request: it is complete, or its call is over."""
        share = self._shares.get(upload.connection)
        if share is None or upload not in share.uploads:
            return
        size = share.uploads.pop(upload)
        share.held -= size
        self.held -= size
        if not share.uploads:
            del self._shares[upload.connection]
        self._waiting.pop(upload, None)
        if self._turn is upload:
            self._turn = None
        self._resume()

    def may_send_on(self, upload: Upload, *, now: float) -> bool:
        """Whether the client gets window back for the bytes that arrived. If not, `send_on` or `refuse` follows."""
        if self._has_room(upload) or not self._is_open(upload):
            return True
        if self._turn is None and not self._waiting:
            self._turn = upload
        if self._turn is upload:
            self._turn_used = now
            return True
        self._waiting.setdefault(upload, now)
        self._buffers.is_awaited = True
        return False

    def check(self, now: float) -> None:
        """Look at all uploads. The server calls this about once a second."""
        for upload, since in list(self._waiting.items()):
            if now - since > WAIT and upload in self._waiting:
                self._refuse(upload, f"the request waited {WAIT:g} s for room")
        if self._turn is not None and self._waiting and now - self._turn_used > UPLOAD_TURN:
            self._turn = None
        self._resume(now)

    # -- room ----------------------------------------------------------------------------------------------------------

    def _is_open(self, upload: Upload) -> bool:
        share = self._shares.get(upload.connection)
        return share is not None and upload in share.uploads

    @property
    def _is_short(self) -> bool:
        return self.held > self._soft or self._buffers.held > self._hard

    def _has_room(self, upload: Upload) -> bool:
        buffers = self._buffers
        if not self._is_short:
            return True
        if buffers.held > buffers.for_large:
            return False  # the bytes that arrived would not be accepted
        share = self._shares.get(upload.connection)
        return share is not None and share.held * len(self._shares) <= self._soft

    def _resume(self, now: float | None = None) -> None:
        """Let the requests send that now may, the longest waiting first. `now` is given once a second. Only then are
        all of them checked.
        """
        if self._is_resuming or (now is None and self._is_short and self._turn is not None):
            return
        self._is_resuming = True
        for upload in list(self._waiting):
            if not self._has_room(upload):
                if self._turn is not None:
                    if now is None:
                        break
                    continue
                self._turn = upload
                self._turn_used = self._turn_used if now is None else now
            del self._waiting[upload]
            upload.send_on()
        self._is_resuming = False

    def _may_resume(self) -> bool:
        """Others have given something back. Whether anybody still waits."""
        self._resume()
        return bool(self._waiting)

    def _end_one(self) -> bool:
        """End the youngest request of the connection that holds the most. Returns False if it has only one."""
        share = max(self._shares.values(), key=_held)
        youngest = next(reversed(share.uploads))
        if len(self._shares) == len(share.uploads) == 1:
            return False
        self._refuse(youngest, "requests under way hold too much, those of this connection the most")
        return True

    def _refuse(self, upload: Upload, reason: str) -> None:
        limit = self._buffers.limit
        upload.refuse(BuffersFull(f"{reason}: all calls together may hold {limit} bytes (buffers); try again later"))
        self.end(upload)


def _held(share: _Share) -> int:
    return share.held
