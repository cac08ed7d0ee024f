from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from bridge.layers.admit import admit
from bridge.layers.gate import Gate
from bridge.rpc.buffers import Account, Buffers
from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import NotProcessed, RpcError, Unreachable, UnsupportedCompression
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, ResponseEvent, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status, StatusCode
from bridge.targets.grpc_target import MAX_REPEATED, GrpcTarget, request_metadata, with_headers
from tests.support.fakes import FakeClock, RecordingCall

HELLO = b"\0\0\0\0\5hello"


class FakeUpstream:
    """A server that gives these answers, a list of events at a time, or an error in their place."""

    def __init__(self, *answers: list[ResponseEvent] | RpcError, is_reachable: bool = True) -> None:
        self._answers = list(answers) or [[EMPTY_HEADERS, Message(HELLO), OK_TRAILERS]]
        self._is_reachable = is_reachable
        self.sent: list[bytes] = []
        self.timeout: float | None = None
        self.user_agent = ""
        self.request_id = ""
        self.is_half_closed = False
        self.finished = 0

    def start(
        self,
        path: str,
        metadata: Metadata,
        *,
        account: Account,
        timeout: float | None,
        user_agent: str = "",
    ) -> FakeUpstream:
        self.timeout, self.user_agent = timeout, user_agent
        return self

    async def connect(self) -> None:
        if not self._is_reachable:
            raise Unreachable("nobody there")

    async def send(self, envelope: bytes) -> bool:
        self.sent.append(envelope)
        return True

    def half_close(self) -> None:
        self.is_half_closed = True

    async def receive(self) -> list[ResponseEvent]:
        await asyncio.sleep(0)  # the request is sent meanwhile
        answer = self._answers.pop(0)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def failed(self, error: BaseException) -> None:
        self._answers = [error] if isinstance(error, RpcError) else []

    def finish(self) -> None:
        self.finished += 1


async def served(upstream: FakeUpstream, call: RecordingCall) -> None:
    clock = FakeClock()
    await GrpcTarget(upstream, clock=clock, metadata_of=with_headers({})).handle(call)


@pytest.mark.parametrize(
    "answers",
    [
        [[EMPTY_HEADERS, Message(HELLO), OK_TRAILERS]],
        [[EMPTY_HEADERS], [Message(HELLO)], [OK_TRAILERS]],
        [[Headers((("a", "1"),)), Message(HELLO)], [Message(HELLO), OK_TRAILERS]],
        [[Trailers(Status(StatusCode.NOT_FOUND, "no"))]],
    ],
)
async def test_events_pass_as_they_come(answers: list[list[ResponseEvent]]) -> None:
    """Together or one by one; a lone end stays trailers-only."""
    call = RecordingCall(body=HELLO)
    upstream = FakeUpstream(*answers)
    await served(upstream, call)

    assert [event for answer in answers for event in answer] == call.events
    assert [HELLO] == upstream.sent
    assert upstream.is_half_closed


async def test_what_the_server_has_not_begun_is_given_back() -> None:
    """The same call, run again, sends the same messages."""
    call = RecordingCall(body=2 * HELLO)
    with pytest.raises(NotProcessed) as error:
        await served(FakeUpstream(NotProcessed("not yet")), call)
    again = FakeUpstream()
    await served(again, call)

    assert error.value.is_transient
    assert [HELLO, HELLO] == again.sent
    assert 2 == call.messages_received


async def test_a_call_that_has_sent_much_cannot_be_repeated() -> None:
    call = RecordingCall(body=envelope(bytes(MAX_REPEATED)))
    with pytest.raises(NotProcessed) as error:
        await served(FakeUpstream(NotProcessed("not yet")), call)

    assert not error.value.is_transient
    assert not error.value.may_have_run


async def test_a_call_that_was_answered_is_not_repeated() -> None:
    call = RecordingCall(body=HELLO)
    with pytest.raises(NotProcessed) as error:
        await served(FakeUpstream([EMPTY_HEADERS], NotProcessed("a lie")), call)

    assert not error.value.is_transient


async def test_an_unknown_encoding_is_refused_whether_it_is_used_or_not() -> None:
    """Before the server hears of the call; the refusal lists what is known."""
    upstream = FakeUpstream()
    call = RecordingCall(body=HELLO, metadata=(("grpc-encoding", "foo"),))
    with pytest.raises(UnsupportedCompression) as error:
        await served(upstream, call)

    assert StatusCode.UNIMPLEMENTED is error.value.code
    assert (("grpc-accept-encoding", "identity,deflate,gzip"),) == error.value.trailing
    assert [] == upstream.sent


async def test_nothing_is_read_before_a_connection_stands() -> None:
    """So the call can be run again."""
    upstream, call = FakeUpstream(is_reachable=False), RecordingCall(body=HELLO)
    with pytest.raises(Unreachable):
        await served(upstream, call)

    assert 0 == call.messages_received
    assert [] == call.events
    assert 1 == upstream.finished


async def test_what_is_left_of_the_deadline_goes_up() -> None:
    upstream = FakeUpstream()
    call = RecordingCall(deadline=FakeClock().now + 3, metadata=(("user-agent", "me/1"),))
    await served(upstream, call)

    assert 3 == upstream.timeout
    assert "me/1" == upstream.user_agent


async def test_the_place_is_free_when_the_client_has_the_end() -> None:
    """Its next call may come at once, on the stream that the end has set free."""
    target = TargetFigures("t")
    in_flight: list[int] = []

    class Watched(RecordingCall):
        def send(self, event: ResponseEvent) -> bool:
            if isinstance(event, Trailers):
                # The earliest that the client's next bytes can be looked at.
                asyncio.get_running_loop().call_soon(lambda: in_flight.append(target.in_flight))
            return super().send(event)

    handler = admit(
        GrpcTarget(FakeUpstream(), clock=FakeClock(), metadata_of=with_headers({})).handle,
        target=target,
        gate=Gate(clock=FakeClock(), learns=False),
        max_concurrency=1,
        queue=None,
        buffers=Buffers(1 << 20),
        gathers=False,
        clock=FakeClock(),
    )
    await handler(Watched(body=HELLO))
    await asyncio.sleep(0)

    assert [0] == in_flight


async def test_a_full_window_is_waited_for() -> None:
    call = RecordingCall(body=HELLO, window=1)
    events: list[list[ResponseEvent]] = [
        [EMPTY_HEADERS, Message(HELLO)],
        [Message(HELLO), Message(HELLO)],
        [OK_TRAILERS],
    ]
    await served(FakeUpstream(*events), call)

    assert 3 == len(call.messages)
    assert call.waits >= 2


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((("x-a", "1"), ("x-a", "2")), {"x-a": "1,2"}),
        ((("user-agent", "x"), ("grpc-encoding", "gzip"), ("host", "h")), {}),
        ((("x-amz-date", "1"), ("x-amzn-trace-id", "t")), {"x-amzn-trace-id": "t"}),
        ((("no!name", "1"),), {}),
        ((("x-own", "client"),), {}),
    ],
)
def test_what_goes_up(sent: Metadata, expected: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for name, value in request_metadata(RecordingCall(metadata=sent), {"x-own": "o"}):
        seen[name] = f"{seen[name]},{value}" if name in seen else value
    ours = {"x-own": "o", "x-forwarded-for": "127.0.0.1", "x-forwarded-host": "localhost:50051"}

    assert {**expected, **ours} == seen


def test_a_verified_certificate_goes_up() -> None:
    """As Envoy writes it; a client's own word for it does not."""
    certificate = ClientCertificate("-----PEM\n", 'CN="a"', "CN=ca", "1", "", "")
    call = RecordingCall(peer=Peer("10.0.0.9", certificate), metadata=(("x-forwarded-client-cert", "evil"),))
    seen = dict(request_metadata(call, {}))

    assert 'Cert="-----PEM%0A";Subject="CN=\\"a\\""' == seen["x-forwarded-client-cert"]
    assert "10.0.0.9" == seen["x-forwarded-for"]
