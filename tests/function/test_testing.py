"""lambda_fn.testing: grpcio's clients call a LambdaServer in this process, through Lambda's events."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from lambda_fn import LambdaServer, StreamingReply, forward
from lambda_fn.events import shape_of
from lambda_fn.examples import echo, echo_pb2, echo_pb2_grpc, greeter, helloworld_pb2, helloworld_pb2_grpc
from lambda_fn.testing import EventName, ProtocolName, aio_channel, channel
from lambda_fn.testing.pytest import LambdaAioChannel, LambdaChannel
from tests.support.behaviours import ASYNC, SYNC, Method, add
from tests.support.lambda_channel import Outcome, aio_server, grpcio_outcome, outcome_through, sync_server

ROOT = Path(__file__).parents[2]
OK = grpc.StatusCode.OK
pb: Any = echo_pb2
hello: Any = helloworld_pb2

EVENTS: tuple[EventName, ...] = ("http-v2", "http-v1", "alb")
BINARY: tuple[ProtocolName, ...] = ("grpc-web", "grpc-web-text", "connect")
PROTOCOLS: tuple[ProtocolName, ...] = (*BINARY, "grpc-web+json", "connect+json")
WAYS = list(itertools.product(EVENTS, PROTOCOLS))
BINARY_WAYS = list(itertools.product(EVENTS, BINARY))
METADATA = (("x-one", "1"), ("x-one", "2, 3"), ("x-data-bin", b"\x00\x01\xff"), ("x-empty", ""))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    echo.server.close()
    greeter.server.close()


def server_of(**methods: Method) -> LambdaServer:
    server = LambdaServer()
    add(server, methods)
    return server


# -- as grpcio's own servers --


@pytest.fixture(scope="module")
def expected_sync() -> dict[str, Outcome]:
    with sync_server(lambda server: add(server, SYNC)) as address:
        return {name: grpcio_outcome(address, f"/test.Test/{name}", metadata=METADATA) for name in SYNC}


@pytest.fixture(scope="module")
def expected_async() -> dict[str, Outcome]:
    with aio_server(lambda server: add(server, ASYNC)) as address:
        return {name: grpcio_outcome(address, f"/test.Test/{name}", metadata=METADATA) for name in ASYNC}


@pytest.mark.parametrize(("event", "protocol"), BINARY_WAYS)
def test_a_sync_call_ends_as_on_a_grpc_server(
    expected_sync: dict[str, Outcome], event: EventName, protocol: ProtocolName
) -> None:
    """Status, details, replies and metadata of every method, in every shape and protocol."""
    with channel(server_of(**SYNC), event=event, protocol=protocol) as ch:
        found = {name: outcome_through(ch, f"/test.Test/{name}", metadata=METADATA) for name in SYNC}

    assert comparable(expected_sync, SYNC, protocol) == comparable(found, SYNC, protocol)


@pytest.mark.parametrize(("event", "protocol"), BINARY_WAYS)
def test_an_async_call_ends_as_on_a_grpc_aio_server(
    expected_async: dict[str, Outcome], event: EventName, protocol: ProtocolName
) -> None:
    """The same for async servicers."""
    with channel(server_of(**ASYNC), event=event, protocol=protocol) as ch:
        found = {name: outcome_through(ch, f"/test.Test/{name}", metadata=METADATA) for name in ASYNC}

    assert comparable(expected_async, ASYNC, protocol) == comparable(found, ASYNC, protocol)


def comparable(outcomes: dict[str, Outcome], methods: dict[str, Method], protocol: ProtocolName) -> dict[str, Outcome]:
    """Without the message of a failed unary call, which no caller sees. Connect carries details, not the bytes of the
    status that has them.
    """
    found = {}
    for name, outcome in outcomes.items():
        is_dropped = methods[name][0].endswith("_unary") and outcome.code is not OK
        trailing = tuple(pair for pair in outcome.trailing if protocol != "connect" or not pair[0].startswith("grpc-"))
        found[name] = replace(outcome, messages=() if is_dropped else outcome.messages, trailing=trailing)
    return found


# -- every shape and protocol, with generated code --


@pytest.mark.parametrize(("event", "protocol"), WAYS)
def test_all_kinds_of_method_answer(event: EventName, protocol: ProtocolName) -> None:
    """Unary, server streaming, client streaming, bidirectional."""
    a, b = hello.HelloRequest(name="a"), hello.HelloRequest(name="é")
    with channel(greeter.server, event=event, protocol=protocol) as ch:
        stub: Any = helloworld_pb2_grpc.GreeterStub(ch)

        assert "Hello, é!" == stub.SayHello(b).message
        assert [f"Hello number {number}, a!" for number in range(10)] == texts(stub.SayHelloStreamReply(a))
        assert "Hello, a, é!" == stub.SayHelloToAll(iter((a, b))).message
        assert ["Hello, a!", "Hello, é!"] == texts(stub.SayHelloBidiStream(iter((a, b))))
        assert [] == texts(stub.SayHelloBidiStream(iter(())))


def texts(replies: Any) -> list[str]:
    return [reply.message for reply in replies]


@pytest.mark.parametrize(("event", "protocol"), WAYS)
def test_metadata_deadline_and_peer_reach_the_servicer(event: EventName, protocol: ProtocolName) -> None:
    """Metadata go both ways; the time left is the caller's."""
    sent = (("x-one", "1"), ("x-one", "2, 3"), ("x-data-bin", b"\x00\xff"), ("cookie", "a=1; b=2"))
    back = (("echo-initial-a", "1"), ("echo-trailing-b-bin", b"\x01\x02"))
    with channel(echo.server, event=event, protocol=protocol) as ch:
        stub: Any = echo_pb2_grpc.EchoStub(ch)
        reply, call = stub.Unary.with_call(pb.EchoRequest(text="t"), metadata=(*sent, *back), timeout=20)

    seen = [(each.name, each.binary if each.name.endswith("-bin") else each.text) for each in reply.metadata]
    own = [pair for pair in seen if pair[0] in dict((*sent, *back))]
    assert sorted((*sent, *back), key=str) == sorted(own, key=str)
    assert [("echo-initial-a", "1")] == [tuple(pair) for pair in call.initial_metadata()]
    assert [("echo-trailing-b-bin", b"\x01\x02")] == [tuple(pair) for pair in call.trailing_metadata()]
    assert 10 < reply.time_remaining <= 21  # grpcio rounds it up on the wire
    assert "ipv4:127.0.0.1:0" == reply.peer
    assert reply.request_id.startswith("00000000-")
    assert "user-agent" in dict(seen)


@pytest.mark.parametrize(("event", "protocol"), WAYS)
def test_a_rich_status_comes_back(event: EventName, protocol: ProtocolName) -> None:
    """Code, message and the details that google.rpc.Status holds."""
    with channel(echo.server, event=event, protocol=protocol) as ch:
        stub: Any = echo_pb2_grpc.EchoStub(ch)
        with pytest.raises(grpc.RpcError) as raised:
            stub.Fail(pb.FailRequest(code=9, message="né 100%", details=["one", "two"]))

    error: Any = raised.value
    found = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (grpc.StatusCode.FAILED_PRECONDITION, "né 100%") == (error.code(), error.details())
    assert (9, "né 100%") == (found.code, found.message)
    assert [b"\n\x03one", b"\n\x03two"] == [detail.value for detail in found.details]
    assert {"type.googleapis.com/google.protobuf.StringValue"} == {detail.type_url for detail in found.details}


@pytest.mark.parametrize(("event", "protocol"), WAYS)
def test_a_stream_fails_in_the_middle(event: EventName, protocol: ProtocolName) -> None:
    """What was sent before the failure arrives."""
    with channel(echo.server, event=event, protocol=protocol) as ch:
        stub: Any = echo_pb2_grpc.EchoStub(ch)
        replies = stub.ServerStream(pb.EchoRequest(text="t", count=5, fail_after=2))
        assert [0, 1] == [next(replies).index, next(replies).index]
        with pytest.raises(grpc.RpcError, match="failed after 2"):
            next(replies)

    assert grpc.StatusCode.ABORTED is replies.code()


@pytest.mark.parametrize(("event", "protocol"), WAYS)
def test_an_unknown_method_is_unimplemented(event: EventName, protocol: ProtocolName) -> None:
    """Of a service that is there, and of one that is not."""
    with channel(echo.server, event=event, protocol=protocol) as ch:
        for path in ("/dev.Echo/Nothing", "/no.Service/Nothing"):
            method: Any = ch.unary_unary(path)
            with pytest.raises(grpc.RpcError) as raised:
                method(b"")
            error: Any = raised.value
            assert grpc.StatusCode.UNIMPLEMENTED is error.code()


@pytest.mark.parametrize(("event", "protocol"), WAYS)
def test_the_event_has_its_shape(event: EventName, protocol: ProtocolName) -> None:
    """The servicer finds the very event in its context."""
    seen: list[Any] = []

    def say_hello(request: Any, context: Any) -> Any:
        seen.append((context.lambda_event, context.lambda_context))
        return hello.HelloReply()

    server = LambdaServer()
    handler = grpc.unary_unary_rpc_method_handler(
        say_hello, hello.HelloRequest.FromString, hello.HelloReply.SerializeToString
    )
    server.add_registered_method_handlers("helloworld.Greeter", {"SayHello": handler})
    with channel(server, event=event, protocol=protocol, time_limit=60) as ch:
        stub: Any = helloworld_pb2_grpc.GreeterStub(ch)
        stub.SayHello(hello.HelloRequest(name="a"))

    found, context = seen[0]
    content_type = {"connect": "application/proto", "connect+json": "application/json"}.get(protocol)
    suffix = "" if "+" in protocol else "+proto"
    assert event == shape_of(found).name
    assert (content_type or f"application/{protocol}{suffix}") == found["headers"]["content-type"]
    assert 50_000 < context.get_remaining_time_in_millis() <= 60_000


# -- what a grpc.Channel can do --


def test_replies_stream_as_they_are_written(lambda_channel: LambdaChannel) -> None:
    """The first reply arrives while the servicer still works, if the runtime streams."""
    goes_on = Flag()

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        assert goes_on.wait(30)
        yield b"2"

    ch: Any = lambda_channel(server_of(Stream=("unary_stream", stream)))
    replies: Any = ch.unary_stream("/test.Test/Stream")(b"")
    first = next(replies)
    goes_on.set()

    assert (b"1", [b"2"]) == (first, list(replies))


def test_replies_come_together_where_the_runtime_cannot_stream(lambda_channel: LambdaChannel) -> None:
    """As with AWS's own Python runtime: the handler returns one object."""
    kinds = []

    def handler(event: Any, context: Any) -> Any:
        reply = echo.handler(event, context)
        kinds.append(type(reply))
        return reply

    for streams in (True, False):
        stub: Any = echo_pb2_grpc.EchoStub(lambda_channel(handler, streams_replies=streams))
        assert 3 == len(list(stub.ServerStream(pb.EchoRequest())))

    assert [StreamingReply, dict] == kinds


def test_a_future_tells_when_it_is_done(lambda_channel: LambdaChannel) -> None:
    """`future`, its callbacks, and calls at the same time."""
    done = Flag()
    both = Flag()

    def wait(request: bytes, context: Any) -> bytes:
        if request == b"second":
            both.set()
        assert both.wait(30)
        return request

    ch: Any = lambda_channel(server_of(Wait=("unary_unary", wait)))
    method: Any = ch.unary_unary("/test.Test/Wait")
    first = method.future(b"first")
    first.add_done_callback(lambda _: done.set())
    second = method.future(b"second")

    assert (b"first", b"second") == (first.result(30), second.result(30))
    assert done.wait(30)
    assert first.done()
    assert not first.cancelled()


def test_a_deadline_ends_the_call(lambda_channel: LambdaChannel) -> None:
    """On both sides: the coroutine is cancelled, too."""
    cancelled = Flag()

    async def wait(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return request

    ch: Any = lambda_channel(server_of(Wait=("unary_unary", wait)))
    with pytest.raises(grpc.RpcError) as raised:
        ch.unary_unary("/test.Test/Wait")(b"", timeout=0.2)

    error: Any = raised.value
    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code()
    assert cancelled.wait(30)


def test_lambdas_time_limit_ends_the_call(lambda_channel: LambdaChannel) -> None:
    """A caller without a deadline gets its answer before Lambda would end the function."""

    async def wait(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(60)
        return request

    ch: Any = lambda_channel(server_of(Wait=("unary_unary", wait)), time_limit=0.2)
    with pytest.raises(grpc.RpcError, match="Lambda timeout") as raised:
        ch.unary_unary("/test.Test/Wait")(b"")

    error: Any = raised.value
    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code()


def test_a_cancelled_call_ends_at_once_and_the_function_runs_on(lambda_channel: LambdaChannel) -> None:
    """Lambda cannot be told of it."""
    began, goes_on, ended = Flag(), Flag(), Flag()

    def wait(request: bytes, context: Any) -> bytes:
        began.set()
        assert goes_on.wait(30)
        ended.set()
        return request

    ch: Any = lambda_channel(server_of(Wait=("unary_unary", wait)))
    method: Any = ch.unary_unary("/test.Test/Wait")
    call = method.future(b"")
    assert began.wait(30)
    call.cancel()

    assert grpc.StatusCode.CANCELLED is call.code()
    assert not ended.is_set()
    goes_on.set()
    assert ended.wait(30)


def test_an_abandoned_stream_is_stopped(lambda_channel: LambdaChannel) -> None:
    """Nobody takes its replies any more: the servicer learns it as on Lambda."""
    ended = Flag()

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            ended.set()

    ch: Any = lambda_channel(server_of(Stream=("unary_stream", stream)))
    replies: Any = ch.unary_stream("/test.Test/Stream")(b"")
    next(replies)
    replies.cancel()

    assert ended.wait(30)


class AddsMetadata(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        changed = grpc.ClientCallDetails()
        for name in ("method", "timeout", "credentials", "wait_for_ready", "compression"):
            setattr(changed, name, getattr(client_call_details, name))
        changed.metadata = (*(client_call_details.metadata or ()), ("x-intercepted", "yes"))
        return continuation(changed, request)


def test_interceptors_of_the_client_run(lambda_channel: LambdaChannel) -> None:
    """`grpc.intercept_channel` takes the channel."""
    ch = grpc.intercept_channel(lambda_channel(echo.server), AddsMetadata())
    stub: Any = echo_pb2_grpc.EchoStub(ch)
    reply = stub.Unary(pb.EchoRequest(), metadata=(("x-own", "1"),))

    assert {"x-intercepted": "yes", "x-own": "1"}.items() <= {each.name: each.text for each in reply.metadata}.items()


def test_compression_of_both_sides(lambda_channel: LambdaChannel) -> None:
    """The client compresses its requests, the server its replies."""
    server = LambdaServer(compression=grpc.Compression.Gzip)
    add(server, {"Echo": ("unary_unary", lambda request, context: request)})
    for protocol in BINARY:
        ch: Any = lambda_channel(server, protocol=protocol, compression=grpc.Compression.Deflate)
        assert bytes(100_000) == ch.unary_unary("/test.Test/Echo")(bytes(100_000))


# -- what Lambda does not take --


def test_a_caller_that_waits_for_a_reply_first_is_told_why(lambda_channel: LambdaChannel) -> None:
    """Full duplex does not go through an event."""
    goes_on = Flag()

    def requests() -> Iterator[bytes]:
        yield b"1"
        goes_on.wait(30)

    ch: Any = lambda_channel(server_of(**SYNC), half_close=0.1)
    with pytest.raises(grpc.RpcError, match=r"sent 1 of its requests and then nothing for 0\.1 s") as raised:
        next(iter(ch.stream_stream("/test.Test/Each")(requests())))
    goes_on.set()

    error: Any = raised.value
    assert grpc.StatusCode.UNIMPLEMENTED is error.code()


@pytest.mark.parametrize("sizes", [(5 << 20,), (3 << 20, 3 << 20), (6 << 20,)])
def test_requests_that_do_not_fit_an_event_are_refused(lambda_channel: LambdaChannel, sizes: tuple[int, ...]) -> None:
    """One above the limit of an event once it is in base64, several together, one above it by itself."""
    ch: Any = lambda_channel(server_of(**SYNC))
    with pytest.raises(grpc.RpcError) as raised:
        ch.stream_unary("/test.Test/Gather")(bytes(size) for size in sizes)

    error: Any = raised.value
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is error.code()


def test_a_reply_above_a_load_balancers_limit_is_refused(lambda_channel: LambdaChannel) -> None:
    """1 MiB there, 6 MiB elsewhere."""
    for event, code in (("alb", grpc.StatusCode.RESOURCE_EXHAUSTED), ("http-v2", OK)):
        stub: Any = echo_pb2_grpc.EchoStub(lambda_channel(echo.server, event=event))
        call = stub.Big.future(pb.BigRequest(size=1 << 20))
        assert code is call.code()


def raises(event: Any, context: Any) -> Any:
    raise LookupError("no table")


def ends(event: Any, context: Any) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (raises, "the handler raised LookupError: no table"),
        (ends, r"the handler ended its process: SystemExit\(3\)"),
        (lambda event, context: "text", "not an HTTP reply"),
        (lambda event, context: {"statusCode": "200"}, "not an HTTP reply"),
        (lambda event, context: {"statusCode": 200, "body": object()}, "not JSON serializable"),
        (lambda event, context: {"statusCode": 200, "body": "AAAA", "isBase64Encoded": True}, "middle of a message"),
    ],
    ids=["raises", "exits", "text", "bad status", "no JSON", "cut off"],
)
def test_a_handler_that_fails_is_internal(lambda_channel: LambdaChannel, handler: Any, text: str) -> None:
    """The status says what the handler did."""
    ch: Any = lambda_channel(handler)
    with pytest.raises(grpc.RpcError, match=text) as raised:
        ch.unary_unary("/a.B/C")(b"")

    error: Any = raised.value
    assert grpc.StatusCode.INTERNAL is error.code()


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        ({"statusCode": 200}, grpc.StatusCode.UNKNOWN, "no status"),
        ({"statusCode": 403, "body": "keep out"}, grpc.StatusCode.PERMISSION_DENIED, "HTTP 403: keep out"),
        ({"statusCode": 500, "body": "broken"}, grpc.StatusCode.UNKNOWN, "HTTP 500: broken"),
        (
            {"statusCode": 200, "headers": {"Grpc-Status": "5", "Grpc-Message": "no%20g"}},
            grpc.StatusCode.NOT_FOUND,
            "no g",
        ),
    ],
)
def test_a_reply_without_a_status_has_that_of_http(
    lambda_channel: LambdaChannel, reply: Any, code: grpc.StatusCode, text: str
) -> None:
    """As gRPC maps HTTP's statuses, for any handler."""
    ch: Any = lambda_channel(lambda event, context: reply)
    with pytest.raises(grpc.RpcError, match=text) as raised:
        ch.unary_unary("/a.B/C")(b"")

    error: Any = raised.value
    assert code is error.code()


def test_unknown_names_are_refused() -> None:
    """The error lists the known ones."""
    wrong: Any = "http-v3"
    with pytest.raises(ValueError, match="http-v2, http-v1, alb"), channel(echo.server, event=wrong):
        pass
    with pytest.raises(ValueError, match="grpc-web, grpc-web-text"), channel(echo.server, protocol=wrong):
        pass


def test_json_without_a_descriptor_says_what_to_import(lambda_channel: LambdaChannel) -> None:
    """Nothing here could write the JSON."""
    ch: Any = lambda_channel(server_of(**SYNC), protocol="connect+json")
    with pytest.raises(grpc.RpcError, match="import the generated code"):
        ch.unary_unary("/test.Test/Echo")(b"")


def test_a_forwarding_handler_is_called_too(lambda_channel: LambdaChannel) -> None:
    """Any handler can take the place of a LambdaServer."""
    with sync_server(lambda server: add(server, SYNC)) as address:
        handler = forward(address)
        found = outcome_through(lambda_channel(handler), "/test.Test/Stream")
        expected = grpcio_outcome(address, "/test.Test/Stream")
        handler.close()

    assert expected == found


# -- grpc.aio --


@pytest.mark.parametrize(("event", "protocol"), WAYS)
async def test_a_channel_of_grpc_aio(event: EventName, protocol: ProtocolName) -> None:
    """All kinds of method."""
    a, b = hello.HelloRequest(name="a"), hello.HelloRequest(name="b")
    async with aio_channel(greeter.server, event=event, protocol=protocol) as ch:
        stub: Any = helloworld_pb2_grpc.GreeterStub(ch)

        assert "Hello, a!" == (await stub.SayHello(a, timeout=30)).message
        assert 10 == len([reply async for reply in stub.SayHelloStreamReply(a)])
        assert "Hello, a, b!" == (await stub.SayHelloToAll(iter((a, b)))).message
        assert ["Hello, a!", "Hello, b!"] == [reply.message async for reply in stub.SayHelloBidiStream(iter((a, b)))]


class AddsAioMetadata(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        client_call_details.metadata.add("x-intercepted", "yes")
        return await continuation(client_call_details, request)


async def test_the_aio_fixture_takes_the_same_options(lambda_aio_channel: LambdaAioChannel) -> None:
    """Interceptors, metadata, status."""
    ch = lambda_aio_channel(echo.server, event="alb", interceptors=[AddsAioMetadata()])
    stub: Any = echo_pb2_grpc.EchoStub(ch)
    reply = await stub.Unary(pb.EchoRequest(), metadata=grpc.aio.Metadata(("x-own", "1")))
    assert {"x-intercepted": "yes", "x-own": "1"}.items() <= {each.name: each.text for each in reply.metadata}.items()

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Fail(pb.FailRequest(code=5, message="gone"))
    assert (grpc.StatusCode.NOT_FOUND, "gone") == (raised.value.code(), raised.value.details())


# -- the price --


def test_a_channel_is_ready_in_few_steps() -> None:
    """No process, no import, and few calls of functions: about 2 ms (benchmarks/testing_channel.py)."""
    with channel(echo.server):  # grpc starts its own threads once in a process
        pass
    calls = 0
    modules = set(sys.modules)

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    opened = channel(echo.server)
    sys.setprofile(count)
    opened.__enter__()
    sys.setprofile(None)
    opened.__exit__(None, None, None)

    assert set() == set(sys.modules) - modules
    assert 20 < calls < 400


def test_the_sockets_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays in the folder of temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with channel(echo.server):
        (folder,) = tmp_path.iterdir()
        assert 0o700 == folder.stat().st_mode & 0o777

    assert [] == list(tmp_path.iterdir())


def test_a_hanging_function_does_not_hold_the_process(tmp_path: Path) -> None:
    """The tests end although a servicer sleeps on."""
    program = (
        "import time, grpc\n"
        "from lambda_fn import LambdaServer\n"
        "from lambda_fn.testing import channel\n"
        "server = LambdaServer()\n"
        "handler = grpc.unary_unary_rpc_method_handler(lambda request, context: time.sleep(600))\n"
        "server.add_registered_method_handlers('a.B', {'C': handler})\n"
        "with channel(server) as ch:\n"
        "    print(ch.unary_unary('/a.B/C').future(b'', timeout=0.1).code())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert "StatusCode.DEADLINE_EXCEEDED\n" == result.stdout


def test_the_plugin_of_the_wheel(tmp_path: Path) -> None:
    """The tests of docs/testing.md pass. grpc is imported only for tests that ask for a channel."""
    (tmp_path / "test_first.py").write_text(
        "import sys\nfound = 'grpc' in sys.modules\ndef test_none():\n    assert not found\n"
    )
    page = (ROOT / "docs/testing.md").read_text()
    (tmp_path / "test_greeter.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "lambda_fn.testing.pytest", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-o", "addopts=", "--rootdir", str(tmp_path), str(tmp_path / "test_first.py"), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "6 passed" in result.stdout, result.stdout
