"""Native gRPC targets against real grpcio servers."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from bridge.carriers.grpc.carrier import GrpcCarrier
from bridge.config.schema import TargetTls
from bridge.config.target import GrpcTargetSpec as Server
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.call import Handler
from bridge.rpc.envelope import COMPRESSED, envelope
from bridge.rpc.errors import (
    CertificateRefused,
    ConnectionLost,
    DeadlineExceeded,
    MalformedRequest,
    MessageTooLarge,
    ReplyTooLarge,
    RpcError,
    Unreachable,
    UnsupportedCompression,
)
from bridge.rpc.events import EMPTY_HEADERS, Headers, Message, Trailers
from bridge.rpc.hop import USER_AGENT
from bridge.rpc.limits import Limits
from bridge.rpc.status import OK, Status, StatusCode
from bridge.targets.grpc_target import GrpcTarget, with_headers
from tests.support.fakes import FakeClock, RecordingCall
from tests.support.grpc_server import DETAILS, RawServer, raw_server
from tests.support.http2_server import frame_server
from tests.support.served import StreamedCall
from tests.support.stream_server import stream_server

TRAILING = (("b", "1"), ("b", "2"), ("t-bin", "AP8"))


@asynccontextmanager
async def target_of(
    address: str,
    *,
    tls: TargetTls | None = None,
    limits: Limits | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Handler]:
    host, _, port = address.rpartition(":")
    where = (
        UnixAddress(Path(address.removeprefix("unix:"))) if address.startswith("unix:") else TcpAddress(host, int(port))
    )
    carrier = GrpcCarrier(Server(where, tls=tls is not None), tls=tls, limits=limits)
    try:
        yield GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers(headers or {})).handle
    finally:
        await carrier.close()


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server() as running:
        yield running


@pytest.fixture
async def target(server: RawServer) -> AsyncIterator[Handler]:
    async with target_of(server.address) as handler:
        yield handler


def recorded(method: str, *messages: bytes, **more: Any) -> RecordingCall:
    return RecordingCall(f"/test.Raw/{method}", body=b"".join(map(envelope, messages)), **more)


async def outcome(handler: Handler, call: RecordingCall) -> RpcError:
    with pytest.raises(RpcError) as found:
        await handler(call)
    return found.value


# -- what passes -------------------------------------------------------------------------------------------------------


async def test_everything_of_a_reply_passes(target: Handler) -> None:
    """Initial metadata, messages, status and trailing metadata; -bin values as base64, repeats in order."""
    call = recorded("echo", b"one", b"", b"three")
    await target(call)

    assert [
        Headers((("a", "1"), ("a", "2"), ("i-bin", "AAE"))),
        Message(envelope(b"one")),
        Message(envelope(b"")),
        Message(envelope(b"three")),
        Trailers(OK, TRAILING),
    ] == call.events


async def test_a_refusal_stays_trailers_only(target: Handler) -> None:
    """Code, message, details and metadata are unchanged, and nothing says HEADERS: a client may still repeat
    the call.
    """
    call = recorded("fail", b"x")
    await target(call)

    assert [Trailers(Status(StatusCode.UNAVAILABLE, "näh: 100%", DETAILS), TRAILING)] == call.events


async def test_a_failure_after_messages_keeps_them(target: Handler) -> None:
    call = recorded("half")
    await target(call)

    assert [
        EMPTY_HEADERS,
        Message(envelope(b"one")),
        Message(envelope(b"two")),
        Trailers(Status(StatusCode.DATA_LOSS, "lost"), TRAILING),
    ] == call.events


async def test_an_unknown_method_is_the_servers_answer(target: Handler) -> None:
    call = recorded("nothing")
    await target(call)

    assert [Trailers(Status(StatusCode.UNIMPLEMENTED, "Method not found!"))] == call.events


async def test_full_duplex(target: Handler) -> None:
    """Each answer comes before the next request is sent."""
    call = StreamedCall("/test.Raw/echo")
    task = call.serve(target)
    for count, message in enumerate((b"a", b"b", b"c"), start=1):
        await call.push(message)
        assert [b"a", b"b", b"c"][:count] == await call.messages(count)
    await call.end()
    await task

    assert call.status == OK


async def test_headers_do_not_wait_for_a_message(target: Handler, server: RawServer) -> None:
    """HEADERS without metadata pass although nothing follows them; a client that goes away cancels the call there."""
    call = StreamedCall("/test.Raw/silent")
    task = call.serve(target)
    async with asyncio.timeout(5):
        while not call.events:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait((task,))
    async with asyncio.timeout(5):
        await server.cancelled.wait()

    assert [EMPTY_HEADERS] == call.events


async def test_a_server_may_end_before_the_client(target: Handler) -> None:
    """What the client still sends disturbs neither message nor status, whenever it meets the end."""
    for _ in range(30):
        call = recorded("early", *[bytes(5000)] * 20)
        await target(call)

        assert [EMPTY_HEADERS, Message(envelope(b"enough")), Trailers(OK)] == call.events


async def test_the_clients_window_holds_the_server_back(target: Handler, server: RawServer) -> None:
    """A client that does not read: the server has sent what its window allows, far from all."""
    call = StreamedCall("/test.Raw/flood")
    call.is_window_open = False
    task = call.serve(target)
    await call.messages(1)
    last = -1
    while server.sent != last:
        last = server.sent
        await asyncio.sleep(0.05)

    assert len(await call.settled()) == 1
    assert last * (1 << 16) < 2 << 20
    task.cancel()
    await asyncio.wait((task,))


# -- metadata up -------------------------------------------------------------------------------------------------------


async def test_metadata_up(server: RawServer) -> None:
    """Repeats keep their order, -bin values are bytes; the bridge adds who called and whom it took us for."""
    async with target_of(server.address, headers={"x-key": "k"}) as target:
        call = recorded(
            "echo",
            authority="api.example:443",
            metadata=(
                ("user-agent", "grpc-go/1.60"),
                ("x-a", "1"),
                ("x-a", "2"),
                ("x-bin", "AAE,Ag"),
                ("x-key", "the client's own"),
                ("grpc-accept-encoding", "zstd"),
                ("x-amz-security-token", "t"),
                ("x-amzn-trace-id", "Root=1"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-host", "evil"),
                ("x-forwarded-client-cert", "evil"),
                ("authorization", "Bearer t"),
            ),
        )
        await target(call)
    seen = server.metadata[0]
    of = {name: [value for key, value in seen if key == name] for name, _ in seen}

    assert ["1", "2"] == of["x-a"]
    assert [b"\x00\x01", b"\x02"] == of["x-bin"]
    assert ["k"] == of["x-key"]
    assert ["Bearer t"] == of["authorization"]
    assert ["10.0.0.1, 127.0.0.1"] == of["x-forwarded-for"]
    assert ["api.example:443"] == of["x-forwarded-host"]
    assert ["Root=1"] == of["x-amzn-trace-id"]
    assert ["grpc-go/1.60 grpc-lambda-bridge"] == of["user-agent"]
    assert not {"x-amz-security-token", "x-forwarded-client-cert", "grpc-encoding"} & of.keys()


async def test_every_clients_user_agent_goes_up(target: Handler, server: RawServer) -> None:
    """Before ours, however many kinds of clients there are; a long one is cut."""
    names = [f"client/{number}" for number in range(10)]
    for name in (*names, "x" * 1000, ""):
        await target(recorded("echo", metadata=(("user-agent", name),)))
    seen = [dict(metadata)["user-agent"] for metadata in server.metadata]

    assert [f"{name} {USER_AGENT}" for name in (*names, "x" * 256)] == seen[:-1]
    assert USER_AGENT == seen[-1]


async def test_the_deadline_goes_up(target: Handler, server: RawServer) -> None:
    """The server learns how much time is left, and never more than that."""
    await target(recorded("echo", deadline=FakeClock().now + 30))

    assert server.remaining[0] is not None
    assert 28 < server.remaining[0] <= 30


# -- compression -------------------------------------------------------------------------------------------------------


async def test_compressed_requests_arrive_inflated(target: Handler, server: RawServer) -> None:
    body = envelope(gzip.compress(b"hello"), flags=COMPRESSED) + envelope(b"plain")
    call = RecordingCall("/test.Raw/echo", body=body, metadata=(("grpc-encoding", "gzip"),))
    await target(call)

    assert [b"hello", b"plain"] == server.received
    assert [b"hello", b"plain"] == call.messages


async def test_compressed_responses_leave_inflated() -> None:
    """A server that compresses: its messages and its choice of encoding stop at the bridge."""
    async with (
        raw_server(compression=grpc.Compression.Gzip) as server,
        target_of(server.address) as target,
    ):
        call = recorded("echo", b"x" * 5000)
        await target(call)

    assert [b"x" * 5000] == call.messages
    assert "grpc-encoding" not in dict(call.initial_metadata)


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("zstd", b"x", UnsupportedCompression),
        ("identity", b"x", MalformedRequest),
        ("gzip", b"not gzip", MalformedRequest),
        ("gzip", gzip.compress(bytes(5000), mtime=0), MessageTooLarge),
    ],
)
async def test_messages_that_cannot_be_inflated_end_the_call(
    target: Handler, encoding: str, data: bytes, expected: type[RpcError]
) -> None:
    call = RecordingCall(
        "/test.Raw/echo",
        body=envelope(data, flags=COMPRESSED),
        metadata=(("grpc-encoding", encoding),),
        limits=Limits(max_request=1000),
    )

    assert isinstance(await outcome(target, call), expected)


@pytest.mark.parametrize("content_type", ["application/grpc+json", "application/grpc+thrift; v=1"])
async def test_other_message_formats_are_refused(target: Handler, content_type: str) -> None:
    """They would be taken for protobuf."""
    error = await outcome(target, recorded("echo", content_type=content_type))

    assert StatusCode.UNIMPLEMENTED is error.code
    assert not error.may_have_run


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;v=1"])
async def test_protobuf_by_any_name_passes(target: Handler, content_type: str) -> None:
    call = recorded("echo", content_type=content_type)
    await target(call)

    assert call.status == OK


# -- failures ----------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_nobody_listens() -> None:
    """The call can be repeated: nothing of it has been read. It succeeds when a server has come."""
    held = socket.socket()  # bound and not listening, so that nobody else comes to listen there
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    async with target_of(f"127.0.0.1:{port}") as target:
        call = recorded("echo", b"one")
        with held:
            error = await outcome(target, call)
        assert isinstance(error, Unreachable)
        assert f"cannot connect to 127.0.0.1:{port} (ECONNREFUSED)" == str(error)
        assert 0 == call.messages_received
        async with raw_server(port=port), asyncio.timeout(10):
            while call.status is None:
                try:
                    await target(call)
                except Unreachable:
                    await asyncio.sleep(0.05)

    assert [b"one"] == call.messages


async def test_a_name_that_nobody_knows() -> None:
    async with target_of("no-such-host.invalid:1") as target:
        assert isinstance(await outcome(target, recorded("echo")), Unreachable)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The address of an HTTP/2 server that answers a call with these frames, or hangs up if there are none."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes.fromhex("000000040000000000"))  # SETTINGS
        await reader.readuntil(b"/test.Raw")
        writer.write(answer)
        if answer:
            await asyncio.Event().wait()

    async with stream_server(accept) as server:
        yield server.address


async def test_a_connection_lost_under_way() -> None:
    """It may have run: it is not repeated."""
    async with answering(b"") as address, target_of(address) as target:
        error = await outcome(target, recorded("echo", b"x"))

    assert isinstance(error, ConnectionLost)
    assert error.may_have_run


async def test_a_response_message_above_max_response(server: RawServer) -> None:
    async with target_of(server.address, limits=Limits(max_response=100)) as target:
        error = await outcome(target, recorded("echo", bytes(101)))

    assert isinstance(error, ReplyTooLarge)
    assert f"a response message of 101 bytes from grpc://{server.address} is above max_response (100 bytes)" == str(
        error
    )


async def test_the_deadline_ends_the_call() -> None:
    """Even if nothing else does: the carrier keeps it too, and the server learns that nobody waits any more."""
    async with (
        frame_server(lambda _connection, _stream: None) as silent,
        target_of(silent.address) as target,
    ):
        error = await outcome(target, recorded("silent", deadline=FakeClock().now + 0.05))
        async with asyncio.timeout(5):
            while not silent.connections[0].resets:
                await asyncio.sleep(0.001)

    assert isinstance(error, DeadlineExceeded)
    assert [(1, 8)] == silent.connections[0].resets


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (b"429", StatusCode.RESOURCE_EXHAUSTED),
        (b"502", StatusCode.UNAVAILABLE),
        (b"404", StatusCode.UNIMPLEMENTED),
    ],
)
async def test_http_errors(status: bytes, expected: StatusCode) -> None:
    """Of a load balancer: the gRPC mapping, and `throttled_as` for 429. It is not repeated."""

    # RFC 7541 6.2.2: the name is entry 8, `:status`, the value three letters; END_STREAM and END_HEADERS on stream 1.
    block = b"\x08\x03" + status
    frame = len(block).to_bytes(3, "big") + bytes.fromhex("010500000001") + block
    limits = Limits(throttled_as=StatusCode.RESOURCE_EXHAUSTED)
    async with answering(frame) as address, target_of(address, limits=limits) as target:
        error = await outcome(target, recorded("echo", b"x"))

    assert expected is error.code
    assert f"grpc://{address} answered HTTP {status.decode()} and no gRPC status" == str(error)
    assert error.may_have_run


async def test_a_request_message_above_max_request(target: Handler) -> None:
    """It ends the call, though the server waits for it."""
    error = await outcome(target, recorded("echo", bytes(11), limits=Limits(max_request=10)))

    assert isinstance(error, MessageTooLarge)


# -- Unix sockets and TLS ----------------------------------------------------------------------------------------------


async def test_unix_socket(tmp_path: Path) -> None:
    async with (
        raw_server(socket=tmp_path / "s") as server,
        target_of(server.address) as target,
    ):
        call = recorded("echo", b"x")
        await target(call)

    assert [b"x"] == call.messages


class Certificates:
    """An authority, a server's certificate for `users.test`, a client's, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.server = authority.issue_cert("users.test")
        client = authority.issue_cert("client.test")
        self.ca, self.cert, self.key = folder / "ca", folder / "cert", folder / "key"
        authority.cert_pem.write_to_path(str(self.ca))
        client.cert_chain_pems[0].write_to_path(str(self.cert))
        client.private_key_pem.write_to_path(str(self.key))

    @property
    def credentials(self) -> grpc.ServerCredentials:
        pair = (self.server.private_key_pem.bytes(), self.server.cert_chain_pems[0].bytes())
        return grpc.ssl_server_credentials([pair], root_certificates=self.ca.read_bytes(), require_client_auth=True)


async def test_mutual_tls_under_another_name(tmp_path: Path) -> None:
    """`tls`: authority, our certificate, and the name that theirs must bear."""
    made = Certificates(tmp_path)
    tls = TargetTls(ca=made.ca, cert=made.cert, key=made.key, server_name="users.test")
    async with (
        raw_server(credentials=made.credentials) as server,
        target_of(server.address, tls=tls) as target,
    ):
        call = recorded("echo", b"x")
        await target(call)

    assert [b"x"] == call.messages


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_certificates_that_do_not_verify_are_not_tried_again(tmp_path: Path, wrong: str) -> None:
    made = Certificates(tmp_path)
    tls = TargetTls(
        ca=made.ca if wrong == "name" else None,
        cert=made.cert,
        key=made.key,
        server_name="other.test" if wrong == "name" else "users.test",
    )
    async with (
        raw_server(credentials=made.credentials) as server,
        target_of(server.address, tls=tls) as target,
    ):
        error = await outcome(target, recorded("echo", b"x"))

    assert isinstance(error, CertificateRefused)
    assert not error.is_transient


# -- life --------------------------------------------------------------------------------------------------------------


async def test_dry_run_connects(server: RawServer) -> None:
    host, _, port = server.address.rpartition(":")
    carrier = GrpcCarrier(Server(TcpAddress(host, int(port))))
    try:
        await carrier.dry_run()
    finally:
        await carrier.close()


async def test_dry_run_tells_that_nobody_listens() -> None:
    carrier = GrpcCarrier(Server(TcpAddress("127.0.0.1", _free_port())))
    try:
        with pytest.raises(Unreachable):
            await carrier.dry_run()
    finally:
        await carrier.close()


async def test_a_retired_carrier_lets_its_calls_end(server: RawServer) -> None:
    """However long they take: a reload ends no stream."""
    host, _, port = server.address.rpartition(":")
    carrier = GrpcCarrier(Server(TcpAddress(host, int(port))))
    call = StreamedCall("/test.Raw/echo")
    task = call.serve(GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle)
    await call.push(b"a")
    await call.messages(1)
    carrier.retire()
    await call.push(b"b")
    await call.messages(2)
    await call.end()
    await task
    late = recorded("echo", b"late")
    await GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle(late)

    assert call.status == OK
    assert late.status == OK
    await carrier.close()
