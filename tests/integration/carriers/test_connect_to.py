"""`connect_to`: connections lead elsewhere, and everything else is as if they led to the target's own host."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.resolver import Resolver, SocketAddress, look_up
from bridge.rpc.errors import CertificateRefused, Unreachable
from bridge.rpc.figures import TargetFigures
from bridge.rpc.url import ConnectTo, Origin
from bridge.targets.builder import Targets
from tests.support.configured import configured
from tests.support.http2_server import frame_server
from tests.support.tls import Authority
from tests.support.upstream import Peer, always, response, serving

SECURE = Origin("https", "lambda.test", 443)
OK = response(b"hi")
WEB_FUNCTION = "abc.1.lambda-web.eu-west-1.on.aws"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f"


class Names:
    """The host names that clients ask a TLS server for (SNI)."""

    def __init__(self, authority: Authority, *names: str) -> None:
        self.asked: list[str] = []
        self.context = authority.server(*names)
        self.context.sni_callback = self._note

    def _note(self, _socket: object, name: str | None, _context: object) -> None:
        self.asked.append(str(name))


async def only_loopback(host: str, port: int) -> list[SocketAddress]:
    """A target's own name is never looked up."""
    assert host == "127.0.0.1", host
    return await look_up(host, port)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={}, connect_timeout=5, resolver=Resolver(only_loopback))
    yield made
    await made.close()


async def test_the_target_keeps_its_name(client: HttpClient, tmp_path: Path) -> None:
    """In TLS and in the Host header."""
    authority = Authority(tmp_path)
    names, heads = Names(authority, "lambda.test"), []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request()).fields["host"])
        await peer.send(OK)

    async with serving(script, tls=names.context) as upstream:
        connect_to = ConnectTo("127.0.0.1", upstream.origin.port)
        pool = client.pool(SECURE, authority.client(), connect_to=connect_to)
        answer = await pool.exchange(b"GET / HTTP/1.1\r\nhost: lambda.test\r\n\r\n", max_body=10)

    assert (b"hi", ["lambda.test"], ["lambda.test"]) == (answer.body, names.asked, heads)


async def test_the_port_is_that_of_the_target_unless_said(client: HttpClient) -> None:
    async with serving(always(OK)) as upstream:
        origin = Origin("http", "service.test", upstream.origin.port)
        pool = client.pool(origin, connect_to=ConnectTo("127.0.0.1"))
        answer = await pool.exchange(b"GET / HTTP/1.1\r\nhost: service.test\r\n\r\n", max_body=10)

    assert b"hi" == answer.body


async def test_the_certificate_must_be_the_targets(client: HttpClient, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(always(OK), tls=authority.server("127.0.0.1", "vpce.test")) as upstream:
        connect_to = ConnectTo("127.0.0.1", upstream.origin.port)
        pool = client.pool(SECURE, authority.client(), connect_to=connect_to)
        with pytest.raises(CertificateRefused, match=r"connect_to of lambda\.test:443.*another host"):
            await pool.connect()


async def test_a_failure_names_both_places(client: HttpClient) -> None:
    pool = client.pool(SECURE, connect_to=ConnectTo("127.0.0.1", 1))
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 \(connect_to of lambda\.test:443\)"):
        await pool.connect()


async def test_connections_to_several_places_are_not_mixed(client: HttpClient) -> None:
    """The same origin, called over two places and directly."""
    async with serving(always(response(b"a"))) as one, serving(always(response(b"b"))) as other:
        own = Origin("http", "127.0.0.1", one.origin.port)
        ways = [None, ConnectTo("127.0.0.1", other.origin.port), ConnectTo("127.0.0.1", one.origin.port)]
        pools = [client.pool(own, connect_to=way) for way in ways]
        head = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        bodies = [(await pool.exchange(head, max_body=10)).body for pool in (*pools, *pools)]

        assert [b"a", b"b", b"a"] * 2 == bodies
        assert 3 == len(set(pools))
        assert pools == [client.pool(own, connect_to=way) for way in ways]
        assert (2, 1) == (one.connections, other.connections)


@pytest.mark.parametrize("origin", [SECURE, Origin("http", "service.test", 80)], ids=str)
async def test_proxies_lead_to_the_place(origin: Origin) -> None:
    """Also for plain HTTP: in the usual form a proxy would look for the target's own host."""
    heads: list[bytes] = []

    async def refuse(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(b"HTTP/1.1 403 no\r\n\r\n")

    async with serving(refuse) as proxy:
        url = f"http://{proxy.origin.address}"
        client = HttpClient(environment={"HTTPS_PROXY": url, "HTTP_PROXY": url}, connect_timeout=5)
        with pytest.raises(Unreachable, match="refuses to connect to vpce"):
            await client.pool(origin, connect_to=ConnectTo("vpce.test", 444)).connect()
        await client.close()

    assert [b"CONNECT vpce.test:444 HTTP/1.1"] == [head.partition(b"\r\n")[0] for head in heads]


@asynccontextmanager
async def http_server(tls: ssl.SSLContext) -> AsyncIterator[int]:
    async with serving(always(response(b"", status="204 No Content")), tls=tls) as upstream:
        yield upstream.origin.port


@asynccontextmanager
async def grpc_server(tls: ssl.SSLContext) -> AsyncIterator[int]:
    tls.set_alpn_protocols(["h2"])
    async with frame_server(tls=tls) as server:
        yield int(str(server.address).rpartition(":")[2])


@pytest.mark.parametrize(
    ("target", "name", "keys", "server"),
    [
        (
            "https://abc.1.lambda-web.eu-west-1.on.aws",
            "abc.1.lambda-web.eu-west-1.on.aws",
            "tls: {ca: ca.pem}",
            http_server,
        ),
        ("grpcs://users.test:443", "users.test", "tls: {ca: ca.pem}", grpc_server),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            "lambda.eu-west-1.amazonaws.com",
            "timeout: 5s",
            http_server,
        ),
    ],
)
async def test_every_kind_of_target_over_tls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    name: str,
    keys: str,
    server: Callable[[ssl.SSLContext], AbstractAsyncContextManager[int]],
) -> None:
    """As configured: the server is asked for the target's name."""
    names = Names(Authority(tmp_path), name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    async with server(names.context) as port:
        text = f"services: {{a.B: {{target: '{target}', connect_to: '127.0.0.1:{port}', {keys}}}}}"
        config = configured(text, folder=tmp_path)
        targets = Targets(config, described={}, environ=os.environ, local_endpoint="")
        targets.start()
        (service,) = config.services.values()
        targets.of(service, service.legs[0], TargetFigures("f"))
        if targets.credentials is not None:
            await targets.credentials.wait_until_ready()
        await targets.invocations[0].carrier.dry_run()
        await targets.close()

    assert [name] == names.asked
