"""Stand-ins for the ends of the bridge: a clock that is told the time, a carrier with a script, a call that records."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise

from bridge.aws.invoke import InvokeReply
from bridge.aws.sigv4 import HeaderPairs
from bridge.codecs.codec import ReplyOptions
from bridge.rpc.buffers import Account, Buffers, OpenAccount
from bridge.rpc.call import Arrival, Call, Peer, Route
from bridge.rpc.envelope import EnvelopeReader, EnvelopeScanner
from bridge.rpc.errors import RpcError
from bridge.rpc.events import NEXT_PHASE, Headers, Message, Phase, ResponseEvent, Trailers
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.rpc.status import Status


class FakeClock:
    """A clock that stands still until it is advanced. Calling it reads it, in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeCarrier:
    """Answers from a script, in order, and keeps the payloads it was given. An error in the script is raised."""

    def __init__(
        self,
        *script: InvokeReply | RpcError,
        clock: FakeClock | None = None,
        takes: float = 0.0,
    ) -> None:
        """`takes`: seconds by which each invocation advances the clock."""
        self._script = list(script)
        self._clock = clock
        self._takes = takes
        self.payloads: list[bytes] = []
        self.headers: list[dict[str, str]] = []

    async def invoke(
        self,
        payload: bytes,
        *,
        headers: HeaderPairs = (),
        account: Account | None = None,
    ) -> InvokeReply:
        self.payloads.append(payload)
        self.headers.append(dict(headers))
        if self._clock is not None:
            self._clock.advance(self._takes)
        assert self._script, "the carrier was asked more often than its script says"
        answer = self._script.pop(0)
        if isinstance(answer, RpcError):
            raise answer
        return answer


async def _nobody(call: Call) -> None:
    raise AssertionError(f"{call.path} was served by the route's handler; the test serves it itself")


def reply_options(
    *,
    accept_encoding: str | None = None,
    max_response: int | None = None,
    message_format: str = "proto",
    account: Account | None = None,
) -> ReplyOptions:
    """Of a call of the method `/S/M`."""
    metadata = EMPTY if accept_encoding is None else (("grpc-accept-encoding", accept_encoding),)
    return ReplyOptions("/S/M", message_format, metadata, max_response, account)


class RecordingCall(OpenAccount):
    """A whole call whose client has ended its side. What is sent on it is checked against the grammar and kept in
    `events`.
    """

    def __init__(
        self,
        path: str = "/test.v1.Echo/Say",
        *,
        body: bytes = b"",
        metadata: Metadata = EMPTY,
        content_type: str = "application/grpc",
        authority: str = "localhost:50051",
        peer: Peer | None = None,
        deadline: float | None = None,
        limits: Limits | None = None,
        window: int | None = None,
        read_error: RpcError | None = None,
        buffers: Buffers | None = None,
    ) -> None:
        """`window`: messages that fit until `writable()` is awaited; None: all. `read_error`: why the body cannot be
        read.
        """
        super().__init__(buffers or Buffers(1 << 40))
        service, _, method = path[1:].rpartition("/")
        self.path = path
        self.metadata = metadata
        self.content_type = content_type
        self.authority = authority
        self.peer = peer or Peer("127.0.0.1")
        self.connection: Hashable = self
        self.has_ended = True
        self.deadline = deadline
        self.started = 0.0
        self.route = Route(service, _nobody, MethodFigures(service, method), limits or Limits())
        self.phase = Phase.NEW
        self.status: Status | None = None
        self.cause: RpcError | None = None
        self.messages_received = self.messages_sent = 0
        self.bytes_received = len(body)
        self.bytes_sent = 0
        self.attempts = self.throttles = 0
        self.upstream_seconds = self.queued_seconds = 0.0
        self.request_id = ""
        self.is_cold_start = False
        self.tenant = self.execution_name = ""
        self.invoke_headers: tuple[tuple[str, str], ...] = ()

        self.events: list[ResponseEvent] = []
        self.waits = 0
        """How often the handler waited for the client's window."""
        self._body = body
        self._window = window
        self._room = window
        self._read_error = read_error
        self._reader: EnvelopeReader | None = None

    # -- what a handler uses ------------------------------------------------------------------------------------------

    def send(self, event: ResponseEvent) -> bool:
        if self._room == 0:
            raise AssertionError("sent into a full window: await writable() first")
        self.phase = NEXT_PHASE[self.phase][type(event)]
        self.events.append(event)
        if isinstance(event, Trailers):
            self.status = event.status
        if isinstance(event, Message):
            self.messages_sent += 1
            self.bytes_sent += len(event.envelope)
            if self._room is not None:
                self._room -= 1
        return self._room != 0

    def send_all(self, events: Sequence[ResponseEvent]) -> None:
        self._room = None  # nobody waits
        for event in events:
            self.send(event)

    async def writable(self) -> None:
        self.waits += 1
        self._room = self._window
        if self.cause is not None:
            raise self.cause

    async def read_all(self) -> bytes:
        if self._read_error is not None:
            raise self._read_error
        scanner = EnvelopeScanner(self.route.limits.max_request)
        scanner.feed(self._body)
        scanner.finish()
        self.messages_received = scanner.count
        return self._body

    async def arrival(self, of: Arrival) -> None:
        return  # the request is whole

    def pass_messages(self, *, singly: bool) -> None: ...

    async def read_envelope(self) -> bytes | None:
        if self._read_error is not None:
            raise self._read_error
        if self._reader is None:
            self._reader = EnvelopeReader(self.route.limits.max_request)
            self._reader.feed(self._body)
        found = self._reader.next_envelope()
        if found is None:
            self._reader.finish()
        else:
            self.messages_received += 1
        return found

    def unread(self, envelopes: Sequence[bytes]) -> None:
        assert self._reader is not None
        self._reader.put_back(envelopes)
        self.messages_received -= len(envelopes)

    def abort(self, cause: RpcError) -> None:
        if self.cause is None and self.status is None:
            self.cause = cause

    # -- what a test reads --------------------------------------------------------------------------------------------

    @property
    def initial_metadata(self) -> Metadata:
        return next((event.metadata for event in self.events if isinstance(event, Headers)), EMPTY)

    @property
    def messages(self) -> list[bytes]:
        """The messages without their prefixes."""
        return [event.envelope[5:] for event in self.events if isinstance(event, Message)]

    @property
    def trailing_metadata(self) -> Metadata:
        return next((event.metadata for event in self.events if isinstance(event, Trailers)), EMPTY)


def in_chunks(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The bytes cut at these places; places beyond the end do nothing."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]
