"""Origins behind an HTTP proxy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.resolver import Resolver, SocketAddress, look_up
from bridge.rpc.errors import Unreachable
from bridge.rpc.url import Origin
from tests.support.tls import Authority
from tests.support.upstream import Peer, ReceivedRequest, Script, always, post, response, serving

SECURE = Origin("https", "lambda.test", 443)
PLAIN = Origin("http", "service.test", 80)


async def no_dns_but_for_the_proxy(host: str, port: int) -> list[SocketAddress]:
    """What lies behind a proxy only the proxy needs to find."""
    assert host == "127.0.0.1"
    return await look_up(host, port)


def through(proxy: Origin, user: str = "") -> HttpClient:
    url = f"http://{user}{proxy.address}"
    return HttpClient(
        environment={"HTTPS_PROXY": url, "HTTP_PROXY": url},
        resolver=Resolver(no_dns_but_for_the_proxy),
        connect_timeout=2.0,
    )


def tunnel_to(target: Origin, received: list[bytes]) -> Script:
    """A proxy that leads every CONNECT to one server."""

    async def script(peer: Peer) -> None:
        received.append(await peer.head())
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        await peer.send(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")
        try:
            await peer.join(reader, writer)
        finally:
            writer.transport.abort()

    return script


async def test_secure_origin_is_reached_through_a_tunnel(tmp_path: Path) -> None:
    """The proxy is asked to CONNECT, and only asked; TLS is with the origin, by its name."""
    authority = Authority(tmp_path)
    connects: list[bytes] = []
    async with (
        serving(always(response(b"hi")), tls=authority.server("lambda.test")) as upstream,
        serving(tunnel_to(upstream.origin, connects)) as proxy,
    ):
        client = through(proxy.origin, "me:secret@")
        pool = client.pool(SECURE, authority.client())
        answers = [await pool.exchange(post(), max_body=9) for _ in range(2)]
        await client.close()

    assert [b"hi", b"hi"] == [answer.body for answer in answers]
    assert [
        b"CONNECT lambda.test:443 HTTP/1.1\r\nhost: lambda.test:443\r\nproxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    ] == connects


async def test_plain_origin_is_named_in_the_request() -> None:
    received: list[ReceivedRequest] = []

    async def script(peer: Peer) -> None:
        received.append(await peer.request())
        await peer.send(response(b"hi"))

    async with serving(script) as proxy:
        client = through(proxy.origin)
        answer = await client.pool(PLAIN).exchange(post(b"x", path="/a"), b"x", max_body=9)
        await client.close()

    assert b"hi" == answer.body
    assert ["POST http://service.test/a HTTP/1.1"] == [request.line for request in received]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nearly bytes",
        b"SSH-2.0-x\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000,
    ],
)
async def test_proxy_that_does_not_lead_there_makes_the_origin_unreachable(answer: bytes) -> None:
    """Refusals, noise and silence of a proxy mean that nothing was sent; its password is not told."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        peer.half_close()
        await peer.closed()

    async with serving(script) as proxy:
        client = through(proxy.origin, "me:hunter2@")
        with pytest.raises(Unreachable) as caught:
            await client.pool(SECURE).exchange(post(), max_body=9)
        await client.close()

    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)
