"""URLs of local functions, asked by HTTP clients of several kinds."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bridge.aws.invoke import MAX_REQUEST
from bridge.config.schema import FunctionConfig, FunctionUrl
from lambda_fn.examples import echo_pb2
from tests.support.emulator import Caller, local_lambda, runtime

BUFFERED = FunctionUrl()
STREAMING = FunctionUrl(invoke_mode="response_stream")
SIGNED_ONLY = FunctionUrl(auth="iam")

SHOW_EVENT = """
while True:
    request_id, event, _ = next_invocation()
    answer(request_id, {"statusCode": 200, "body": json.dumps(event)})
"""
GIVE = """
while True:
    request_id, event, _ = next_invocation()
    ask("POST", f"/invocation/{request_id}/response", event["body"].encode())
"""
"""Returns the request's body as its reply."""


@asynccontextmanager
async def url_of(
    *functions: FunctionConfig, **options: Any
) -> AsyncIterator[tuple[Caller, aiohttp.ClientSession, str]]:
    """A local Lambda, a client, and the URL by path of function `fn`."""
    async with local_lambda(*functions, **options) as caller:
        base = caller.local.path_url("fn")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
            yield caller, session, base


async def given(tmp_path: Path, reply: object, url: FunctionUrl = BUFFERED) -> tuple[int, Mapping[str, str], bytes]:
    """What a client gets of a function that returns this."""
    async with (
        url_of(runtime(tmp_path, GIVE, url=url)) as (_, session, base),
        session.post(base, data=json.dumps(reply), headers={"Content-Type": "text/plain"}) as response,
    ):
        return response.status, response.headers, await response.read()


# -- requests


async def test_a_url_is_reached_by_path(tmp_path: Path) -> None:
    """The function sees neither the path to the URL nor the local Lambda's."""
    async with (
        url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (caller, session, base),
        session.get(f"{base}a%2Fb/c?x=1&x=%26", headers={"X-A": "1"}) as response,
    ):
        event = await response.json()

    assert base == f"{caller.local.endpoint_url}/lambda-url/fn/"
    assert (event["rawPath"], event["rawQueryString"]) == ("/a%2Fb/c", "x=1&x=%26")
    assert event["queryStringParameters"] == {"x": "1,&"}
    assert event["requestContext"]["http"]["method"] == "GET"
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert event["requestContext"]["requestId"] == response.headers["x-amzn-RequestId"]
    assert event["headers"]["x-a"] == "1"


async def test_the_path_of_a_url_may_end_with_its_name(tmp_path: Path) -> None:
    async with (
        url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (_, session, base),
        session.get(base.rstrip("/")) as response,
    ):
        event = await response.json()

    assert event["rawPath"] == "/"


async def test_a_url_is_reached_by_host(tmp_path: Path) -> None:
    """Host names have no case; paths that are the API's elsewhere are the function's here. In http.client."""

    def ask(endpoint: str, host: str) -> Any:
        connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
        connection.request("GET", "/2015-03-31/functions", headers={"Host": host})
        response = connection.getresponse()
        event = json.loads(response.read())
        connection.close()
        return event

    async with url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (caller, _, _):
        host = caller.local.urls["fn"].removeprefix("http://").rstrip("/")
        events = [
            await asyncio.to_thread(ask, caller.local.endpoint_url, name)
            for name in (host, host.upper().replace(":", ".:"))
        ]

    assert host.startswith("fn.lambda-url.us-east-1.localhost:")
    assert ["/2015-03-31/functions"] * 2 == [event["rawPath"] for event in events]
    assert events[0]["headers"]["host"] == host


async def status_of(endpoint: str, path: str, headers: dict[str, str]) -> int:
    def ask() -> int:
        connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
        connection.request("GET", path, headers=headers)
        found = connection.getresponse().status
        connection.close()
        return found

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize("path", ["/", "/lambda-url/fn/", "/2015-03-31/functions", "/nothing"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example:9001",
        "fn.lambda-url.us-east-1.on.aws",
        "fn.lambda-url.us-east-1.evil.example",
        "fn.lambda-url.us-east-1.evil",
    ],
)
async def test_a_page_under_a_name_of_its_own_is_refused(tmp_path: Path, host: str, path: str) -> None:
    """DNS rebinding runs no function and lists none; a URL's name does not count under any suffix."""
    async with url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (caller, _, _):
        assert 403 == await status_of(caller.local.endpoint_url, path, {"Host": host})
        assert [] == caller.lines


@pytest.mark.parametrize(
    ("path", "host", "origin", "status"),
    [
        ("/", "fn.lambda-url.us-east-1.localhost", "http://evil.example", 200),
        ("/lambda-url/fn/", "127.0.0.1", "http://evil.example", 200),
        ("/lambda-url/fn/", "emulator", "null", 200),
        ("/2015-03-31/functions", "127.0.0.1", "http://evil.example", 403),
        ("/2015-03-31/functions", "127.0.0.1", "null", 403),
        ("/2015-03-31/functions", "127.0.0.1", "http://127.0.0.1", 200),
        ("/lambda-urls", "127.0.0.1", "http://evil.example", 403),
    ],
)
async def test_pages_of_any_origin_may_use_urls_only(
    tmp_path: Path, path: str, host: str, origin: str, status: int
) -> None:
    """As on AWS, where CORS is the URL's affair."""
    signed = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=0",
        "X-Amz-Date": "x",
    }
    async with url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (caller, _, _):
        headers = {"Host": host, "Origin": origin, **signed}
        assert status == await status_of(caller.local.endpoint_url, path, headers)


@pytest.mark.parametrize("named", ["on.aws", "*.on.aws", "fn.lambda-url.us-east-1.on.aws"])
async def test_other_suffixes_of_urls_are_configured(tmp_path: Path, named: str) -> None:
    """A container network may give the local Lambda names of its own."""
    function = runtime(tmp_path, SHOW_EVENT, url=BUFFERED)
    async with local_lambda(function, hosts=[named]) as caller:
        found = await status_of(caller.local.endpoint_url, "/", {"Host": "FN.lambda-url.us-east-1.on.aws:80"})

    assert 200 == found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_finds_a_url_by_name(tmp_path: Path) -> None:
    """It looks up *.localhost by itself."""
    async with url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (caller, _, _):
        curl = await asyncio.create_subprocess_exec(
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "-b",
            "a=1; b=2",
            "-d",
            "k=v",
            f"{caller.local.urls['fn']}p?q=1",
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await curl.communicate()
    event = json.loads(output)

    assert (event["rawPath"], event["rawQueryString"]) == ("/p", "q=1")
    assert event["cookies"] == ["a=1", "b=2"]
    assert (event["body"], event["isBase64Encoded"]) == ("az12", True)


async def test_without_a_url_there_is_nothing(tmp_path: Path) -> None:
    """As on AWS: forbidden, whether or not there is such a function."""
    async with url_of(runtime(tmp_path, SHOW_EVENT)) as (caller, session, base):
        found = []
        for url in (base, caller.local.path_url("nosuch")):
            async with session.get(url) as response:
                found.append((response.status, await response.read()))

    assert found == [(403, b'{"Message":null}')] * 2
    assert caller.local.urls == {}


async def test_a_request_above_six_mebibytes_is_refused(tmp_path: Path) -> None:
    """Counted as the event that it makes: binary bodies grow by a third."""
    async with url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (_, session, base):
        found = []
        for size in (MAX_REQUEST, MAX_REQUEST * 3 // 4):
            async with session.post(base, data=BytesIO(bytes(size))) as response:
                found.append((response.status, (await response.json())["Message"]))

    message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    assert found == [(413, message)] * 2


async def test_an_endless_request_is_refused(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(7):
            yield bytes(1024 * 1024)

    async with (
        url_of(runtime(tmp_path, SHOW_EVENT, url=BUFFERED)) as (_, session, base),
        session.post(base, data=body()) as response,
    ):
        assert response.status == 413


# -- buffered replies


async def test_a_reply_is_an_http_response(tmp_path: Path) -> None:
    status, headers, body = await given(
        tmp_path,
        {
            "statusCode": 201,
            "headers": {"Content-Type": "image/png", "WWW-Authenticate": "Basic", "X-A": "1"},
            "cookies": ["a=1", "b=2"],
            "body": "AAE=",
            "isBase64Encoded": True,
        },
    )

    assert (status, body) == (201, b"\0\1")
    assert headers["Content-Type"] == "image/png"
    assert headers["x-amzn-Remapped-www-authenticate"] == "Basic"
    assert "WWW-Authenticate" not in headers
    assert ["a=1", "b=2"] == headers.getall("Set-Cookie")  # type: ignore[attr-defined]  # aiohttp's headers are a multi-dict
    assert headers["X-Amzn-Trace-Id"].startswith("Root=1-")


async def test_any_other_json_is_the_body(tmp_path: Path) -> None:
    status, headers, body = await given(tmp_path, "Hello")

    assert (status, headers["Content-Type"], body) == (200, "application/json", b'"Hello"')


async def test_a_reply_that_is_no_http_response_is_502(tmp_path: Path) -> None:
    """Why stands in the function's log; the client learns nothing."""
    async with (
        url_of(runtime(tmp_path, GIVE, url=BUFFERED)) as (caller, session, base),
        session.post(base, data='{"statusCode": 0}', headers={"Content-Type": "text/plain"}) as response,
    ):
        found = response.status, await response.text()

    assert found == (502, "Internal Server Error")
    assert ("fn", "URL: 502, the statusCode is invalid: it must be a number from 100 to 599") in caller.lines


@pytest.mark.parametrize("url", [BUFFERED, STREAMING], ids=lambda url: str(url.invoke_mode))
@pytest.mark.parametrize(
    "end", ["os._exit(1)", "wait_for('never')", "ask('POST', f'/invocation/{request_id}/error', '{}')"]
)
async def test_a_function_that_fails_is_502(tmp_path: Path, url: FunctionUrl, end: str) -> None:
    """It crashes, runs out of time or reports an error, in either mode."""
    source = f"""
    while True:
        request_id, event, _ = next_invocation()
        {end}
    """
    async with (
        url_of(runtime(tmp_path, source, url=url, timeout=0.3)) as (_, session, base),
        session.get(base) as response,
    ):
        found = response.status, await response.text()

    assert found == (502, "Internal Server Error")


async def _status(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status


async def test_throttling_is_429(tmp_path: Path) -> None:
    source = """
    while True:
        request_id, event, _ = next_invocation()
        print("begins", flush=True)
        wait_for("go")
        answer(request_id, "done")
    """
    function = runtime(tmp_path, source, url=BUFFERED, concurrency=1)
    async with url_of(function) as (caller, session, base):
        first = asyncio.get_running_loop().create_task(_status(session, base))
        await caller.line("begins")
        async with session.get(base) as second:
            status = second.status
        (tmp_path / "go").touch()
        found = await first, status

    assert found == (200, 429)


# -- streamed replies

GATED = """
while True:
    request_id, event, _ = next_invocation()
    head = {"statusCode": 202, "headers": {"X-A": "1", "Content-Length": "9"}, "cookies": ["a=1"]}
    stream = begin_http(request_id, head)
    write(stream, b"first")
    wait_for("go")
    write(stream, b"last")
    end(stream)
"""


async def test_a_stream_arrives_as_it_is_written(tmp_path: Path) -> None:
    """The prelude becomes status and headers; the function writes its last bytes only after the first ones were
    read.
    """
    async with (
        url_of(runtime(tmp_path, GATED, url=STREAMING)) as (_, session, base),
        session.get(base) as response,
    ):
        first = await response.content.readexactly(5)
        (tmp_path / "go").touch()
        rest = await response.read()

    assert (response.status, first, rest) == (202, b"first", b"last")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.headers["x-amzn-Remapped-content-length"] == "9"
    assert (response.headers["X-A"], response.headers["Set-Cookie"]) == ("1", "a=1")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert "x-amzn-RequestId" in response.headers


async def test_the_head_does_not_wait_for_the_body(tmp_path: Path) -> None:
    source = """
    while True:
        request_id, event, _ = next_invocation()
        stream = begin_http(request_id, {"statusCode": 202})
        wait_for("go")
        write(stream, b"body")
        end(stream)
    """
    async with (
        url_of(runtime(tmp_path, source, url=STREAMING)) as (_, session, base),
        session.get(base) as response,
    ):
        (tmp_path / "go").touch()
        found = response.status, await response.read()

    assert found == (202, b"body")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_response_that_may_have_no_body_has_none(tmp_path: Path, method: str, status: int) -> None:
    """What the function writes is dropped, and the connection good for the next request."""
    source = f"""
    while True:
        request_id, event, _ = next_invocation()
        stream = begin_http(request_id, {{"statusCode": {status}}})
        write(stream, b"body")
        end(stream)
    """
    async with url_of(runtime(tmp_path, source, url=STREAMING)) as (caller, _, _):
        connection = http.client.HTTPConnection(caller.local.endpoint_url.removeprefix("http://"), timeout=5)

        def ask() -> tuple[int, bytes]:
            connection.request(method, "/lambda-url/fn/")
            response = connection.getresponse()
            return response.status, response.read()

        found = [await asyncio.to_thread(ask) for _ in range(2)]
        connection.close()

    assert found == [(status, b"")] * 2


async def test_a_prelude_may_come_in_pieces(tmp_path: Path) -> None:
    source = """
    while True:
        request_id, event, _ = next_invocation()
        stream = begin(request_id, "application/vnd.awslambda.http-integration-response")
        for byte in b'{"statusCode":404}' + bytes(8) + b"body":
            write(stream, bytes([byte]))
        end(stream)
    """
    async with (
        url_of(runtime(tmp_path, source, url=STREAMING)) as (_, session, base),
        session.get(base) as response,
    ):
        found = response.status, await response.read()

    assert found == (404, b"body")


async def test_a_stream_without_a_prelude_is_200(tmp_path: Path) -> None:
    """With the content type that the function gave it."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        stream = begin(request_id, "text/event-stream")
        write(stream, b"data: 1")
        end(stream)
    """
    async with (
        url_of(runtime(tmp_path, source, url=STREAMING)) as (_, session, base),
        session.get(base) as response,
    ):
        found = response.status, response.headers["Content-Type"], await response.read()

    assert found == (200, "text/event-stream", b"data: 1")


async def test_a_stream_mode_url_shows_a_plain_reply_as_it_is(tmp_path: Path) -> None:
    """Nothing is inferred there: the object itself is the body, as on AWS."""
    status, headers, body = await given(tmp_path, {"statusCode": 404}, STREAMING)

    assert (status, headers["Content-Type"], body) == (200, "application/json", b'{"statusCode": 404}')


async def test_a_plain_reply_above_its_limit_is_502(tmp_path: Path) -> None:
    """In stream mode too: what is not streamed is answered whole or not at all."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        answer(request_id, "x" * 7_000_000)
    """
    async with (
        url_of(runtime(tmp_path, source, url=STREAMING)) as (_, session, base),
        session.get(base) as response,
    ):
        status = response.status

    assert status == 502


async def test_a_buffered_url_does_not_read_streams(tmp_path: Path) -> None:
    """It wants JSON: 502, and the log says what to change."""
    (tmp_path / "go").touch()
    async with (
        url_of(runtime(tmp_path, GATED, url=BUFFERED)) as (caller, session, base),
        session.get(base) as response,
    ):
        status = response.status

    assert status == 502
    assert any("give its URL invoke_mode: response_stream" in line for _, line in caller.lines)


@pytest.mark.parametrize(
    "end",
    ["os._exit(1)", "wait_for('never')", "end(stream, b'Lambda-Runtime-Function-Error-Type: Oops\\r\\n')"],
)
async def test_a_failure_in_the_middle_cuts_the_connection(tmp_path: Path, end: str) -> None:
    """A crash, the time limit, an error in the trailers: what came before arrives, and no end."""
    source = f"""
    while True:
        request_id, event, _ = next_invocation()
        stream = begin_http(request_id, {{"statusCode": 200}})
        write(stream, b"part")
        wait_for("go")
        {end}
    """
    async with (
        url_of(runtime(tmp_path, source, url=STREAMING, timeout=1)) as (_, session, base),
        session.get(base) as response,
    ):
        first = await response.content.readexactly(4)
        (tmp_path / "go").touch()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    assert (response.status, first) == (200, b"part")


async def test_a_stream_above_its_limit_is_cut(tmp_path: Path) -> None:
    """200 MiB, lowered here."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        stream = begin_http(request_id, {"statusCode": 200})
        write(stream, bytes(100))
        wait_for("go")
        write(stream, bytes(1000))
        print("told", end(stream), flush=True)
    """
    async with (
        url_of(runtime(tmp_path, source, url=STREAMING), max_streamed_reply=1000) as (caller, session, base),
        session.get(base) as response,
    ):
        await response.content.readexactly(100)
        (tmp_path / "go").touch()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
        await caller.line("told 413")


async def test_the_function_goes_on_when_the_client_has_gone(tmp_path: Path) -> None:
    source = """
    while True:
        request_id, event, _ = next_invocation()
        stream = begin_http(request_id, {"statusCode": 200})
        write(stream, b"x")
        wait_for("go")
        for _ in range(256):
            write(stream, bytes(65536))
        print("told", end(stream), flush=True)
    """
    async with url_of(runtime(tmp_path, source, url=STREAMING, timeout=20)) as (caller, session, base):
        response = await session.get(base)
        await response.content.readexactly(1)
        response.close()
        (tmp_path / "go").touch()

        await caller.line("told 202")


# -- signed requests


def signature(url: str, body: bytes, *, key: str = "local", secret: str = "local") -> dict[str, str]:
    request = AWSRequest("POST", url, data=body)
    SigV4Auth(Credentials(key, secret), "lambda", "us-east-1").add_auth(request)
    return dict(request.headers.items())


async def test_a_signed_request_says_who_signed(tmp_path: Path) -> None:
    """By path; what is signed is the path as sent."""
    async with url_of(runtime(tmp_path, SHOW_EVENT, url=SIGNED_ONLY)) as (_, session, base):
        url = f"{base}a%20b?x=1"
        headers = signature(url, b"body")
        async with session.post(url, data=b"body", headers=headers) as response:
            event = await response.json()

    assert event["requestContext"]["authorizer"]["iam"]["accessKey"] == "local"
    assert event["requestContext"]["accountId"] == "123456789012"


async def test_keys_of_the_environment_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    async with url_of(runtime(tmp_path, SHOW_EVENT, url=SIGNED_ONLY)) as (_, session, base):
        headers = signature(base, b"", key="AKIAENV", secret="s3cret")
        async with session.post(base, headers=headers) as response:
            event = await response.json()

    assert event["requestContext"]["authorizer"]["iam"]["accessKey"] == "AKIAENV"


async def test_unsigned_and_badly_signed_requests_are_forbidden(tmp_path: Path) -> None:
    """No function starts; the log says why, without anything secret."""
    async with url_of(runtime(tmp_path, "print('started')", url=SIGNED_ONLY)) as (
        caller,
        session,
        base,
    ):
        wrong = signature(base, b"", secret="guess")
        found = []
        for headers in ({}, wrong, {"Authorization": "Bearer s3cret"}):
            async with session.post(base, headers=headers) as response:
                found.append((response.status, response.headers["x-amzn-ErrorType"], await response.json()))

    assert found == [(403, "AccessDeniedException", {"Message": "Forbidden"})] * 3
    assert caller.lines == [
        ("fn", "URL: refused, the request is not signed"),
        ("fn", "URL: refused, the signature does not fit the request"),
        ("fn", "URL: refused, it has no AWS Signature Version 4 in its Authorization header"),
    ]


# -- gRPC-Web


def envelope(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        flags, size = struct.unpack_from(">BI", body)
        found.append((flags, body[5 : 5 + size]))
        body = body[5 + size :]
    return found


ECHO = """
from lambda_fn import LambdaServer
from lambda_fn.examples import echo_pb2_grpc
from lambda_fn.examples.echo import Echo

server = LambdaServer(stream_replies={stream_replies})
echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
handler = server.handler
"""
"""The event does not say how its URL replies, so the function is told."""


def echo(tmp_path: Path, url: FunctionUrl) -> FunctionConfig:
    (tmp_path / "echoing.py").write_text(ECHO.format(stream_replies=url is STREAMING))
    return FunctionConfig("fn", tmp_path, handler="echoing.handler", timeout=10, memory=1 << 30, url=url)


@pytest.mark.parametrize("url", [BUFFERED, STREAMING], ids=lambda url: str(url.invoke_mode))
async def test_grpc_web_reaches_a_lambda_fn_function(tmp_path: Path, url: FunctionUrl) -> None:
    """A server stream where the URL streams; a unary call where it does not."""
    streams = url is STREAMING
    method = "ServerStream" if streams else "Unary"
    request = echo_pb2.EchoRequest(text="hi", count=2).SerializeToString()
    async with (
        url_of(echo(tmp_path, url)) as (_, session, base),
        session.post(
            f"{base}dev.Echo/{method}",
            data=envelope(request),
            headers={"Content-Type": "application/grpc-web+proto"},
        ) as response,
    ):
        found = frames(await response.read())
    *messages, (flags, trailers) = found

    assert (response.status, flags) == (200, 0x80)
    assert b"grpc-status:0" in trailers.replace(b" ", b"")
    assert ["hi"] * (2 if streams else 1) == [echo_pb2.EchoReply.FromString(message).text for _, message in messages]
