"""The body of a request, read whole or cut into messages.

The connection feeds it as bytes arrive. Held bytes count in the process's buffers. Bytes that were read give the client
credit for more. It knows the limits of its route, its part of the buffers, and how to give credit. It does not know its
call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from enum import Enum, auto

import msgspec

from bridge.rpc.buffers import Account, Portion
from bridge.rpc.call import Arrival, Route
from bridge.rpc.chunks import keep
from bridge.rpc.compression import IDENTITY
from bridge.rpc.envelope import PREFIX_SIZE, EnvelopeReader, EnvelopeScanner, parse_prefix
from bridge.rpc.errors import (
    BuffersFull,
    FullDuplexNeeded,
    MalformedRequest,
    MessageTooLarge,
    RpcError,
)
from bridge.rpc.metadata import Metadata, value_of
from bridge.server.interface import CallConnection

GROWTH = 1 << 10
"""Bytes by which a message that has begun must grow in each GROWTH_TIME, on average."""
GROWTH_TIME = 10.0
"""Seconds."""


class BodyForm(Enum):
    """How a body is kept."""

    EMPTY = auto()
    """Nothing of it has arrived."""
    PIECE = auto()
    """It arrived in one small piece, with its end. Most do."""
    READ = auto()
    """That piece has been read: it is one message, which has been counted and credited."""
    CHUNKS = auto()
    """A ChunkedBody keeps it. All other bodies end here."""


_EMPTY, _PIECE, _READ = BodyForm.EMPTY, BodyForm.PIECE, BodyForm.READ


class RequestBody(msgspec.Struct, eq=False):
    """The body of one call. It is read in one of two ways: all at once, or message by message."""

    connection: CallConnection
    stream_id: int
    route: Route
    metadata: Metadata
    """The call's."""
    account: Account | None = None
    """The call's. None after its end."""
    messages: int = 0
    """How many have been read."""
    _singly: bool | None = None
    """Whether messages pass as they come; None: as the route says."""
    _form: BodyForm = _EMPTY
    _piece: bytes = b""
    """The whole body, if its form is PIECE or READ. The call's own cost covers it."""
    _chunks: ChunkedBody | None = None

    def received(self, data: bytes, *, ended: bool, now: float) -> None:
        """`now`: the loop's time."""
        if ended and self._form is _EMPTY and len(data) <= self.connection.buffers.covered:
            self._form, self._piece = _PIECE, data
        else:
            self._chunked(ended=ended).received(data, ended=ended, now=now)

    async def read_all(self) -> bytes:
        """See Call.read_all."""
        form = self._form
        if form is _PIECE:
            piece, limits = self._piece, self.route.limits
            size = len(piece) - PREFIX_SIZE
            # One message, not compressed and within the limits: the common case.
            if (
                0 <= size <= limits.max_request
                and len(piece) <= limits.max_buffered
                and parse_prefix(piece) == (0, size)
            ):
                self._form = _READ
                self.messages = 1
                connection = self.connection
                if connection.engine.credit(self.stream_id, len(piece)):  # as `credit` does, at half its cost
                    connection.outflow.flush_soon()
                return piece
        elif form is _READ:
            return self._piece
        return await self._chunked().read_all()

    @property
    def passes_singly(self) -> bool:
        """Whether the target takes messages as they come."""
        return self.route.streams if self._singly is None else self._singly

    def pass_messages(self, *, singly: bool) -> None:
        """See Call.pass_messages."""
        self._singly = singly
        if self._chunks is not None:
            self._chunks.count_as_upload(not singly)

    async def arrival(self, of: Arrival) -> None:
        """See Call.arrival."""
        if self._form is not _PIECE and self._form is not _READ:
            await self._chunked().arrival(of)

    async def read_envelope(self) -> bytes | None:
        """See Call.read_envelope."""
        return await self._chunked().read_envelope()

    def unread(self, envelopes: Sequence[bytes]) -> None:
        """See Call.unread."""
        self._chunked().unread(envelopes)

    def is_stalled(self, now: float) -> bool:
        """Whether the unfinished message grows too slowly. Called about once a second."""
        return self._chunks is not None and self._chunks.is_stalled(now)

    def credit(self, size: int) -> None:
        """Let the client send this many more bytes."""
        # The flush is needed: a client whose window is shut sends nothing, so no later write would carry the credit.
        if self.connection.engine.credit(self.stream_id, size):
            self.connection.outflow.flush_soon()

    def close(self) -> None:
        """Release timers, and window for bytes that were not read. The call's account gives back what was counted."""
        if self._form is _PIECE:
            self.credit(len(self._piece))
        elif self._chunks is not None:
            self._chunks.close()
            self._chunks = None
        self.account = None  # which refers to the call, and so to this

    def _chunked(self, *, ended: bool = False) -> ChunkedBody:
        """Return the body in chunks. `ended`: no more of it comes."""
        chunks = self._chunks
        if chunks is None:
            chunks = self._chunks = ChunkedBody(self, ended=ended or self._form is not _EMPTY)
            if self._form is not _EMPTY:
                chunks.adopt(self._piece, is_read=self._form is _READ)
            self._form, self._piece = BodyForm.CHUNKS, b""
        return chunks


class ChunkedBody:
    """A body of any size, in the pieces in which it arrived."""

    __slots__ = (
        "_arrived",
        "_body",
        "_chunks",
        "_ended",
        "_failure",
        "_gathered",
        "_growth",
        "_held",
        "_kept_back",
        "_last_received",
        "_reader",
        "_scanner",
        "_silence",
        "_size",
        "_wake",
    )

    def __init__(self, body: RequestBody, *, ended: bool) -> None:
        account = body.account
        assert account is not None, "the call is over"
        self._body = body
        self._chunks: deque[bytes | bytearray] = deque()
        """Bytes that the handler has not read yet."""
        self._ended = False
        self._gathered: bytes | None = None
        """The whole body, once it has been read whole."""
        self._scanner: EnvelopeScanner | None = None
        self._reader: EnvelopeReader | None = None
        self._arrived = 0
        """Bytes that have arrived, and (below) those of them that are still held."""
        self._size = 0
        self._held = Portion(account)
        """The held bytes that the call's fixed cost does not cover."""
        self._failure: RpcError | None = None
        """The error that stops reading."""
        self._wake: asyncio.Future[None] | None = None
        """Pending while a reader waits for bytes."""
        self._silence: asyncio.TimerHandle | None = None
        self._last_received = 0.0
        """The loop's time of the last bytes, or 0 before any."""
        self._kept_back = 0
        """Bytes that were read but not yet credited to the client."""
        self._growth = _Growth()
        if not ended:
            # A request that is read whole keeps its call waiting. A streaming call goes on meanwhile.
            body.connection.uploads.begin(self, 0 if body.passes_singly else account.held)

    @property
    def connection(self) -> Hashable:
        return self._body.connection

    def close(self) -> None:
        """See RequestBody.close."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._body.connection.uploads.end(self)
        self._drop()

    def _drop(self) -> None:
        """Drop everything. The client gets window for all unread bytes."""
        self.send_on()
        if self._chunks:
            if self._scanner is None:  # the bytes read whole have been credited
                self._body.credit(sum(map(len, self._chunks)))
            self._chunks.clear()

    # -- while the buffers run short (see Uploads) ---------------------------------------------------------------------

    def send_on(self) -> None:
        kept_back, self._kept_back = self._kept_back, 0
        if kept_back:
            self._body.credit(kept_back)

    def refuse(self, cause: BuffersFull) -> None:
        if self._failure is None:
            self._failure = cause
        self._drop()
        if self._reader is not None:
            self._reader.clear()
        self._size = 0
        self._held.become(0)
        self._wake_reader()

    def _credit(self, size: int) -> None:
        """Give the client window for bytes that were read: now, or when there is room for more."""
        if self._ended or self._body.connection.uploads.may_send_on(self, now=self._body.connection.loop.time()):
            self._body.credit(size)
        else:
            self._kept_back += size

    def is_stalled(self, now: float) -> bool:
        """See RequestBody.is_stalled."""
        scanner, reader = self._scanner, self._reader
        if scanner is not None:
            number, is_inside = scanner.count, scanner.is_inside
        else:
            number = self._body.messages
            is_inside = reader is not None and reader.is_inside and not self._chunks
        if not is_inside or self._kept_back or self._body.connection.is_choked:
            self._growth.pause()  # otherwise the client is not the slow side
            return False
        return self._growth.is_too_slow(number, self._arrived, now)

    # -- fed by the connection ----------------------------------------------------------------------------------------

    def adopt(self, whole: bytes, *, is_read: bool) -> None:
        """Take over the whole body, which is small. `is_read` says that it has been counted and credited."""
        self._ended = True
        self._size = self._arrived = len(whole)
        if is_read:
            self._gathered = whole
        elif whole:
            self._chunks.append(whole)

    def received(self, data: bytes, *, ended: bool, now: float) -> None:
        """`now`: the loop's time."""
        if data:
            self._last_received = now
            self._arrived += len(data)
            if self._failure is None:
                self._take(data)
            else:
                self._body.credit(len(data))
        if ended:
            self._ended = True
            self._body.connection.uploads.end(self)
            self.send_on()
        if self._wake is not None:
            self._wake_reader()

    def _wake_reader(self) -> None:
        if self._wake is None or self._wake.done():
            return
        # A reader of the whole body wakes once, at the end. A reader of messages wakes for each chunk.
        if self._ended or self._reader is not None or self._failure is not None:
            self._wake.set_result(None)

    def _take(self, data: bytes) -> None:
        if self._chunks:
            keep(self._chunks, data)
        else:
            self._chunks.append(data)
        try:
            self._resize(len(data))
        except BuffersFull as error:
            self.refuse(error)
        if self._failure is not None:
            if self._scanner is not None:
                self._body.credit(len(data))
        elif self._scanner is not None:
            self._scan(data)

    def _resize(self, change: int) -> None:
        """Change the size that the buffers count. Raises BuffersFull."""
        self._size += change
        self._body.connection.uploads.grow(self, change)
        self._held.become(max(0, self._size - self._body.connection.buffers.covered))

    def _scan(self, data: bytes | bytearray, *, is_credited: bool = False) -> None:
        """Check a chunk of a body that is read whole, and let the client send as much again, unless it may already."""
        assert self._scanner is not None
        if not is_credited:
            self._credit(len(data))
        if self._failure is not None:
            return
        limit = self._body.route.limits.max_buffered
        if self._arrived > limit:
            self._failure = MessageTooLarge(
                f"the request is larger than max_buffered ({limit} bytes), the most that is"
                " gathered for a target that takes its input whole"
            )
            return
        try:
            self._scanner.feed(bytes(data))
        except RpcError as error:
            self._failure = error

    # -- read by the handler ------------------------------------------------------------------------------------------

    async def arrival(self, of: Arrival) -> None:
        """See Call.arrival."""
        if self._reader is None:
            self._reader = EnvelopeReader(self._body.route.limits.max_request)
        while not self._has_arrived(of, self._reader):
            if of == "message" and self._chunks:
                self._feed(self._reader)
                continue
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return
            await self._more()

    def _has_arrived(self, of: Arrival, reader: EnvelopeReader) -> bool:
        if of == "bytes":
            return bool(self._arrived)
        return of == "message" and reader.has_envelope

    def count_as_upload(self, is_upload: bool) -> None:  # noqa: FBT001 - the only argument
        """Say whether the request is one that must arrive whole, and so shares the buffers with the others."""
        if self._ended:
            return
        uploads = self._body.connection.uploads
        uploads.end(self)
        account = self._body.account
        assert account is not None, "the call is over"
        uploads.begin(self, account.held if is_upload else 0)

    async def read_all(self) -> bytes:
        """See Call.read_all."""
        if self._gathered is not None:
            return self._gathered
        self._scanner = EnvelopeScanner(self._body.route.limits.max_request)
        begun = b"" if self._reader is None else self._reader.take_rest()
        self._reader = None
        if begun:
            self._chunks.appendleft(begun)
        for at, chunk in enumerate(self._chunks):
            self._scan(chunk, is_credited=bool(begun) and not at)
        if not self._ended and self._failure is None:
            self._watch_silence()
            await self._more()
        if self._failure is not None:
            raise self._failure
        self._scanner.finish()
        self._body.messages = self._scanner.count
        if self._scanner.has_compressed:
            _refuse_unnamed_compression(self._body.metadata)
        self._gathered = bytes(self._chunks[0]) if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return self._gathered

    async def read_envelope(self) -> bytes | None:
        """See Call.read_envelope."""
        if self._reader is None:
            self._reader = EnvelopeReader(self._body.route.limits.max_request)
        while True:
            found = self._reader.next_envelope()
            if found is not None:
                self._body.messages += 1
                self._resize(-len(found))
                return found
            if self._chunks:
                self._feed(self._reader)
                continue
            if self._failure is not None:
                raise self._failure
            if self._ended:
                self._reader.finish()
                return None
            await self._more()

    def _feed(self, reader: EnvelopeReader) -> None:
        chunk = self._chunks.popleft()
        self._credit(len(chunk))
        reader.feed(bytes(chunk))

    def unread(self, envelopes: Sequence[bytes]) -> None:
        """See Call.unread."""
        assert self._reader is not None, "nothing has been read"
        self._resize(sum(map(len, envelopes)))
        self._reader.put_back(envelopes)
        self._body.messages -= len(envelopes)

    async def _more(self) -> None:
        self._wake = self._body.connection.loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _watch_silence(self) -> None:
        """Rule 12: the client sent a message and waits for an answer. The answer can only come after its half-close."""
        allowed = self._body.route.limits.half_close
        if allowed is not None:
            loop = self._body.connection.loop
            since = self._last_received or loop.time()  # the silence is measured from the first message
            self._silence = loop.call_at(since + allowed, self._silent, allowed)

    def _silent(self, allowed: float) -> None:
        self._silence = None
        if self._wake is None or self._wake.done():
            return
        quiet_since = self._last_received
        if not quiet_since or self._body.connection.loop.time() - quiet_since < allowed:
            self._watch_silence()
            return
        self._failure = FullDuplexNeeded(
            f"full duplex needs a grpc:// target or `duplex`: {self._body.route.name} takes its input whole, and the"
            f" client sent a message but did not end its side within {allowed:g} s (half_close)"
        )
        self._wake_reader()


class _Growth:
    """Finds a message that grows too slowly."""

    __slots__ = ("_mark",)

    def __init__(self) -> None:
        self._mark: tuple[int, int, float] | None = None
        """The unfinished message: its number, the bytes that had arrived when it was first seen, and the time."""

    def pause(self) -> None:
        """Begin anew: no message is unfinished, or the client is not the slow side."""
        self._mark = None

    def is_too_slow(self, number: int, arrived: int, now: float) -> bool:
        """Whether the message of this number, which is unfinished, grows by less than GROWTH in each GROWTH_TIME."""
        mark = self._mark
        if mark is None or mark[0] != number:
            self._mark = (number, arrived, now)
            return False
        _, before, since = mark
        return arrived - before < int((now - since) // GROWTH_TIME) * GROWTH


def _refuse_unnamed_compression(metadata: Metadata) -> None:
    # compression.md: a compressed message under no or identity encoding is an error of the sender.
    if (value_of(metadata, "grpc-encoding") or IDENTITY) == IDENTITY:
        raise MalformedRequest("a message has the compressed flag but the call names no grpc-encoding")
