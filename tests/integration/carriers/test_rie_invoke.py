"""`quirks: rie`: against what AWS's local emulator answers (its source: internal/lambda/rie/handlers.go)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.aws import rie
from bridge.aws.arn import FunctionName
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.rie_invoke import RieInvoke
from bridge.config.load import parse
from bridge.rpc.errors import FunctionFailed, FunctionTimedOut, RpcError, ServiceFailed
from bridge.rpc.figures import TargetFigures
from bridge.rpc.url import Url
from bridge.targets.builder import Targets
from tests.support.upstream import Peer, ReceivedRequest, response, serving

ARN = FunctionName.from_arn("arn:aws:lambda:eu-west-1:123456789012:function:orders:live")


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={})
    yield made
    await made.close()


class Emulator:
    """Answers every request with the same bytes."""

    def __init__(self, body: bytes, status: str = "200 OK") -> None:
        self._body, self._status = body, status
        self.received: list[ReceivedRequest] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            self.received.append(await peer.request())
            await peer.send(response(self._body, status=self._status))


async def test_the_path_is_the_emulators_own(client: HttpClient) -> None:
    """Neither account nor qualifier: relatives refuse any query."""
    emulator = Emulator(b'{"statusCode":200}')
    async with serving(emulator) as upstream:
        carrier = RieInvoke(ARN, client=client, endpoint_url=Url(upstream.origin))
        reply = await carrier.invoke(b"{}")
        await carrier.dry_run()

    assert b'{"statusCode":200}' == reply.payload
    assert ["POST /2015-03-31/functions/function/invocations HTTP/1.1"] == [
        request.line for request in emulator.received
    ]


@pytest.mark.parametrize(
    ("body", "expected", "message"),
    [
        (
            b"Task timed out after 3.00 seconds",
            FunctionTimedOut,
            "orders:live ran out of its own time after 3 s: raise the function's timeout",
        ),
        (
            b'{"errorMessage": "no such order", "errorType": "KeyError", "stackTrace": ["secret"]}',
            FunctionFailed,
            "orders:live failed: KeyError: no such order",
        ),
    ],
)
async def test_failures_come_with_http_200(
    client: HttpClient, body: bytes, expected: type[RpcError], message: str
) -> None:
    async with serving(Emulator(body)) as upstream:
        carrier = RieInvoke(ARN, client=client, endpoint_url=Url(upstream.origin))
        with pytest.raises(expected) as found:
            await carrier.invoke(b"{}")

    assert message == str(found.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"errorType":"Runtime.ExitError","errorMessage":"exit status 3"}', FunctionFailed),
        (b"", ServiceFailed),
        (b"out of order", ServiceFailed),
    ],
)
async def test_a_process_that_ended_comes_with_http_502(
    client: HttpClient, body: bytes, expected: type[RpcError]
) -> None:
    """It was taken for a fault of Lambda itself, UNAVAILABLE. A relative that says nothing still is."""
    async with serving(Emulator(body, "502 Bad Gateway")) as upstream:
        carrier = RieInvoke(ARN, client=client, endpoint_url=Url(upstream.origin))
        with pytest.raises(expected):
            await carrier.invoke(b"{}")


@pytest.mark.parametrize(("ignore", "place"), [("", "http://127.0.0.1:9001"), ("true", rie.ENDPOINT)])
async def test_the_environment_moves_the_emulator_unless_it_says_to_ignore_that(ignore: str, place: str) -> None:
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9001", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": ignore}
    text = "services: {t.S: {target: 'function:f', quirks: rie}}"
    config = parse(text, file="bridge.yaml", folder=Path.cwd(), environ=environ)
    targets = Targets(config, described={}, environ=environ, local_endpoint="")
    service = config.services["t.S"]
    targets.of(service, service.legs[0], TargetFigures("f"))
    carrier = targets.invocations[0].carrier
    await targets.close()

    assert isinstance(carrier, RieInvoke)
    assert Url.parse(place) == carrier.endpoint_url
