from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from bridge.proxy.admit import admit
from bridge.proxy.grpc_target import GrpcTarget, request_metadata
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.errors import Unreachable
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, ResponseEvent, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status, StatusCode
from tests.support.fakes import FakeClock, RecordingCall

HELLO = b"\0\0\0\0\5hello"


class FakeUpstream:
    """A server that echoes, or ends before the first message."""

    def __init__(
        self,
        *,
        metadata: Metadata = (),
        end: Trailers = OK_TRAILERS,
        answers: int = 1,
        is_reachable: bool = True,
    ) -> None:
        self._metadata = metadata
        self._end = end
        self._answers = answers
        self._is_reachable = is_reachable
        self.sent: list[bytes] = []
        self.timeout: float | None = None
        self.user_agent = ""
        self.is_half_closed = False
        self.finished = 0

    def start(
        self, path: str, metadata: Metadata, *, timeout: float | None, user_agent: str = ""
    ) -> FakeUpstream:
        self.timeout, self.user_agent = timeout, user_agent
        return self

    async def connect(self) -> None:
        if not self._is_reachable:
            raise Unreachable("nobody there")

    async def send(self, message: bytes) -> bool:
        self.sent.append(message)
        return True

    async def half_close(self) -> None:
        self.is_half_closed = True

    async def initial_metadata(self) -> Metadata:
        return self._metadata

    async def receive(self) -> bytes | None:
        self._answers -= 1
        return b"hello" if self._answers >= 0 else None

    async def end(self) -> Trailers:
        return self._end

    def finish(self) -> None:
        self.finished += 1


async def served(upstream: FakeUpstream, call: RecordingCall) -> None:
    clock = FakeClock()
    await GrpcTarget(upstream, clock=clock, headers={}).handle(call)


async def test_headers_go_ahead_of_the_first_message() -> None:
    """With metadata or without."""
    plain, with_metadata = RecordingCall(body=HELLO), RecordingCall(body=HELLO)
    await served(FakeUpstream(), plain)
    await served(FakeUpstream(metadata=(("a", "1"),)), with_metadata)

    assert [EMPTY_HEADERS, Message(HELLO), OK_TRAILERS] == plain.events
    assert [Headers((("a", "1"),)), Message(HELLO), OK_TRAILERS] == with_metadata.events


async def test_an_end_without_metadata_and_message_is_trailers_only() -> None:
    end = Trailers(Status(StatusCode.NOT_FOUND, "no"))
    call = RecordingCall(body=HELLO)
    await served(FakeUpstream(answers=0, end=end), call)

    assert [end] == call.events


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
        GrpcTarget(FakeUpstream(), clock=FakeClock(), headers={}).handle,
        target=target,
        max_concurrency=1,
        buffers=Buffers(1 << 20),
        gathers=False,
        clock=FakeClock(),
    )
    await handler(Watched(body=HELLO))
    await asyncio.sleep(0)

    assert [0] == in_flight


async def test_a_full_window_is_waited_for() -> None:
    call = RecordingCall(body=HELLO, window=1)
    await served(FakeUpstream(answers=3), call)

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
    call = RecordingCall(
        peer=Peer("10.0.0.9", certificate), metadata=(("x-forwarded-client-cert", "evil"),)
    )
    seen = dict(request_metadata(call, {}))

    assert 'Cert="-----PEM%0A";Subject="CN=\\"a\\""' == seen["x-forwarded-client-cert"]
    assert "10.0.0.9" == seen["x-forwarded-for"]
