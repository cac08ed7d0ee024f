"""InvokeWithResponseStream: what is sent, what comes back and when, and what each failure becomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from bridge.aws.arn import FunctionName
from bridge.aws.sigv4 import Credentials, RequestSigner, SigningKey, payload_hash
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.identity.credentials import AwsSettings, FixedCredentials
from bridge.carriers.lambda_stream import LambdaStream
from bridge.rpc.errors import (
    AccessRefused,
    BadReply,
    ConnectionLost,
    CutReply,
    FunctionFailed,
    NotReady,
    PayloadTooLarge,
    RpcError,
    Throttled,
)
from bridge.rpc.url import Url
from tests.support.event_stream import (
    CHUNK,
    LAST_CHUNK,
    http_chunk,
    invoke_complete,
    payload_chunk,
    stream_head,
    stream_of,
)
from tests.support.upstream import (
    Peer,
    ReceivedRequest,
    Upstream,
    always,
    answers,
    response,
    serving,
)

ARN = FunctionName.from_arn("arn:aws:lambda:eu-west-1:123456789012:function:greeter:live")
PATH = (
    "/2021-11-15/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Agreeter"
    "/response-streaming-invocations"
)
NOW = 1_700_000_000.0
KEYS = Credentials("AKID", "secret", "token")


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={})
    yield made
    await made.close()


class Renewing:
    """Credentials that are replaced once when they are refused."""

    settings = AwsSettings(region="eu-west-1")
    is_ready = True

    def __init__(self) -> None:
        self._left = [Credentials("OLD", "old"), KEYS]

    def current(self) -> Credentials:
        return self._left[0]

    async def refresh_now(self, refused: Credentials) -> None:
        if len(self._left) > 1:
            self._left.pop(0)


def carrier(client: HttpClient, upstream: Upstream, source: Renewing | FixedCredentials | None = None) -> LambdaStream:
    return LambdaStream(
        ARN,
        client=client,
        credentials=source or FixedCredentials(KEYS, AwsSettings()),
        endpoint_url=Url(upstream.origin),
        clock=lambda: NOW,
    )


async def read(stream: LambdaStream, payload: bytes = b"{}") -> tuple[list[bytes], str]:
    with closing(await stream.open(payload)) as reply:
        return [chunk async for chunk in reply], reply.request_id


async def test_payload_goes_out_signed_and_chunks_come_back(client: HttpClient) -> None:
    received: list[ReceivedRequest] = []

    async def script(peer: Peer) -> None:
        received.append(await peer.request())
        await peer.send(stream_of(payload_chunk(b"a"), payload_chunk(b"b"), invoke_complete()))

    async with serving(script) as upstream:
        found = await read(carrier(client, upstream), b'{"a":1}')
        host = upstream.origin.authority
    (request,) = received
    signer = RequestSigner(
        SigningKey(KEYS, region="eu-west-1", service="lambda"),
        method="POST",
        path=PATH,
        query="Qualifier=live",
        headers=(("host", host), ("content-type", "application/json")),
        unsigned=(("user-agent", "grpc-lambda-bridge"),),
    )

    assert ([b"a", b"b"], "id-1") == found
    assert b'{"a":1}' == request.body
    assert signer.head(payload_hash(request.body), len(request.body), NOW) == request.head


async def test_a_chunk_is_there_before_the_next_is_written(client: HttpClient) -> None:
    """The server writes the second only when the first has been read."""
    was_read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(stream_head(), http_chunk(payload_chunk(b"a")))
        await was_read.wait()
        await peer.send(http_chunk(payload_chunk(b"b")), http_chunk(invoke_complete()), LAST_CHUNK)

    async with serving(script) as upstream:
        reply = await carrier(client, upstream).open(b"{}")
        assert b"a" == await anext(reply)
        was_read.set()
        assert b"b" == await anext(reply)
        with pytest.raises(StopAsyncIteration):
            await anext(reply)
        reply.close()


async def test_the_connection_is_used_again(client: HttpClient) -> None:
    answer = stream_of(CHUNK, invoke_complete())
    async with serving(always(answer)) as upstream:
        stream = carrier(client, upstream)
        await read(stream)
        await read(stream)

        assert 1 == upstream.connections


async def test_who_does_not_read_holds_the_function_back(client: HttpClient) -> None:
    """The socket fills up: Lambda, and with it the function, has to wait."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(stream_head())
        while sent < 64 << 20:
            sent += 1 << 20
            await peer.send(http_chunk(payload_chunk(bytes(1 << 20))))

    async with serving(script) as upstream:
        reply = await carrier(client, upstream).open(b"{}")
        await anext(reply)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)

        reply.close()

    assert sent < 32 << 20


async def test_leaving_early_closes_the_connection(client: HttpClient) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(stream_head(), http_chunk(CHUNK))
        await peer.closed()
        gone.set()

    async with serving(script) as upstream:
        with closing(await carrier(client, upstream).open(b"{}")) as reply:
            await anext(reply)
        await gone.wait()


@pytest.mark.parametrize("parts", [0, 1])
async def test_cancelling_closes_the_connection(client: HttpClient, parts: int) -> None:
    """Whether the answer has begun or not."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*[stream_head(), http_chunk(CHUNK)][: 2 * parts])
        asked.set()
        await peer.closed()
        gone.set()

    async with serving(script) as upstream:
        call = asyncio.get_running_loop().create_task(read(carrier(client, upstream)))
        await asked.wait()
        await asyncio.sleep(0)
        call.cancel()
        await gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            stream_of(CHUNK, invoke_complete(ErrorCode="E", ErrorDetails="x")),
            FunctionFailed,
            "greeter:live failed: E: x",
        ),
        (stream_of(CHUNK), CutReply, "greeter:live"),
        (stream_of(CHUNK, invoke_complete()[:20]), CutReply, "greeter:live|middle"),
        (stream_of(CHUNK[:-1] + b"x"), BadReply, "checksum"),
        (stream_head() + http_chunk(CHUNK), ConnectionLost, "may have run"),
        (response(b'{"errorType":"E","errorMessage":"x"}', x_amz_function_error="Unhandled"), FunctionFailed, "E: x"),
    ],
)
async def test_failures(client: HttpClient, answer: bytes, kind: type[RpcError], text: str) -> None:
    async with serving(answers(answer)) as upstream:
        with pytest.raises(kind, match=text) as caught:
            await read(carrier(client, upstream))

    assert caught.value.may_have_run


async def test_a_failure_bears_the_request_id(client: HttpClient) -> None:
    async with serving(answers(stream_of(invoke_complete(ErrorCode="E")))) as upstream:
        with pytest.raises(FunctionFailed) as caught:
            await read(carrier(client, upstream))

    assert "id-1" == caught.value.request_id


async def test_refusals_come_before_the_stream(client: HttpClient) -> None:
    """As those of Invoke: the function did not start."""
    busy = response(
        b'{"Reason":"CallerRateLimitExceeded"}',
        status="429 Busy",
        x_amzn_ErrorType="TooManyRequestsException",
        retry_after="2",
    )
    async with serving(answers(busy)) as upstream:
        with pytest.raises(Throttled) as caught:
            await read(carrier(client, upstream))

    assert (2.0, "CallerRateLimitExceeded", False) == (
        caught.value.retry_after,
        caught.value.throttle_reason,
        caught.value.may_have_run,
    )


async def test_stale_credentials_are_renewed_once(client: HttpClient) -> None:
    stale = response(b"{}", status="403 Forbidden", x_amzn_ErrorType="ExpiredTokenException")
    good = stream_of(payload_chunk(b"a"), invoke_complete())
    async with serving(answers(stale, good)) as upstream:
        assert ([b"a"], "id-1") == await read(carrier(client, upstream, Renewing()))


async def test_credentials_that_stay_stale_are_an_answer(client: HttpClient) -> None:
    stale = response(b"{}", status="403 Forbidden", x_amzn_ErrorType="ExpiredTokenException")
    async with serving(always(stale)) as upstream:
        with pytest.raises(AccessRefused):
            await read(carrier(client, upstream, Renewing()))


async def test_dry_run_asks_without_running(client: HttpClient) -> None:
    received: list[ReceivedRequest] = []

    async def script(peer: Peer) -> None:
        received.append(await peer.request())
        await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with serving(script) as upstream:
        await carrier(client, upstream).dry_run()

    assert "DryRun" == received[0].fields["x-amz-invocation-type"]


async def test_an_event_too_large_is_not_sent(client: HttpClient) -> None:
    async with serving(always(b"")) as upstream:
        with pytest.raises(PayloadTooLarge):
            await read(carrier(client, upstream), bytes(6 << 20))

        assert 0 == upstream.connections


async def test_no_credentials_yet(client: HttpClient) -> None:
    class Empty(Renewing):
        def current(self) -> Credentials:
            raise NotReady("none yet")

    async with serving(always(b"")) as upstream:
        with pytest.raises(NotReady):
            await read(carrier(client, upstream, Empty()))
