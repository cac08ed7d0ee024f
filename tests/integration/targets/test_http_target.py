"""HTTP targets against servers that answer by script: what is asked, what is passed on, and what each fault becomes."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path

import pytest
from botocore import auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from bridge.aws.hosts import ALL_REGIONS
from bridge.aws.sigv4 import Credentials
from bridge.carriers.http import MAX_SIGNERS, HttpCarrier, Iam
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.resolver import Resolver, SocketAddress
from bridge.carriers.http1.tls import client_context
from bridge.carriers.identity.credentials import AwsSettings
from bridge.rpc.envelope import TRAILERS, envelope
from bridge.rpc.errors import (
    AccessRefused,
    BadReply,
    CertificateRefused,
    ConnectionLost,
    FunctionFailed,
    FunctionTimedOut,
    HttpRefusal,
    HttpThrottled,
    Misconfigured,
    NoStatus,
    RpcError,
    UnknownHttpStatus,
    Unreachable,
)
from bridge.rpc.events import Headers, Message, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import value_of
from bridge.rpc.status import Status, StatusCode
from bridge.rpc.url import Origin, Url
from bridge.targets.gathering_target import GatheringTarget
from tests.support.event_stream import LAST_CHUNK, http_chunk
from tests.support.fakes import RecordingCall
from tests.support.sigv4a import check_sigv4a
from tests.support.targets import http_target
from tests.support.tls import Authority
from tests.support.upstream import (
    Peer,
    ReceivedRequest,
    Script,
    answers,
    response,
    serving,
)

HELLO = envelope(b"hello")
WORLD = envelope(b"world")
OK = envelope(b"grpc-status:0\r\n", flags=TRAILERS)
WEB = "application/grpc-web+proto"
DONE = Trailers(Status(StatusCode.OK))
NOW = 1_700_000_000.0
KEYS = Credentials("AKID", "secret/key+", "session/token+==")


def packed(data: bytes) -> bytes:
    """Gzip without the time of day, so that test ids stay the same."""
    return gzip.compress(data, mtime=0)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={}, connect_timeout=5)
    yield made
    await made.close()


def web(body: bytes, *, status: str = "200 OK", **fields: str) -> bytes:
    return response(body, status=status, **{"content_type": WEB, **fields})


class Keys:
    """Credentials that are replaced by KEYS when they are refused."""

    settings = AwsSettings()
    is_ready = True

    def __init__(self, *before: Credentials) -> None:
        self._left = [*before, KEYS]

    def current(self) -> Credentials:
        return self._left[0]

    async def refresh_now(self, refused: Credentials) -> None:
        if len(self._left) > 1:
            self._left.pop(0)


def iam(*before: Credentials, service: str = "lambda") -> Iam:
    return Iam(service, "eu-west-1", Keys(*before), lambda: NOW)


def target_of(
    carrier: HttpCarrier,
    *,
    fields: Mapping[str, str] | None = None,
    figures: TargetFigures | None = None,
) -> GatheringTarget:
    return http_target(carrier, headers=fields, figures=figures, wall_clock=lambda: NOW)


async def ask(client: HttpClient, script: Script, *, signing: Iam | None = None) -> RecordingCall:
    """A call to a server that does this."""
    call = RecordingCall(body=HELLO)
    async with serving(script) as upstream:
        carrier = HttpCarrier(Url(upstream.origin), client=client, iam=signing)
        await target_of(carrier).handle(call)
    return call


class Recording:
    """Answers in turn and keeps the requests."""

    def __init__(self, *given: bytes) -> None:
        self._given = given
        self.received: list[ReceivedRequest] = []

    async def __call__(self, peer: Peer) -> None:
        for answer in self._given:
            self.received.append(await peer.request())
            await peer.send(answer)


# -- a call ------------------------------------------------------------------------------------------------------------


async def test_a_call_is_one_post(client: HttpClient) -> None:
    """To prefix, service and method, under the server's own authority, with the body as it came."""
    server = Recording(web(WORLD + OK, x_down="1"))
    call = RecordingCall(body=HELLO * 2, metadata=(("x-up", "1"),), deadline=1004.0)
    async with serving(server) as upstream:
        carrier = HttpCarrier(Url(upstream.origin, "/prod/v1"), client=client)
        await target_of(carrier, fields={"x-api-key": "key"}).handle(call)
    (request,) = server.received

    assert [Headers((("x-down", "1"),)), Message(WORLD), DONE] == call.events
    assert "POST /prod/v1/test.v1.Echo/Say HTTP/1.1" == request.line
    assert HELLO * 2 == request.body
    expected = {
        "host": upstream.origin.authority,
        "content-type": WEB,
        "x-grpc-web": "1",
        "x-up": "1",
        "x-api-key": "key",
        "grpc-timeout": "4000m",
        "x-forwarded-host": "localhost:50051",
        "content-length": str(2 * len(HELLO)),
    }
    assert expected == {name: request.fields[name] for name in expected}


async def test_text_replies_are_decoded(client: HttpClient) -> None:
    """application/grpc-web-text, each frame in base64 of its own, its padding in the middle of the body."""
    body = b"".join(map(b64encode, (WORLD, WORLD, OK)))
    call = await ask(client, answers(web(body, content_type="application/grpc-web-text+proto")))

    assert [Headers(), Message(WORLD), Message(WORLD), DONE] == call.events


@pytest.mark.parametrize(("coding", "encode"), [("gzip", packed), ("deflate", zlib.compress)])
async def test_encoded_replies_are_decoded(client: HttpClient, coding: str, encode: Callable[[bytes], bytes]) -> None:
    """Although identity was asked for: some servers compress always."""
    server = Recording(web(encode(WORLD * 3 + OK), content_encoding=coding))
    call = RecordingCall(body=HELLO)
    async with serving(server) as upstream:
        await target_of(HttpCarrier(Url(upstream.origin), client=client)).handle(call)

    assert [b"world"] * 3 == call.messages
    assert "identity" == server.received[0].fields["accept-encoding"]


async def test_an_encoded_stream_passes_on_what_the_server_flushes(client: HttpClient) -> None:
    """Each message leaves with its own flush, while the stream is still open."""
    call = RecordingCall(body=HELLO)
    deflater = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    parts = [deflater.compress(WORLD) + deflater.flush(zlib.Z_SYNC_FLUSH) for _ in range(3)]
    parts.append(deflater.compress(OK) + deflater.flush())
    received: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"))
        for number, part in enumerate(parts[:-1], 1):
            await peer.send(http_chunk(part))
            async with asyncio.timeout(10):
                while len(call.messages) < number:
                    await asyncio.sleep(0.001)
            received.append(len(call.messages))
        await peer.send(http_chunk(parts[-1]), LAST_CHUNK)

    async with serving(script) as upstream:
        await target_of(HttpCarrier(Url(upstream.origin), client=client)).handle(call)

    assert [1, 2, 3] == received
    assert DONE == call.events[-1]


@pytest.mark.parametrize("body", [b"", envelope(b"", flags=TRAILERS)], ids=["no body", "an empty block"])
async def test_a_status_in_the_headers_is_trailers_only(client: HttpClient, body: bytes) -> None:
    """Traefik sends an empty block of trailers behind it."""
    call = await ask(client, answers(web(body, grpc_status="5", grpc_message="no%20such", x_why="1")))

    assert [Trailers(Status(StatusCode.NOT_FOUND, "no such"), (("x-why", "1"),))] == call.events


async def test_headers_of_gateways_stay_with_them(client: HttpClient) -> None:
    """What API Gateway renamed gets its name back; what it added goes no further, but for the request id."""
    answer = web(
        WORLD + OK,
        x_amzn_Remapped_www_authenticate="Basic",
        x_amzn_RequestId="id-1",
        x_amz_apigw_id="z",
        Via="1.1 x",
        X_Cache="Miss",
        Server="x",
        Date="today",
    )
    call = await ask(client, answers(answer))

    assert (("www-authenticate", "Basic"),) == call.initial_metadata
    assert (("x-amzn-requestid", "id-1"),) == call.trailing_metadata
    assert "id-1" == call.request_id


async def test_an_http_apis_request_id(client: HttpClient) -> None:
    call = await ask(client, answers(web(WORLD + OK, apigw_requestid="id-2")))

    assert (("x-amzn-requestid", "id-2"),) == call.trailing_metadata


async def test_headers_of_web_functions_stay_with_them(client: HttpClient) -> None:
    answer = web(
        WORLD + OK, Lambda_Web_Request_Id="id-3", lambda_web_logstream="s", lambda_web_anything="x", x_down="1"
    )
    call = await ask(client, answers(answer))

    assert (("x-down", "1"),) == call.initial_metadata
    assert (("x-amzn-requestid", "id-3"),) == call.trailing_metadata
    assert "id-3" == call.request_id


async def test_cold_starts_are_counted(client: HttpClient) -> None:
    figures, call = TargetFigures("web"), RecordingCall(body=HELLO)
    async with serving(answers(web(WORLD + OK, x_lambda_fn_cold_start="1"))) as upstream:
        carrier = HttpCarrier(Url(upstream.origin), client=client)
        await target_of(carrier, figures=figures).handle(call)

    assert 1 == figures.cold_starts
    assert () == call.initial_metadata


# -- streams -----------------------------------------------------------------------------------------------------------

CHUNKED = f"HTTP/1.1 200 OK\r\ncontent-type: {WEB}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


async def test_messages_leave_as_they_come(client: HttpClient) -> None:
    """The server writes the next part only when the one before it has reached the client."""
    call = RecordingCall(body=HELLO)
    sent: list[int] = []
    news = asyncio.Event()
    send = call.send

    def noticed(event: Headers | Message | Trailers) -> bool:
        news.set()
        return send(event)

    call.send = noticed  # type: ignore[method-assign]  # tells the server what has arrived

    async def script(peer: Peer) -> None:
        await peer.request()
        for part in (CHUNKED, http_chunk(WORLD), http_chunk(WORLD)):
            await peer.send(part)
            await news.wait()
            news.clear()
            sent.append(len(call.events))
        await peer.send(http_chunk(OK), LAST_CHUNK)

    async with serving(script) as upstream:
        await target_of(HttpCarrier(Url(upstream.origin), client=client)).handle(call)

    assert [1, 2, 3] == sent
    assert [b"world", b"world"] == call.messages


async def test_a_slow_client_holds_the_server_back(client: HttpClient) -> None:
    """While the client's window is full nothing is read, and the server's socket fills up."""
    call = RecordingCall(body=HELLO, window=1)
    waits, room = asyncio.Event(), asyncio.Event()

    async def writable() -> None:
        waits.set()
        await room.wait()

    call.writable = writable  # type: ignore[method-assign]  # a client that takes nothing
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.send(CHUNKED)
        while True:
            await peer.send(http_chunk(envelope(bytes(1 << 20))))
            written += 1 << 20

    async with serving(script) as upstream:
        target = target_of(HttpCarrier(Url(upstream.origin), client=client))
        running = asyncio.get_running_loop().create_task(target.handle(call))
        await waits.wait()
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert written < 32 << 20
    assert 1 == len(call.messages)


async def test_cancelling_closes_the_connection(client: HttpClient) -> None:
    gone, asked = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.closed()
        gone.set()

    async with serving(script) as upstream:
        target = target_of(HttpCarrier(Url(upstream.origin), client=client))
        running = asyncio.get_running_loop().create_task(target.handle(RecordingCall(body=HELLO)))
        await asked.wait()
        running.cancel()
        await gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_status_that_has_come_survives_a_cut(client: HttpClient) -> None:
    """The connection ends behind the trailers, without the last chunk."""
    call = await ask(client, answers(CHUNKED + http_chunk(WORLD + OK)))

    assert [Headers(), Message(WORLD), DONE] == call.events


# -- faults ------------------------------------------------------------------------------------------------------------


def plain(status: str, body: bytes = b"", **fields: str) -> bytes:
    return response(body, status=status, **{"content_type": "text/plain", **fields})


@pytest.mark.parametrize(
    ("answer", "kind", "code", "text"),
    [
        (plain("400 Bad Request", b"what?"), HttpRefusal, StatusCode.INTERNAL, "HTTP 400: what"),
        (plain("401 Unauthorized"), HttpRefusal, StatusCode.UNAUTHENTICATED, "HTTP 401"),
        (plain("403 Forbidden", b'{"Message":"Forbidden"}'), HttpRefusal, StatusCode.PERMISSION_DENIED, "Forbidden"),
        (plain("404 Not Found"), HttpRefusal, StatusCode.UNIMPLEMENTED, "HTTP 404"),
        (plain("413 Too Large"), HttpRefusal, StatusCode.RESOURCE_EXHAUSTED, f"413.*{len(HELLO)} bytes"),
        (plain("418 Teapot"), HttpRefusal, StatusCode.UNKNOWN, "HTTP 418"),
        (plain("800 What"), UnknownHttpStatus, StatusCode.UNKNOWN, "HTTP status 800"),
        (plain("000 What"), UnknownHttpStatus, StatusCode.UNKNOWN, "HTTP status 000"),
        (plain("500 Broken"), HttpRefusal, StatusCode.UNKNOWN, "HTTP 500"),
        (
            plain("502 Bad Gateway", b"Internal Server Error"),
            HttpRefusal,
            StatusCode.UNAVAILABLE,
            "502: Internal Server Error",
        ),
        (plain("503 Unavailable"), HttpRefusal, StatusCode.UNAVAILABLE, "HTTP 503"),
        (plain("504 Timeout"), HttpRefusal, StatusCode.UNAVAILABLE, "HTTP 504"),
        (plain("200 OK", b"<html>"), NoStatus, StatusCode.UNKNOWN, "text/plain"),
        (web(b""), NoStatus, StatusCode.UNKNOWN, "neither body nor"),
        (web(WORLD), NoStatus, StatusCode.UNKNOWN, "has no trailers"),
        (web(WORLD[:-1]), BadReply, StatusCode.INTERNAL, "middle of a message"),
        (web(WORLD).replace(b"length: 10", b"length: 11"), ConnectionLost, StatusCode.UNAVAILABLE, "may have run"),
        (web(b"\x42\0\0\0\1x"), BadReply, StatusCode.INTERNAL, "0x42"),
        (
            web(WORLD + OK, content_encoding="gzip"),
            BadReply,
            StatusCode.INTERNAL,
            "does not decode as content-encoding gzip",
        ),
        (
            web(WORLD + OK, content_encoding="br"),
            BadReply,
            StatusCode.INTERNAL,
            "content-encoding br, which the bridge cannot",
        ),
        (web(b"page", status="503 X", content_encoding="br"), HttpRefusal, StatusCode.UNAVAILABLE, "HTTP 503"),
        (
            response(packed(b"sorry"), status="503 X", content_encoding="gzip"),
            HttpRefusal,
            StatusCode.UNAVAILABLE,
            "HTTP 503: sorry",
        ),
        (b"SSH-2.0-x\r\n\r\n", BadReply, StatusCode.INTERNAL, "HTTP/1.1"),
        (CHUNKED + http_chunk(WORLD), ConnectionLost, StatusCode.UNAVAILABLE, "may have run"),
        (b"", ConnectionLost, StatusCode.UNAVAILABLE, "may have run"),
        (
            web(WORLD + b"Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\n"),
            FunctionFailed,
            StatusCode.INTERNAL,
            "StreamError",
        ),
        (
            plain("504 Gateway Timeout", lambda_web_error_type="Runtime.RequestTimeout"),
            FunctionTimedOut,
            StatusCode.DEADLINE_EXCEEDED,
            "own time",
        ),
        (
            plain("502 Bad Gateway", b"page", lambda_web_error_type="Else.Where"),
            HttpRefusal,
            StatusCode.UNAVAILABLE,
            "502: page",
        ),
    ],
)
async def test_faults(client: HttpClient, answer: bytes, kind: type[RpcError], code: StatusCode, text: str) -> None:
    """Each has its status, and none is worth another attempt: the function may have run."""
    with pytest.raises(kind, match=text) as caught:
        await ask(client, answers(answer))

    assert code is caught.value.code
    assert caught.value.may_have_run


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 T", "308 P"])
async def test_redirects_are_refused_by_name(client: HttpClient, status: str) -> None:
    """The client is told where to; not the path, which may be secret."""
    answer = response(status=status, location="https://login.example/secret?token=1")
    with pytest.raises(HttpRefusal, match=r"a redirect to https://login\.example;") as caught:
        await ask(client, answers(answer))

    assert StatusCode.UNKNOWN is caught.value.code
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("location", ["", "/elsewhere", "http://[broken", "http://b\u00fccher/"])
async def test_a_redirect_to_nowhere(client: HttpClient, location: str) -> None:
    with pytest.raises(HttpRefusal, match="a redirect;"):
        await ask(client, answers(response(status="302 Found", location=location)))


async def test_a_web_function_that_is_not_configured_right_has_not_run(client: HttpClient) -> None:
    answer = plain("502 Bad Gateway", lambda_web_error_type="Platform.InvalidNetworkConfiguration")
    with pytest.raises(Misconfigured, match="InvalidNetworkConfiguration") as caught:
        await ask(client, answers(answer))

    assert StatusCode.INTERNAL is caught.value.code
    assert not caught.value.is_transient


async def test_a_platform_error_has_the_request_id(client: HttpClient) -> None:
    answer = plain("504 X", lambda_web_error_type="Runtime.RequestTimeout", lambda_web_request_id="id-4")
    with pytest.raises(FunctionTimedOut) as caught:
        await ask(client, answers(answer))

    assert (("x-amzn-requestid", "id-4"),) == caught.value.trailing


async def test_a_status_of_the_application_comes_before_the_platforms_error(client: HttpClient) -> None:
    answer = response(b"", status="504 X", content_type=WEB, grpc_status="5", lambda_web_error_type="Platform.X")
    call = await ask(client, answers(answer))

    assert [Trailers(Status(StatusCode.NOT_FOUND))] == call.events


async def test_throttled_is_told_and_never_repeated(client: HttpClient) -> None:
    """HTTP 429 becomes `throttled_as` in the retry layer; nothing proves that the function did not run."""
    answer = plain("429 Too Many", b"slow down", retry_after="2", x_amzn_requestid="id-1")
    with pytest.raises(HttpThrottled, match="HTTP 429: slow down") as caught:
        await ask(client, answers(answer))

    assert caught.value.may_have_run
    assert "2000" == value_of(caught.value.trailing, "grpc-retry-pushback-ms")
    assert "id-1" == caught.value.request_id


async def test_a_status_with_429_is_the_servers_own(client: HttpClient) -> None:
    call = await ask(client, answers(web(b"", status="429 Busy", grpc_status="8")))

    assert [Trailers(Status(StatusCode.RESOURCE_EXHAUSTED))] == call.events


async def test_no_connection_may_be_tried_again(client: HttpClient) -> None:
    async with serving(answers()) as upstream:
        url = str(upstream.origin)
    with pytest.raises(Unreachable) as caught:
        await target_of(HttpCarrier(Url.parse(url), client=client)).handle(RecordingCall(body=HELLO))

    assert caught.value.is_transient
    assert not caught.value.may_have_run


async def test_a_server_is_asked_without_a_call(client: HttpClient) -> None:
    """A connection is enough; the next call uses it."""
    async with serving(answers(web(WORLD + OK))) as upstream:
        carrier = HttpCarrier(Url(upstream.origin), client=client)
        await carrier.dry_run()
        await carrier.dry_run()
        await target_of(carrier).handle(RecordingCall(body=HELLO))

        assert 1 == upstream.connections


async def test_a_server_that_cannot_be_reached(client: HttpClient) -> None:
    async with serving(answers()) as upstream:
        url = str(upstream.origin)
    with pytest.raises(Unreachable):
        await HttpCarrier(Url.parse(url), client=client).dry_run()


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_name", [None, "web.internal"])
async def test_tls_is_verified(client: HttpClient, tmp_path: Path, server_name: str | None) -> None:
    """Against the target's own authority, and the name that is configured for it."""
    authority = Authority(tmp_path)
    call = RecordingCall(body=HELLO)
    tls = client_context(ca=authority.certificate, server_name=server_name)
    async with serving(answers(web(WORLD + OK)), tls=authority.server(server_name or "localhost")) as upstream:
        carrier = HttpCarrier(Url(upstream.origin), client=client, tls=tls)
        await target_of(carrier).handle(call)

    assert [b"world"] == call.messages


async def test_a_certificate_for_another_name_is_refused(client: HttpClient, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = client_context(ca=authority.certificate, server_name="web.internal")
    async with serving(answers(web(OK)), tls=authority.server("localhost")) as upstream:
        carrier = HttpCarrier(Url(upstream.origin), client=client, tls=tls)
        with pytest.raises(CertificateRefused, match="another host"):
            await target_of(carrier).handle(RecordingCall(body=HELLO))


# -- auth: iam ---------------------------------------------------------------------------------------------------------


def expected_authorization(request: ReceivedRequest, service: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What botocore signs for the headers that the request says it has signed, at its own time."""
    fields = request.fields
    signed = fields["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    at = datetime.strptime(fields["x-amz-date"], "%Y%m%dT%H%M%SZ")  # noqa: DTZ007 - botocore's clock is naive
    monkeypatch.setattr(auth, "get_current_datetime", lambda: at)
    method, path, _ = request.line.split(" ")
    again = AWSRequest(method, f"http://{fields['host']}{path}", data=request.body)
    for name in signed:
        again.headers[name] = fields[name]
    keys = BotocoreCredentials(KEYS.access_key, KEYS.secret_key, KEYS.token)
    SigV4Auth(keys, service, "eu-west-1").add_auth(again)
    return str(again.headers["Authorization"])


@pytest.mark.parametrize("service", ["lambda", "execute-api"])
@pytest.mark.parametrize("path", ["/test.v1.Echo/Say", "/a$b.C/d@e"])
async def test_signed_requests_are_botocores(
    client: HttpClient, service: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths whose characters are encoded are encoded once more in what is signed. Large bodies are hashed beside the
    loop.
    """
    server = Recording(web(OK), web(OK))
    async with serving(server) as upstream:
        carrier = HttpCarrier(Url(upstream.origin, "/prod"), client=client, iam=iam(service=service))
        target = target_of(carrier)
        for body in (HELLO, envelope(bytes(300 << 10))):
            call = RecordingCall(path, body=body, metadata=(("authorization", "Bearer x"),))
            await target.handle(call)

    for request in server.received:
        assert expected_authorization(request, service, monkeypatch) == (request.fields["authorization"])
        assert KEYS.token == request.fields["x-amz-security-token"]
        assert "Bearer x" == request.fields["x-forwarded-authorization"]


def refused(error_type: str, message: str = "no", **fields: str) -> bytes:
    body = f'{{"message":"{message}"}}'.encode()
    return response(body, status="403 Forbidden", x_amzn_ErrorType=error_type, **fields)


async def test_stale_credentials_are_renewed_once(client: HttpClient) -> None:
    server = Recording(refused("ExpiredTokenException"), web(WORLD + OK))
    call = await ask(client, server, signing=iam(Credentials("OLD", "old")))

    assert [b"world"] == call.messages
    assert ["OLD", "AKID"] == [
        request.fields["authorization"].partition("Credential=")[2].partition("/")[0] for request in server.received
    ]


async def test_a_wrong_clock_is_put_right_once(client: HttpClient) -> None:
    date = formatdate(NOW + 900, usegmt=True)
    server = Recording(refused("InvalidSignatureException", date=date), web(WORLD + OK))
    call = await ask(client, server, signing=iam())

    assert [b"world"] == call.messages
    assert ["20231114T221320Z", "20231114T222820Z"] == [request.fields["x-amz-date"] for request in server.received]


@pytest.mark.parametrize(
    ("service", "permission"),
    [("lambda", "lambda:InvokeFunctionUrl"), ("execute-api", "execute-api:Invoke")],
)
async def test_refused_credentials(
    client: HttpClient, service: str, permission: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns which right is missing, the log who it is that lacks it."""
    secret = "User: arn:aws:iam::123456789012:user/bridge is not authorized"
    answer = refused("AccessDeniedException", secret)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(AccessRefused, match=f"AccessDenied.*{permission}") as caught,
    ):
        await ask(client, answers(answer), signing=iam(service=service))

    assert "user/bridge" not in str(caught.value)
    assert "user/bridge" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [refused("ExpiredTokenException"), refused("InvalidSignatureException", date="nonsense")],
)
async def test_credentials_that_stay_refused_are_an_answer(client: HttpClient, answer: bytes) -> None:
    server = Recording(answer, answer)
    with pytest.raises(AccessRefused):
        await ask(client, server, signing=iam(Credentials("OLD", "old")))

    assert 2 == len(server.received)


async def test_a_servers_own_403_is_its_answer(client: HttpClient) -> None:
    """Only AWS names an error type."""
    with pytest.raises(HttpRefusal, match="mine") as caught:
        await ask(client, answers(plain("403 Forbidden", b"mine")), signing=iam())

    assert StatusCode.PERMISSION_DENIED is caught.value.code


# -- auth: iam for Web Functions ---------------------------------------------------------------------------------------

ONE_REGION = "abc.1.lambda-web.eu-west-1.on.aws"
ALL_OF_THEM = "abc.lambda-web.global.on.aws"


async def everything_is_here(host: str, port: int) -> list[SocketAddress]:
    """Names of AWS lead to this machine."""
    return [(socket.AF_INET, ("127.0.0.1", port))]


@pytest.fixture
async def web_client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={}, connect_timeout=5, resolver=Resolver(everything_is_here))
    yield made
    await made.close()


async def ask_web_function(client: HttpClient, host: str, script: Script, signing: Iam, *bodies: bytes) -> str:
    """Call a server under this name. Returns its authority."""
    async with serving(script) as upstream:
        origin = Origin("http", host, upstream.origin.port)
        target = target_of(HttpCarrier(Url(origin), client=client, iam=signing))
        for body in bodies:
            await target.handle(RecordingCall(body=body, metadata=(("x-amz-content-sha256", "forged"),)))
    return origin.authority


async def test_web_functions_get_the_hash_signed(web_client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each body its own hash, a repeated body the same one."""
    bodies = (HELLO, WORLD, HELLO, envelope(bytes(300 << 10)))
    server = Recording(*[web(OK)] * len(bodies))
    await ask_web_function(web_client, ONE_REGION, server, iam(), *bodies)

    assert [sha256(body).hexdigest() for body in bodies] == [
        request.fields["x-amz-content-sha256"] for request in server.received
    ]
    for request in server.received:
        assert 1 == request.head.lower().count(b"x-amz-content-sha256:")
        assert "x-amz-content-sha256;" in request.fields["authorization"]
        assert expected_authorization(request, "lambda", monkeypatch) == request.fields["authorization"]


@pytest.mark.parametrize("path", ["/test.v1.Echo/Say", "/a$b.C/d@e"])
async def test_hosts_of_all_regions_get_a_signature_for_all(web_client: HttpClient, path: str) -> None:
    server = Recording(web(OK))
    async with serving(server) as upstream:
        origin = Origin("http", ALL_OF_THEM, upstream.origin.port)
        signing = Iam("lambda", ALL_REGIONS, Keys(), lambda: NOW)
        await target_of(HttpCarrier(Url(origin), client=web_client, iam=signing)).handle(
            RecordingCall(path, body=HELLO)
        )
    (request,) = server.received

    assert "*" == request.fields["x-amz-region-set"]
    assert KEYS.token == request.fields["x-amz-security-token"]
    assert sha256(HELLO).hexdigest() == request.fields["x-amz-content-sha256"]
    check_sigv4a(request, KEYS, service="lambda")


@pytest.mark.parametrize(
    ("answer", "attempts"),
    [
        (plain("403 Forbidden", lambda_web_error_type="Platform.AccessDenied"), 1),
        (plain("403 Forbidden", lambda_web_error_type="Platform.ExpiredToken"), 2),
        (refused("AccessDeniedException"), 1),
    ],
)
async def test_refused_credentials_of_web_functions(web_client: HttpClient, answer: bytes, attempts: int) -> None:
    server = Recording(*[answer] * attempts)
    with pytest.raises(AccessRefused) as caught:
        await ask_web_function(web_client, ONE_REGION, server, iam(Credentials("OLD", "old")), HELLO)

    assert attempts == len(server.received)
    assert attempts == 2 or "they need lambda:InvokeWebFunctionEndpoint on it" in str(caught.value)


async def test_a_web_functions_own_403_is_its_answer(web_client: HttpClient) -> None:
    with pytest.raises(HttpRefusal, match="mine"):
        await ask_web_function(web_client, ONE_REGION, answers(plain("403 Forbidden", b"mine")), iam(), HELLO)


async def test_prepared_signatures_are_bounded(client: HttpClient) -> None:
    """Clients choose paths."""
    server = Recording(*[web(OK)] * (MAX_SIGNERS + 1))
    async with serving(server) as upstream:
        carrier = HttpCarrier(Url(upstream.origin), client=client, iam=iam())
        target = target_of(carrier)
        for number in range(MAX_SIGNERS + 1):
            await target.handle(RecordingCall(f"/a.B/C{number}", body=HELLO))

    assert carrier._signer is not None
    assert 1 == len(carrier._signer._prepared)
