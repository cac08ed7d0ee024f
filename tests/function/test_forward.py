"""forward: what a caller sees is what the server behind gives, whatever way leads to it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from lambda_fn import forward
from lambda_fn.examples import ping_pb2_grpc
from lambda_fn.examples.ping import Ping
from lambda_fn.streaming import StreamingReply
from tests.support.behaviours import ASYNC, SYNC, add
from tests.support.forwarding import forwarding
from tests.support.lambda_channel import (
    LambdaChannel,
    LambdaContextDouble,
    Outcome,
    body_of,
    frame,
    grpcio_outcome,
    http_v2_event,
    outcome_of,
    received,
    sync_server,
)
from tests.support.odd_grpc_server import Reply, odd_server

OK = grpc.StatusCode.OK
METADATA = (("x-one", "1"), ("x-one", "2, 3"), ("x-data-bin", b"\x00\x01\xff"), ("x-empty", ""))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with sync_server(lambda server: add(server, SYNC)) as found:
        yield found


@pytest.fixture(scope="module")
def remote(address: str) -> Iterator[LambdaChannel]:
    with forwarding(address) as channel:
        yield channel


@pytest.mark.parametrize("method", [*SYNC, "Unknown"])
def test_every_ending_crosses(method: str, address: str, remote: LambdaChannel) -> None:
    """Status, message, rich details, initial and trailing metadata, messages before a failure: as grpcio's client sees
    them.
    """
    path = f"/test.Test/{method}"

    direct = grpcio_outcome(address, path, metadata=METADATA)
    assert direct == remote.call(path, metadata=METADATA)


def test_request_streams_cross(remote: LambdaChannel) -> None:
    """None, one, several."""
    each = [remote.call("/test.Test/Each", sent).messages for sent in ((), (b"1",), (b"1", b"2"))]

    assert [(), (b"got 1",), (b"got 1", b"got 2")] == each


def test_the_deadline_goes_on_to_the_server() -> None:
    """What is left of it; without one, what Lambda leaves."""
    seen: list[float] = []

    def tell(request: bytes, context: Any) -> bytes:
        seen.append(context.time_remaining())
        return b""

    with (
        sync_server(lambda server: add(server, {"Tell": ("unary_unary", tell)})) as address,
        forwarding(address, context=LambdaContextDouble(remaining=90_000)) as channel,
    ):
        channel.call("/test.Test/Tell", timeout=60)
        channel.call("/test.Test/Tell")

    assert 30 < seen[0] < 60.1  # grpcio rounds
    assert 45 < seen[1] < 89.6  # with a part for the answer to leave


def test_a_call_past_its_deadline_is_cancelled_at_the_server() -> None:
    """The caller has DEADLINE_EXCEEDED in time; the servicer learns that nobody waits."""
    ended = threading.Event()

    def wait(request: bytes, context: Any) -> bytes:
        context.add_callback(ended.set)
        ended.wait(10)
        return b""

    with (
        sync_server(lambda server: add(server, {"Wait": ("unary_unary", wait)})) as address,
        forwarding(address) as channel,
    ):
        outcome = channel.call("/test.Test/Wait", timeout=0.2)
        was_told = ended.wait(5)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == outcome.code
    assert was_told


def test_a_reply_leaves_while_the_server_makes_it() -> None:
    """Where the runtime streams: the first message is there before the second is made."""
    go_on = threading.Event()

    def two(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        go_on.wait(10)
        yield b"2"

    with (
        sync_server(lambda server: add(server, {"Two": ("unary_stream", two)})) as address,
        forwarding(address) as channel,
    ):
        handler: Any = channel.server.handler
        reply = handler(
            http_v2_event("/test.Test/Two", frame(b"x")),
            LambdaContextDouble(can_stream_replies=True),
        )
        assert isinstance(reply, StreamingReply)
        chunks: Any = iter(reply.chunks)  # type: ignore[arg-type]  # plain chunks here
        first = next(chunks)
        go_on.set()
        rest = b"".join(chunks)

    assert frame(b"1") == first
    assert rest.startswith(frame(b"2"))


def test_abandoning_a_streamed_reply_cancels_the_call() -> None:
    """The runtime drops the reply: the server's call ends."""
    ended = threading.Event()

    def endless(request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(ended.set)
        while context.is_active():
            yield b"more"
            ended.wait(0.01)

    with (
        sync_server(lambda server: add(server, {"Endless": ("unary_stream", endless)})) as address,
        forwarding(address) as channel,
    ):
        handler: Any = channel.server.handler
        event = http_v2_event("/test.Test/Endless", frame(b"x"))
        reply = handler(event, LambdaContextDouble(can_stream_replies=True))
        chunks = iter(reply.chunks)
        next(chunks)
        chunks.close()

        assert ended.wait(5)


def test_a_failure_before_any_message_is_trailers_only_in_a_streamed_reply(
    remote: LambdaChannel,
) -> None:
    """Status, message and trailing metadata stand in the head."""
    handler: Any = remote.server.handler
    event = http_v2_event("/test.Test/Aborts", frame(b"x"))
    reply = handler(event, LambdaContextDouble(can_stream_replies=True))
    head, body = received(reply)

    assert b"" == body
    assert grpc.StatusCode.ABORTED == outcome_of(head, body).code


def test_a_request_that_does_not_decode_never_looks_whole_to_the_server() -> None:
    """The messages before the bad one are no complete stream: the server's call is cancelled.

    How its iterator ends says nothing: grpcio's sync server ends one quietly if it takes the reset in before the
    cancellation.
    """
    was_cancelled: list[bool] = []
    left = threading.Event()

    def gather(requests: Iterator[bytes], context: Any) -> bytes:
        cancelled = threading.Event()
        if not context.add_callback(cancelled.set):
            cancelled.set()  # before the handler began
        try:
            for _ in requests:
                pass
        finally:
            was_cancelled.append(cancelled.wait(5))
            left.set()
        return b""

    bad = frame(b"1") + frame(b"2") + frame(b"no gzip", flags=1)
    with (
        sync_server(lambda server: add(server, {"Gather": ("stream_unary", gather)})) as address,
        forwarding(address) as channel,
    ):
        event = http_v2_event("/test.Test/Gather", bad, {"grpc-encoding": "gzip"})
        outcome = channel.send(event)
        left.wait(10)

    assert grpc.StatusCode.INTERNAL == outcome.code
    assert [True] == was_cancelled


def test_headers_that_grpc_cannot_carry_stay_behind(remote: LambdaChannel) -> None:
    """Load balancers and browsers may send them; they must not fail the call."""
    outcome = remote.call("/test.Test/Echo", headers={"x!odd": "1", "x-name": "Zoë"})

    assert Outcome(OK, messages=(b"echo request",)) == outcome


def test_no_server_is_unavailable_and_says_where() -> None:
    """The address and the reason."""
    with forwarding("unix:/tmp/nobody-listens-here.sock") as channel:
        outcome = channel.call("/test.Test/Echo")

    assert grpc.StatusCode.UNAVAILABLE == outcome.code
    assert outcome.details.startswith("the gRPC server at unix:/tmp/nobody-listens-here.sock cannot be reached: ")


def test_tls_with_an_authority_of_ones_own() -> None:
    """Credentials say the authority; the name in the certificate is checked."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key, chain = (
        certificate.private_key_pem.bytes(),
        b"".join(pem.bytes() for pem in certificate.cert_chain_pems),
    )
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        add(server, {"Echo": SYNC["Echo"]})
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, chain)]))
        server.start()
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with forwarding(f"grpcs://localhost:{port}", tls=trusted) as channel:
            outcome = channel.call("/test.Test/Echo")
        with forwarding(f"grpcs://localhost:{port}") as untrusting:
            refused = untrusting.call("/test.Test/Echo")
        server.stop(None).wait()

    assert Outcome(OK, messages=(b"echo request",)) == outcome
    assert grpc.StatusCode.UNAVAILABLE == refused.code


def test_services_known_by_name_answer_json_too() -> None:
    """REST by google.api.http, and Connect in JSON; gRPC-Web as ever."""
    with (
        sync_server(lambda server: ping_pb2_grpc.add_PingServicer_to_server(Ping(), server)) as at,
        forwarding(at, services=["dev.Ping"], cors=None) as channel,
    ):
        handler: Any = channel.server.handler
        rest = http_v2_event("/v1/ping/hello", b"", {"content-type": ""})
        rest["requestContext"]["http"]["method"] = "GET"
        connect = http_v2_event("/dev.Ping/Send", b"{}", {"content-type": "application/json"})
        bodies = [
            json.loads(body_of(handler(event, LambdaContextDouble(can_stream_replies=True))))
            for event in (rest, connect)
        ]
        binary = channel.call("/dev.Ping/Send", (b"",))

    assert [{"message": "hello"}, {"message": "pong"}] == bodies
    assert OK == binary.code


def test_connect_in_protobuf_reaches_every_service(remote: LambdaChannel) -> None:
    """It needs no descriptors."""
    handler: Any = remote.server.handler
    event = http_v2_event("/test.Test/Echo", b"hi", {"content-type": "application/proto"})

    assert b"echo hi" == body_of(handler(event, None))


# -- a server object --


class Stamp(grpc.ServerInterceptor):
    """Refuses who has no token, as interceptors do."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.methods.append(handler_call_details.method)
        if ("x-token", "open") in [tuple(pair) for pair in handler_call_details.invocation_metadata]:
            return continuation(handler_call_details)

        def refuse(request: bytes, context: Any) -> bytes:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


def test_a_server_object_runs_in_the_function_with_its_interceptors(tmp_path: Path) -> None:
    """On a Unix socket whose name holds the process id."""
    stamp = Stamp()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, interceptors=[stamp])
        add(server, SYNC)
        with forwarding(f"unix:{tmp_path}/app.sock", server=server) as channel:
            is_socket = stat.S_ISSOCK((tmp_path / f"app.{os.getpid()}.sock").stat().st_mode)
            let_in = channel.call("/test.Test/Echo", metadata=[("x-token", "open")])
            refused = channel.call("/test.Test/Echo")

    assert is_socket
    assert ["/test.Test/Echo"] * 2 == stamp.methods
    assert Outcome(OK, messages=(b"echo request",)) == let_in
    assert Outcome(grpc.StatusCode.UNAUTHENTICATED, "no token") == refused


class AsyncStamp(grpc.aio.ServerInterceptor):
    def __init__(self) -> None:
        self.methods: list[str] = []

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.methods.append(handler_call_details.method)
        return await continuation(handler_call_details)


def test_an_aio_server_object_runs_on_its_own_loop(tmp_path: Path) -> None:
    """Made where no loop runs, as a function's module is; every ending as under its own clients."""
    stamp = AsyncStamp()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        server = grpc.aio.server(interceptors=[stamp])
        add(server, ASYNC)
        with forwarding(f"unix:{tmp_path}/aio.sock", server=server) as channel:
            own = f"unix:{tmp_path}/aio.{os.getpid()}.sock"
            outcomes = {
                name: (
                    grpcio_outcome(own, f"/test.Test/{name}"),
                    channel.call(f"/test.Test/{name}"),
                )
                for name in ("Echo", "Metadata", "Raises", "Aborts", "Stream", "Each")
            }
    finally:
        asyncio.set_event_loop(None)
        loop.close()

    for direct, forwarded in outcomes.values():
        assert direct == forwarded
    assert 12 == len(stamp.methods)


def test_what_is_no_server_is_refused() -> None:
    """A LambdaServer has a handler of its own."""
    with pytest.raises(TypeError, match=r"server is a str; forward takes what grpc\.server"):
        forward("unix:/tmp/x.sock", server="app:server")


def test_a_server_and_a_command_are_one_too_many() -> None:
    """Which of them would it be?"""
    with pytest.raises(ValueError, match="not both"):
        forward("unix:/tmp/x.sock", server=object(), command=["./server"])


@pytest.mark.parametrize("several", [1, 40])
def test_a_kept_connection_serves_call_after_call(several: int, remote: LambdaChannel) -> None:
    """Nothing accumulates that would end it."""
    outcomes = {remote.call("/test.Test/Echo") for _ in range(several)}

    assert {Outcome(OK, messages=(b"echo request",))} == outcomes


def test_the_first_reply_says_that_the_instance_is_new(address: str) -> None:
    """As LambdaServer's does; the bridge counts it."""
    with forwarding(address) as channel:
        channel.call("/test.Test/Echo")
        first = channel.reply["headers"]
        channel.call("/test.Test/Echo")

    assert "1" == first["x-lambda-fn-cold-start"]
    assert "x-lambda-fn-cold-start" not in channel.reply["headers"]


# -- replies that are not quite gRPC --

ODD_HEADERS = [
    ("x-data-bin", "a_b-c", "AAAA"),
    ("grpc-status-details-bin", "!", "AAAA"),
    ("grpc-server-stats-bin", "*", "AAAA"),
    ("grpc-trace-bin", "a_b", "AAAA"),
    ("grpc-encoding", "foo", "identity"),
    ("grpc-retry-pushback-ms", "abc", "5"),
    ("grpc-previous-rpc-attempts", "abc", "1"),
    ("grpc-timeout", "abc", "1S"),
    ("te", "foo", "trailers"),
]


@pytest.mark.parametrize("place", ["head", "trailers"])
@pytest.mark.parametrize(("name", "odd", "good"), ODD_HEADERS)
def test_an_odd_reply_fails_its_own_call_only(name: str, odd: str, good: str, place: str) -> None:
    """Calls before, beside and after it have a header of the same name, on the same connection."""

    def reply(path: str) -> Reply | None:
        if path == "/s.S/Waits":
            return None
        field = (name, odd if path == "/s.S/Odd" else good)
        return ([field], ()) if place == "head" else ((), [field])

    with odd_server(reply) as server, forwarding(server.address) as channel:
        pool = ThreadPoolExecutor(1)
        beside = pool.submit(channel.call, "/s.S/Waits")
        server.wait_for("/s.S/Waits")
        failed = channel.call("/s.S/Odd")
        found = [beside.result(), *(channel.call("/s.S/Fine") for _ in range(3))]
        pool.shutdown()

    assert grpc.StatusCode.INTERNAL is failed.code
    assert server.address in failed.details
    assert [(OK, (b"hi",))] * 4 == [(each.code, each.messages) for each in found]
    assert 1 == server.connections


def test_the_first_reply_of_a_connection_may_be_odd() -> None:
    """Nothing of it is left for the second."""
    paths = iter(["a_b-c", *["AAAA"] * 5])

    with (
        odd_server(lambda _: ((), [("x-data-bin", next(paths))])) as server,
        forwarding(server.address) as channel,
    ):
        codes = [channel.call("/s.S/M").code for _ in range(6)]

    assert [grpc.StatusCode.INTERNAL, *[OK] * 5] == codes
