"""Invoke: what is sent, what comes back, and what each failure becomes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest

from bridge.aws.arn import FunctionName
from bridge.aws.invoke import MAX_REPLY, MAX_REQUEST, InvokeReply
from bridge.aws.sigv4 import Credentials, RequestSigner, SigningKey, payload_hash
from bridge.aws.tenancy import TENANT_HEADER, tenant_header
from bridge.carriers import lambda_api
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.large_replies import LARGE
from bridge.carriers.identity.credentials import AwsSettings
from bridge.carriers.lambda_api import MAX_INVOKE_BODY
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.rpc.errors import (
    AccessRefused,
    FunctionFailed,
    FunctionNotFound,
    Misconfigured,
    NotReady,
    PayloadTooLarge,
    ReplyTooLarge,
    StaleCredentials,
    Throttled,
)
from bridge.rpc.url import Url
from tests.support.upstream import Peer, ReceivedRequest, Upstream, always, response, serving

ARN = FunctionName.from_arn("arn:aws:lambda:eu-west-1:123456789012:function:greeter:live")
PATH = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Agreeter/invocations"
NOW = 1_700_000_000.0
OLD, NEW = Credentials("OLD", "old-secret"), Credentials("NEW", "new-secret", "token")


class FakeSource:
    """Credentials that are replaced when they are refused."""

    def __init__(self, *credentials: Credentials, settings: AwsSettings | None = None) -> None:
        self._credentials = list(credentials)
        self.settings = settings or AwsSettings()
        self.refreshed = 0

    @property
    def is_ready(self) -> bool:
        return bool(self._credentials)

    def current(self) -> Credentials:
        if not self._credentials:
            raise NotReady("none yet")
        return self._credentials[0]

    async def refresh_now(self, refused: Credentials) -> None:
        self.refreshed += 1
        if len(self._credentials) > 1:
            self._credentials.pop(0)


class FakeLambda:
    """Answers in turn, the last for ever, and keeps the requests."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.received: list[ReceivedRequest] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            self.received.append(await peer.request())
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            await peer.send(answer)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={})
    yield made
    await made.close()


def carrier(
    client: HttpClient,
    upstream: Upstream,
    source: FakeSource | None = None,
    function: FunctionName = ARN,
) -> LambdaInvoke:
    return LambdaInvoke(
        function,
        client=client,
        credentials=source or FakeSource(OLD),
        endpoint_url=Url(upstream.origin),
        clock=lambda: NOW,
    )


def refusal(status: str, error_type: str, body: dict[str, str] | None = None, **fields: str) -> bytes:
    return response(json.dumps(body or {}).encode(), status=status, x_amzn_ErrorType=error_type, **fields)


STALE = refusal("403 Forbidden", "ExpiredTokenException", {"message": "expired"})
GOOD = response(b'"fine"', x_amzn_RequestId="id-1", content_type="application/json")


async def test_large_replies_come_one_by_one(client: HttpClient) -> None:
    """Reading one holds the loop for milliseconds: twenty at once would hold up every other call."""
    given: list[int] = []
    turn = 0

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async with serving(always(response(b"x" * (LARGE + 1)))) as upstream:
        invoke = carrier(client, upstream).invoke

        async def call() -> None:
            await invoke(b"{}")
            given.append(turn)

        counting = asyncio.get_running_loop().create_task(count_turns())
        try:
            await asyncio.gather(*(call() for _ in range(20)))
        finally:
            counting.cancel()

    assert 20 == len(given) == len(set(given))


async def test_payload_goes_out_signed_and_the_reply_comes_back(client: HttpClient) -> None:
    """POST to the function's ARN and qualifier, signed for its region, and nothing else."""
    api = FakeLambda(GOOD)
    async with serving(api) as upstream:
        reply = await carrier(client, upstream, FakeSource(NEW)).invoke(b'{"a":1}')
        host = upstream.origin.authority
    (request,) = api.received
    signer = RequestSigner(
        SigningKey(NEW, region="eu-west-1", service="lambda"),
        method="POST",
        path=PATH,
        query="Qualifier=live",
        headers=(("host", host), ("content-type", "application/json")),
    )

    assert InvokeReply(b'"fine"', "id-1") == reply
    assert f"POST {PATH}?Qualifier=live HTTP/1.1" == request.line
    assert b'{"a":1}' == request.body
    assert {
        "host": host,
        "content-type": "application/json",
        "user-agent": "grpc-lambda-bridge",
        "content-length": "7",
        **dict(signer.headers_to_add(payload_hash(b'{"a":1}'), NOW)),
    } == request.fields


async def test_client_context_is_signed(client: HttpClient) -> None:
    api = FakeLambda(GOOD)
    async with serving(api) as upstream:
        await carrier(client, upstream).invoke(b"{}", headers=(("x-amz-client-context", "eyJhIjoxfQ=="),))
    (request,) = api.received

    assert "eyJhIjoxfQ==" == request.fields["x-amz-client-context"]
    assert "host;x-amz-client-context;x-amz-date" in request.fields["authorization"]


async def test_signers_of_tenants_are_kept_within_a_bound(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant's second call makes no new signer, and many tenants do not fill the memory."""
    made: list[str] = []

    class Counting(RequestSigner):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(dict(options["headers"]).get(TENANT_HEADER, ""))

    monkeypatch.setattr(lambda_api, "RequestSigner", Counting)
    monkeypatch.setattr(lambda_api, "MAX_TENANT_SIGNERS", 2)
    api = FakeLambda(GOOD)
    async with serving(api) as upstream:
        invoke = carrier(client, upstream)
        for tenant in ("a", "b", "a", "b", "c", "a"):
            await invoke.invoke(b"{}", headers=tenant_header(tenant))

    assert ["a", "b", "a", "b", "c", "a"] == [request.fields[TENANT_HEADER] for request in api.received]
    assert ["", "a", "b", "c", "a"] == made


async def test_dry_run_runs_nothing(client: HttpClient) -> None:
    """InvocationType DryRun, with an empty body; 204 is a yes."""
    api = FakeLambda(response(status="204 No Content"), refusal("404 Not Found", "ResourceNotFoundException"))
    async with serving(api) as upstream:
        invoke = carrier(client, upstream)
        await invoke.dry_run()
        with pytest.raises(FunctionNotFound):
            await invoke.dry_run()

    assert ["DryRun"] * 2 == [request.fields["x-amz-invocation-type"] for request in api.received]
    assert [b"", b""] == [request.body for request in api.received]


@pytest.mark.parametrize("size", [256 << 10, (256 << 10) + 1, MAX_REQUEST - 1])
async def test_large_payloads_are_hashed_alike(client: HttpClient, size: int) -> None:
    """On the loop or in a thread, the hash is the same and the whole payload arrives."""
    api = FakeLambda(GOOD)
    payload = b"x" * size
    async with serving(api) as upstream:
        await carrier(client, upstream).invoke(payload)
        host = upstream.origin.authority
    signer = RequestSigner(
        SigningKey(OLD, region="eu-west-1", service="lambda"),
        method="POST",
        path=PATH,
        query="Qualifier=live",
        headers=(("host", host), ("content-type", "application/json")),
    )

    assert payload == api.received[0].body
    assert (
        dict(signer.headers_to_add(payload_hash(payload), NOW))["authorization"]
        == api.received[0].fields["authorization"]
    )


async def test_payload_above_the_limit_is_not_sent(client: HttpClient) -> None:
    """The message says how large it was and what the limit is."""
    async with serving(always(GOOD)) as upstream:
        with pytest.raises(PayloadTooLarge, match=f"{MAX_REQUEST} bytes.*less than {MAX_REQUEST}"):
            await carrier(client, upstream).invoke(b"x" * MAX_REQUEST)

    assert 0 == upstream.connections


async def test_largest_reply_is_taken_and_a_larger_refused(client: HttpClient) -> None:
    api = FakeLambda(response(b"x" * MAX_REPLY), response(b"x" * (MAX_INVOKE_BODY + 1)))
    async with serving(api) as upstream:
        invoke = carrier(client, upstream)
        reply = await invoke.invoke(b"{}")
        with pytest.raises(ReplyTooLarge):
            await invoke.invoke(b"{}")

    assert MAX_REPLY == len(reply.payload)


async def test_function_that_failed_is_an_error(client: HttpClient) -> None:
    """HTTP 200 with X-Amz-Function-Error: the function ran."""
    body = json.dumps({"errorType": "ValueError", "errorMessage": "bad"}).encode()
    async with serving(always(response(body, x_amz_function_error="Unhandled"))) as upstream:
        with pytest.raises(FunctionFailed, match="ValueError: bad") as caught:
            await carrier(client, upstream).invoke(b"{}")

    assert caught.value.may_have_run


@pytest.mark.parametrize("name", ["Reason", "reason"])
async def test_throttle_brings_its_reason_and_wait(client: HttpClient, name: str) -> None:
    """The error's type, reason and Retry-After are read; the case of names does not matter."""
    throttled = refusal(
        "429 Too Many Requests",
        "TooManyRequestsException",
        {name: "ConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."},
        retry_after="3",
    )
    async with serving(always(throttled)) as upstream:
        with pytest.raises(Throttled) as caught:
            await carrier(client, upstream).invoke(b"{}")

    assert ("ConcurrentInvocationLimitExceeded", 3.0) == (
        caught.value.throttle_reason,
        caught.value.retry_after,
    )


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[1]", b'{"message": 7}', b'{"message": "\xff"}', b"[" * 100_000])
async def test_refusal_with_any_body_is_a_refusal(client: HttpClient, body: bytes) -> None:
    answer = response(body, status="404 Not Found", x_amzn_ErrorType="ResourceNotFoundException")
    async with serving(always(answer)) as upstream:
        with pytest.raises(FunctionNotFound, match="greeter:live"):
            await carrier(client, upstream).invoke(b"{}")


async def test_refused_access_tells_the_operator_alone(client: HttpClient, caplog: pytest.LogCaptureFixture) -> None:
    """Whom AWS refuses stands in the log, once a minute, and not in what the client reads."""
    told = "User: arn:aws:iam::123456789012:user/me is not authorized"
    async with serving(always(refusal("403 Forbidden", "AccessDeniedException", {"Message": told}))) as upstream:
        invoke = carrier(client, upstream)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                with pytest.raises(AccessRefused) as caught:
                    await invoke.invoke(b"{}")

    assert "user/me" not in str(caught.value)
    assert 1 == caplog.text.count("user/me")


async def test_stale_credentials_are_replaced_and_tried_once_more(client: HttpClient) -> None:
    """The second attempt is signed with what the refresh brought."""
    api, source = FakeLambda(STALE, GOOD), FakeSource(OLD, NEW)
    async with serving(api) as upstream:
        reply = await carrier(client, upstream, source).invoke(b"{}")
    first, second = api.received

    assert b'"fine"' == reply.payload
    assert "Credential=OLD/" in first.fields["authorization"]
    assert "Credential=NEW/" in second.fields["authorization"]
    assert "token" == second.fields["x-amz-security-token"]


async def test_credentials_that_stay_stale_end_the_call(client: HttpClient) -> None:
    """There is one second attempt, not a third."""
    api, source = FakeLambda(STALE), FakeSource(OLD, NEW, OLD)
    async with serving(api) as upstream:
        with pytest.raises(StaleCredentials):
            await carrier(client, upstream, source).invoke(b"{}")

    assert (2, 1) == (len(api.received), source.refreshed)


async def test_without_other_credentials_there_is_no_second_attempt(client: HttpClient) -> None:
    """The same signature would be refused again."""
    api, source = FakeLambda(STALE), FakeSource(OLD)
    async with serving(api) as upstream:
        with pytest.raises(StaleCredentials):
            await carrier(client, upstream, source).invoke(b"{}")

    assert (1, 1) == (len(api.received), source.refreshed)


async def test_wrong_clock_is_set_by_that_of_aws(client: HttpClient) -> None:
    """A refused signature and a date far from ours: later signatures carry AWS's time."""
    skewed = refusal(
        "403 Forbidden",
        "InvalidSignatureException",
        {"message": "Signature expired"},
        Date=formatdate(NOW + 3600, usegmt=True),
    )
    api = FakeLambda(skewed, GOOD)
    async with serving(api) as upstream:
        invoke = carrier(client, upstream)
        await invoke.invoke(b"{}")
        await invoke.invoke(b"{}")

    assert ["20231114T221320Z", "20231114T231320Z", "20231114T231320Z"] == [
        request.fields["x-amz-date"] for request in api.received
    ]


async def test_small_difference_of_clocks_is_no_reason_to_try_again(client: HttpClient) -> None:
    """Dates have whole seconds, and AWS bears five minutes."""
    refused = refusal("403 Forbidden", "InvalidSignatureException", Date=formatdate(NOW + 5, usegmt=True))
    api = FakeLambda(refused)
    async with serving(api) as upstream:
        with pytest.raises(StaleCredentials):
            await carrier(client, upstream).invoke(b"{}")

    assert 1 == len(api.received)


async def test_without_credentials_nothing_is_sent(client: HttpClient) -> None:
    async with serving(always(GOOD)) as upstream:
        with pytest.raises(NotReady):
            await carrier(client, upstream, FakeSource()).invoke(b"{}")

    assert 0 == upstream.connections


async def test_new_credentials_are_used_from_the_next_call_on(client: HttpClient) -> None:
    api, source = FakeLambda(GOOD), FakeSource(OLD, NEW)
    async with serving(api) as upstream:
        invoke = carrier(client, upstream, source)
        await invoke.invoke(b"{}")
        await source.refresh_now(OLD)
        await invoke.invoke(b"{}")

    assert ["OLD", "NEW"] == [
        request.fields["authorization"].partition("Credential=")[2].partition("/")[0] for request in api.received
    ]


async def test_name_without_region_takes_that_of_the_settings(client: HttpClient) -> None:
    """function:NAME is called where the profile says, at the endpoint that it names, below its path."""
    api = FakeLambda(GOOD)
    async with serving(api) as upstream:
        source = FakeSource(
            OLD,
            settings=AwsSettings("ap-south-1", lambda_endpoint=f"{upstream.origin}/prefix/"),
        )
        invoke = LambdaInvoke(FunctionName.from_name("greeter"), client=client, credentials=source, clock=lambda: NOW)
        await invoke.invoke(b"{}")
    (request,) = api.received

    assert "POST /prefix/2015-03-31/functions/greeter/invocations HTTP/1.1" == request.line
    assert "/ap-south-1/lambda/aws4_request" in request.fields["authorization"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (AwsSettings(), "needs a region"),
        (AwsSettings("nowhere at all"), "is not the name of a region"),
        (AwsSettings("eu-west-1", lambda_endpoint="localhost:9001"), "expected http://"),
        (AwsSettings("eu-west-1", lambda_endpoint="http://localhost:0"), "port from 1"),
        (AwsSettings("eu-west-1", lambda_endpoint="http://localhost/?"), r"without \? and #"),
    ],
)
async def test_settings_that_lead_nowhere_say_so(client: HttpClient, settings: AwsSettings, told: str) -> None:
    invoke = LambdaInvoke(
        FunctionName.from_name("greeter"),
        client=client,
        credentials=FakeSource(OLD, settings=settings),
    )
    with pytest.raises(Misconfigured, match=told) as caught:
        await invoke.invoke(b"{}")

    assert not caught.value.may_have_run


async def test_unreadable_authorities_say_so(caplog: pytest.LogCaptureFixture) -> None:
    """The path and the variable are for the operator: they are in the log, once, and not in the callers' messages."""
    client = HttpClient(environment={"AWS_CA_BUNDLE": "/nonexistent/ca.pem"})
    invoke = LambdaInvoke(ARN, client=client, credentials=FakeSource(OLD))
    for _ in range(2):
        with pytest.raises(Misconfigured) as caught:
            await invoke.invoke(b"{}")
        assert "the certificate authorities cannot be read; the bridge's log has the reason" == str(caught.value)
    await client.close()

    (told,) = [record.getMessage() for record in caplog.records]
    assert "AWS_CA_BUNDLE" in told


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        (AwsSettings(), "lambda.eu-west-1.amazonaws.com"),
        (AwsSettings(uses_fips=True), "lambda-fips.eu-west-1.amazonaws.com"),
        (AwsSettings(uses_dual_stack=True), "lambda.eu-west-1.api.aws"),
        (AwsSettings(uses_fips=True, uses_dual_stack=True), "lambda-fips.eu-west-1.api.aws"),
        (AwsSettings(region="us-east-1"), "lambda.eu-west-1.amazonaws.com"),
    ],
)
async def test_endpoint_of_aws_follows_the_arn(client: HttpClient, settings: AwsSettings, host: str) -> None:
    """The ARN's region always wins; FIPS endpoints are used where they are asked for."""
    invoke = LambdaInvoke(ARN, client=client, credentials=FakeSource(OLD, settings=settings))

    assert f"https://{host}" == str(invoke._api._find_way(OLD).pool.origin)


async def test_cancelling_a_call_ends_the_request(client: HttpClient) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.closed()
        gone.set()

    async with serving(script) as upstream, asyncio.timeout(5):
        call = asyncio.get_running_loop().create_task(carrier(client, upstream).invoke(b"{}"))
        await asked.wait()
        call.cancel()
        await gone.wait()

    assert call.cancelled()
