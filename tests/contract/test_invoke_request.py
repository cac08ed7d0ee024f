"""Our Invoke request beside the one that boto3 makes for the same call, received by the same server."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest
from botocore import auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials

from bridge.aws.arn import FunctionName
from bridge.aws.durable import NAME_HEADER
from bridge.aws.sigv4 import Credentials
from bridge.aws.tenancy import TENANT_HEADER
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.identity.credentials import AwsSettings, FixedCredentials
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.rpc.url import Url
from tests.support.upstream import Peer, ReceivedRequest, response, serving

KEYS = Credentials("AKID", "secret/key+", "session/token+==")
CONTEXT = "eyJjdXN0b20iOnsiYSI6ImIifX0="

HEADERS = {"ClientContext": "x-amz-client-context", "TenantId": TENANT_HEADER, "DurableExecutionName": NAME_HEADER}
"""By the SDK's parameter."""


def invoke_with_boto3(url: str, function: str, payload: bytes, options: dict[str, str]) -> bytes:
    client = boto3.client(
        "lambda",
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
        aws_session_token=KEYS.token,
        config=Config(retries={"total_max_attempts": 1}),
    )
    answer: bytes = client.invoke(FunctionName=function, Payload=payload, **options)["Payload"].read()
    client.close()
    return answer


def expected_authorization(request: ReceivedRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What botocore would sign for the headers that the request says it has signed, at its own time."""
    from datetime import datetime

    fields = request.fields
    signed = fields["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    at = datetime.strptime(fields["x-amz-date"], "%Y%m%dT%H%M%SZ")  # noqa: DTZ007 - botocore's clock is naive
    monkeypatch.setattr(auth, "get_current_datetime", lambda: at)
    method, target, _ = request.line.split(" ")
    again = AWSRequest(method, f"http://{fields['host']}{target}", data=request.body)
    for name in signed:
        again.headers[name] = fields[name]
    keys = BotocoreCredentials(KEYS.access_key, KEYS.secret_key, KEYS.token)
    SigV4Auth(keys, "lambda", "eu-west-1").add_auth(again)
    return str(again.headers["Authorization"])


@pytest.mark.parametrize(
    "function",
    [
        "greeter",
        "greeter:live",
        "greeter:$LATEST",
        "arn:aws:lambda:eu-west-1:123456789012:function:greeter",
        "arn:aws:lambda:eu-west-1:123456789012:function:greeter:7",
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ClientContext": CONTEXT},
        {"TenantId": "acme: blue/green=1+1 a-b_c.d@example.com"},
        {"DurableExecutionName": "order_7-A"},
        {"TenantId": "acme  two spaces", "ClientContext": CONTEXT},
    ],
)
async def test_request_is_boto3s(function: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same path, qualifier, tenant, context and payload, and a signature that botocore confirms."""
    received: list[ReceivedRequest] = []

    async def script(peer: Peer) -> None:
        while True:
            received.append(await peer.request())
            await peer.send(response(b'"ok"'))

    is_arn = function.startswith("arn:")
    parsed = FunctionName.from_arn(function) if is_arn else FunctionName.from_name(function)
    name = function.removesuffix(f":{parsed.qualifier}") if parsed.qualifier else function
    options: dict[str, Any] = {"Qualifier": parsed.qualifier} if parsed.qualifier else {}
    options |= more
    async with serving(script) as upstream:
        url = str(upstream.origin)
        theirs_read = await asyncio.to_thread(invoke_with_boto3, url, name, b'{"a":1}', options)
        client = HttpClient(environment={})
        source = FixedCredentials(KEYS, AwsSettings(region="eu-west-1"))
        carrier = LambdaInvoke(parsed, client=client, credentials=source, endpoint_url=Url.parse(url))
        ours_read = await carrier.invoke(
            b'{"a":1}', headers=tuple((HEADERS[key], value) for key, value in more.items())
        )
        await client.close()
    theirs, ours = received

    assert theirs_read == ours_read.payload
    assert theirs.line == ours.line
    assert theirs.body == ours.body
    for name in ("host", "content-length", *HEADERS.values(), "x-amz-security-token"):
        assert theirs.fields.get(name) == ours.fields.get(name)
    assert expected_authorization(theirs, monkeypatch) == theirs.fields["authorization"]
    assert expected_authorization(ours, monkeypatch) == ours.fields["authorization"]
