"""The Runtime API of one instance over a real socket: what a runtime may send, and what it is told."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from bridge.aws.invoke import MAX_REPLY
from bridge.emulator.instances import runtime_api
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import REPLY_HIGH_WATER, Invocation, Reply
from bridge.emulator.instances.lifecycle import RuntimePhase
from bridge.emulator.instances.runtime_api import RuntimeApi
from bridge.emulator.instances.runtime_session import Delivery, RuntimeSession

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
DELIVERY = Delivery(Invocation("id-1", b'{"a":1}', "arn:x", "Root=1", '{"custom":{}}'), 1234)


@dataclass
class Recorder:
    """An instance that only remembers what it was told."""

    reply: Reply
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    init_failure: Failure | None = None

    def runtime_ready(self) -> None:
        self.ready.set()

    def runtime_failed(self, failure: Failure) -> None:
        self.init_failure = failure

    def runtime_answered(self, request_id: str, failure: Failure | None) -> None:
        if failure is None:
            self.reply.end()
        else:
            self.reply.fail(failure)


@dataclass
class Runtime:
    """One connection of a runtime, and what stands behind it."""

    session: RuntimeSession
    observer: Recorder
    host: str
    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers["Content-Length"]))
        return int(head[0].split()[1]), headers, body

    async def ask(self, request: bytes) -> tuple[int, dict[str, str]]:
        self.send(request)
        status, _, body = await self.response()
        return status, json.loads(body or b"{}")

    async def is_cut(self) -> bool:
        """Return whether the server ends the connection without another word."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    async def reconnect(self) -> None:
        await closed(self.writer)
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)

    async def take(self) -> None:
        """Take an invocation as a runtime does."""
        self.send(NEXT)
        await self.observer.ready.wait()
        self.session.deliver(DELIVERY, self.observer.reply)
        assert (await self.response())[0] == 200


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST /2018-06-01/runtime/{path} HTTP/1.1", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*chunks: bytes, trailers: str = "", headers: str = "") -> Iterator[bytes]:
    """A streamed response, piece by piece."""
    yield (
        "POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        f"Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: application/x\r\n{headers}\r\n"
    ).encode()
    for chunk in chunks:
        yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
    yield f"0\r\n{trailers}\r\n".encode()


@asynccontextmanager
async def connected() -> AsyncIterator[Runtime]:
    observer = Recorder(Reply())
    session = RuntimeSession(observer)
    api = RuntimeApi(session)
    host, _, port = (await api.open()).partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    runtime = Runtime(session, observer, host, int(port), reader, writer)
    try:
        yield runtime
    finally:
        api.close()
        await closed(runtime.writer)


async def test_next_waits_for_an_invocation_and_tells_of_it() -> None:
    """A long poll, answered with the payload as it came and what is known about it in headers."""
    async with connected() as runtime:
        runtime.send(NEXT)
        await runtime.observer.ready.wait()
        runtime.session.deliver(DELIVERY, runtime.observer.reply)
        status, headers, body = await runtime.response()

    assert (status, body) == (200, b'{"a":1}')
    assert headers == {
        "Content-Type": "application/json",
        "Content-Length": "7",
        "Lambda-Runtime-Aws-Request-Id": "id-1",
        "Lambda-Runtime-Deadline-Ms": "1234",
        "Lambda-Runtime-Invoked-Function-Arn": "arn:x",
        "Lambda-Runtime-Trace-Id": "Root=1",
        "Lambda-Runtime-Client-Context": '{"custom":{}}',
    }


async def test_a_response_becomes_the_reply() -> None:
    async with connected() as runtime:
        await runtime.take()
        answer = await runtime.ask(post("invocation/id-1/response", b'"done"'))
        body = await runtime.observer.reply.whole()

    assert answer == (202, {"status": "OK"})
    assert (
        body,
        runtime.observer.reply.failure,
        runtime.observer.reply.content_type,
    ) == (b'"done"', None, "application/json")


async def test_a_stream_may_be_told_by_its_type_alone() -> None:
    """aws-lambda-go names no response mode: the prelude of its streams was taken for JSON, and they were gathered."""
    async with connected() as runtime:
        await runtime.take()
        kind = "application/vnd.awslambda.http-integration-response"
        await runtime.ask(post("invocation/id-1/response", b"{}", f"Content-Type: {kind}"))
        await runtime.observer.reply.whole()

    assert runtime.observer.reply.is_streamed
    assert kind == runtime.observer.reply.content_type


async def test_an_error_becomes_the_failure_unchanged() -> None:
    """The header names the type, or else the body does."""
    async with connected() as runtime:
        await runtime.take()
        body = b'{"errorMessage":"m","errorType":"ValueError","stackTrace":[]}'
        status, _ = await runtime.ask(post("invocation/id-1/error", body))

    assert status == 202
    assert Failure("ValueError", body) == runtime.observer.reply.failure


async def test_an_init_error_is_reported_once() -> None:
    async with connected() as runtime:
        header = "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError"
        first = await runtime.ask(post("init/error", b"{}", header))
        second = await runtime.ask(post("init/error", b"{}", header))

    assert Failure("Runtime.ImportModuleError", b"{}") == runtime.observer.init_failure
    assert (first[0], second[0]) == (202, 403)


async def test_restore_is_over_at_once() -> None:
    """Nothing was snapshotted; a runtime that waits for its restoration goes on."""
    async with connected() as runtime:
        status, _ = await runtime.ask(b"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n")
        error, _ = await runtime.ask(post("restore/error", b'{"errorType":"Hook"}'))

    assert (status, error) == (200, 202)
    assert runtime.observer.init_failure is not None
    assert runtime.observer.init_failure.error_type == "Hook"


@pytest.mark.parametrize(
    ("request_bytes", "status", "error_type"),
    [
        (post("invocation/id-2/response", b"x"), 400, "InvalidRequestID"),
        (post("invocation/id-2/error", b"x"), 400, "InvalidRequestID"),
        (post("init/error", b"x"), 403, "InvalidStateTransition"),
        (b"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n", 403, "InvalidStateTransition"),
        (b"GET /2018-06-01/runtime/nothing HTTP/1.1\r\n\r\n", 404, "NotFound"),
        (b"GET /invocation/next HTTP/1.1\r\n\r\n", 404, "NotFound"),
        (b"PUT /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n", 404, "NotFound"),
    ],
)
async def test_what_is_out_of_turn_is_refused_and_changes_nothing(
    request_bytes: bytes, status: int, error_type: str
) -> None:
    """On the same connection the right answer is still taken."""
    async with connected() as runtime:
        await runtime.take()
        refused = await runtime.ask(request_bytes)
        right = await runtime.ask(post("invocation/id-1/response", b"1"))

    assert (status, error_type) == (refused[0], refused[1]["errorType"])
    assert right[0] == 202


async def test_a_second_answer_is_refused() -> None:
    """With AWS's sentence; the first one stands."""
    async with connected() as runtime:
        await runtime.take()
        await runtime.ask(post("invocation/id-1/response", b"1"))
        status, body = await runtime.ask(post("invocation/id-1/error", b"2"))

    assert status == 403
    assert body == {
        "errorType": "InvalidStateTransition",
        "errorMessage": "State transition from ResponseSent to InvocationErrorResponse failed for runtime. "
        "Error: State transition is not allowed",
    }
    assert await runtime.observer.reply.whole() == b"1"


async def test_an_unknown_response_mode_is_refused_and_fails_the_invocation() -> None:
    async with connected() as runtime:
        await runtime.take()
        mode = "Lambda-Runtime-Function-Response-Mode: sideways"
        status, body = await runtime.ask(post("invocation/id-1/response", b"1", mode))

    assert (status, body["errorType"]) == (400, "InvalidFunctionResponseMode")
    assert runtime.observer.reply.failure is not None
    assert runtime.observer.reply.failure.error_type == "Runtime.InvalidResponseModeHeader"


async def test_a_reply_above_the_limit_is_dropped_and_refused() -> None:
    """The invoker is told at once, the runtime when it has sent everything."""
    async with connected() as runtime:
        await runtime.take()
        reading = asyncio.get_running_loop().create_task(runtime.observer.reply.whole())
        status, body = await runtime.ask(post("invocation/id-1/response", b"x" * (MAX_REPLY + 1)))
        error = await reading

    assert (status, body["errorType"]) == (413, "RequestEntityTooLarge")
    assert body["errorMessage"] == "Exceeded maximum allowed payload size (6291556 bytes)."
    assert json.loads(error)["errorType"] == "Function.ResponseSizeTooLarge"


async def test_a_streamed_reply_arrives_as_it_is_sent() -> None:
    """The first chunk can be read before the second was written; the content type is the function's."""
    async with connected() as runtime:
        await runtime.take()
        head, first, second, end = chunked(b"{}\0\0\0\0\0\0\0\0", b"body")
        chunks = runtime.observer.reply.chunks()
        runtime.send(head + first)
        got = [await anext(chunks)]
        runtime.send(second + end)
        got += [chunk async for chunk in chunks]
        status, _, _ = await runtime.response()

    assert got == [b"{}\0\0\0\0\0\0\0\0", b"body"]
    assert (
        status,
        runtime.observer.reply.is_streamed,
        runtime.observer.reply.content_type,
    ) == (202, True, "application/x")


async def test_the_trailers_of_a_streamed_reply_may_fail_it() -> None:
    """Their body is base64; what came before stays readable."""
    error = b'{"errorType":"Oops","errorMessage":"mid-stream"}'
    trailers = (
        "Lambda-Runtime-Function-Error-Type: Oops\r\n"
        f"Lambda-Runtime-Function-Error-Body: {b64encode(error).decode()}\r\n"
    )
    async with connected() as runtime:
        await runtime.take()
        for piece in chunked(b"part", trailers=trailers):
            runtime.send(piece)
        status, _, _ = await runtime.response()
        chunks = [chunk async for chunk in runtime.observer.reply.chunks()]

    assert (status, chunks) == (202, [b"part"])
    assert Failure("Oops", error) == runtime.observer.reply.failure


async def test_a_reader_that_is_slow_slows_the_runtime_down() -> None:
    """No more than the high-water mark and what was on its way is held."""
    async with connected() as runtime:
        await runtime.take()
        runtime.send(b"".join(chunked(*[b"x" * 65536] * 80)))
        draining = asyncio.get_running_loop().create_task(runtime.writer.drain())
        while runtime.observer.reply.size < REPLY_HIGH_WATER:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        held = runtime.observer.reply.size
        body = await runtime.observer.reply.whole()
        await draining
        status, _, _ = await runtime.response()

    assert held <= REPLY_HIGH_WATER + 512 * 1024
    assert (len(body), status) == (80 * 65536, 202)


async def test_a_reply_cut_in_the_middle_fails() -> None:
    """If the process lives on, the connection is at fault; the runtime may take the next invocation."""
    async with connected() as runtime:
        await runtime.take()
        runtime.send(b"".join(chunked(b"part"))[:-2])
        assert await anext(runtime.observer.reply.chunks()) == b"part"
        runtime.writer.close()
        await runtime.observer.reply.over()

    assert runtime.observer.reply.failure is not None
    assert runtime.observer.reply.failure.error_type == "Runtime.TruncatedResponse"
    assert RuntimePhase.RESPONSE_SENT is runtime.session.phase


async def test_a_lost_next_may_be_asked_again() -> None:
    """Before an invocation came, and after one was sent to a connection that had gone."""
    async with connected() as runtime:
        runtime.send(NEXT)
        await runtime.observer.ready.wait()
        await runtime.reconnect()
        runtime.send(NEXT)
        runtime.session.deliver(DELIVERY, runtime.observer.reply)
        first = await runtime.response()
        runtime.send(NEXT)
        again = await runtime.response()

    assert first[0] == 200
    assert first == again


async def test_a_large_body_may_be_announced_first() -> None:
    """curl asks with Expect: 100-continue."""
    async with connected() as runtime:
        await runtime.take()
        request = post("invocation/id-1/response", b"1", "Expect: 100-continue")
        runtime.send(request[:-1])
        interim = await runtime.reader.readuntil(b"\r\n\r\n")
        runtime.send(b"1")
        status, _, _ = await runtime.response()

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert status == 202


async def test_an_offer_of_h2c_is_ignored() -> None:
    """Java's HttpClient makes one with its first request."""
    upgrade = NEXT[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    async with connected() as runtime:
        runtime.send(upgrade)
        await runtime.observer.ready.wait()
        runtime.session.deliver(DELIVERY, runtime.observer.reply)
        first = await runtime.response()
        second = await runtime.ask(post("invocation/id-1/response", b"1"))

    assert (first[0], second[0]) == (200, 202)


async def test_a_runtime_may_ask_to_close() -> None:
    async with connected() as runtime:
        await runtime.take()
        status, _ = await runtime.ask(post("invocation/id-1/response", b"1", "Connection: close"))

        assert status == 202
        assert await runtime.is_cut()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        NEXT * 2,
        NEXT + b"more",
        b"GET /" + b"x" * (runtime_api.MAX_HEAD + 1),
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * runtime_api.MAX_HEAD,
    ],
    ids=["tls", "http2", "length", "two polls", "after a poll", "path", "headers"],
)
async def test_what_is_no_http_ends_the_connection_and_nothing_else(garbage: bytes) -> None:
    """The runtime may connect again and go on."""
    async with connected() as runtime:
        runtime.send(garbage)
        assert await runtime.is_cut()
        await runtime.reconnect()
        await runtime.take()
        status, _ = await runtime.ask(post("invocation/id-1/response", b"1"))

    assert status == 202


async def test_trailers_without_end_are_cut() -> None:
    async with connected() as runtime:
        await runtime.take()
        *begin, _ = chunked(b"part")
        runtime.send(b"".join(begin) + b"0\r\nA: ")
        assert await anext(runtime.observer.reply.chunks()) == b"part"
        runtime.send(b"x" * (2 * runtime_api.MAX_HEAD))

        assert await runtime.is_cut()


async def test_one_runtime_has_so_many_connections_and_no_more() -> None:
    async with connected() as runtime:
        extra = [
            await asyncio.open_connection(runtime.host, runtime.port)
            for _ in range(runtime_api.MAX_RUNTIME_CONNECTIONS)
        ]
        reader, _ = extra[-1]
        try:
            refused = await reader.read()
        except ConnectionError:
            refused = b""
        await runtime.take()
        for _, writer in extra:
            await closed(writer)

    assert refused == b""


def next_with(*lines: str) -> bytes:
    head = ["GET /2018-06-01/runtime/invocation/next HTTP/1.1", *lines]
    return "\r\n".join([*head, "", ""]).encode()


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: evil.example:9001",),
        ("Host: localhost.evil.example",),
        ("Host: localhost", "Host: evil.example"),
        ("Host: 127.0.0.1", "Origin: http://evil.example"),
        ("Host: 127.0.0.1", "Origin: http://127.0.0.1"),
        ("Host: 127.0.0.1", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        ("Host: 127.0.0.1", "Referer: http://evil.example/"),
    ],
)
@pytest.mark.parametrize("verb", ["next", "init/error"])
async def test_web_pages_do_not_reach_the_runtime_api(lines: tuple[str, ...], verb: str) -> None:
    """Neither under a name of theirs nor at our address: the runtime's place stays free."""
    request = next_with(*lines) if verb == "next" else post(verb, b"{}", *lines)
    async with connected() as runtime:
        status, said = await runtime.ask(request)

    assert (403, "AccessDenied") == (status, said["errorType"])
    assert RuntimePhase.STARTED is runtime.session.phase
    assert not runtime.observer.ready.is_set()
    assert runtime.observer.init_failure is None


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("Host: localhost:9001",),
        ("Host: 127.0.0.1:9001", "User-Agent: aws-lambda-java/2.7.0", "Accept: */*"),
        ("host: host.docker.internal:1", "accept-language: *", "sec-fetch-mode: cors", "user-agent: node"),
    ],
)
async def test_runtimes_reach_it_as_they_are(lines: tuple[str, ...]) -> None:
    """Small ones send no Host; Node's fetch has a word about its mode."""
    async with connected() as runtime:
        runtime.send(next_with(*lines))
        await runtime.observer.ready.wait()
        runtime.session.deliver(DELIVERY, runtime.observer.reply)

        assert 200 == (await runtime.response())[0]


async def served_once(runtime: Runtime) -> None:
    """The runtime has served an invocation: its connection is known."""
    await runtime.take()
    assert 202 == (await runtime.ask(post("invocation/id-1/response", b"1")))[0]
    runtime.observer.ready.clear()


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_stranger_takes_no_invocation_from_a_runtime_that_waits(is_known: bool) -> None:
    """One bare GET beside it is refused, and the runtime goes on."""
    async with connected() as runtime:
        if is_known:
            await served_once(runtime)
        runtime.send(NEXT)
        await runtime.observer.ready.wait()
        status = await asked_beside(runtime)
        runtime.session.deliver(DELIVERY, runtime.observer.reply)
        delivered, _, body = await runtime.response()

    assert (403, 200, b'{"a":1}') == (status, delivered, body)


async def test_a_stranger_sees_no_invocation_of_a_known_runtime() -> None:
    """Which works on it: the event is for nobody else."""
    async with connected() as runtime:
        await served_once(runtime)
        await runtime.take()
        status = await asked_beside(runtime)
        answered, _ = await runtime.ask(post("invocation/id-1/response", b"1"))

    assert (403, 202) == (status, answered)


async def test_a_known_runtime_displaces_a_stranger() -> None:
    """Who was quicker, between two invocations."""
    async with connected() as runtime:
        await served_once(runtime)
        stranger = asyncio.get_running_loop().create_task(asked_beside(runtime))
        await runtime.observer.ready.wait()
        runtime.send(NEXT)
        assert 403 == await stranger
        runtime.session.deliver(DELIVERY, runtime.observer.reply)

        assert 200 == (await runtime.response())[0]


async def test_a_runtime_that_comes_after_a_stranger_gets_its_first_invocation() -> None:
    """The stranger asked during the init: the invocation is handed out again."""
    async with connected() as runtime:
        stranger = asyncio.get_running_loop().create_task(asked_beside(runtime))
        await runtime.observer.ready.wait()
        runtime.session.deliver(DELIVERY, runtime.observer.reply)
        await stranger
        runtime.send(NEXT)

        assert 200 == (await runtime.response())[0]
        assert 202 == (await runtime.ask(post("invocation/id-1/response", b"1")))[0]


async def asked_beside(runtime: Runtime) -> int:
    """The status that another connection gets for asking."""
    reader, writer = await asyncio.open_connection(runtime.host, runtime.port)
    writer.write(NEXT)
    head = await reader.readuntil(b"\r\n\r\n")
    await closed(writer)
    return int(head.split()[1])
