"""TLS towards targets: who is believed, what a refusal says, and sessions that are resumed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.exchange import Response
from bridge.carriers.http1.pool import Pool
from bridge.rpc.errors import CertificateRefused, ConnectionLost, Unreachable
from bridge.rpc.url import Origin
from tests.support.tls import Authority
from tests.support.upstream import Peer, always, answers, in_turn, post, response, serving


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={})
    yield made
    await made.close()


async def ask(pool: Pool, body: bytes = b"") -> Response:
    async with asyncio.timeout(5):
        return await pool.exchange(post(body), body, max_body=8 << 20)


async def test_trusted_server_is_used(client: HttpClient, authority: Authority) -> None:
    """Requests and large responses pass, and the connection is kept."""

    async def echo(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await peer.send(response(request.body))

    body = b"0123456789abcdef" * 200_000
    async with serving(echo, tls=authority.server("localhost")) as upstream:
        pool = client.pool(upstream.origin, authority.client())
        small, large = await ask(pool, b"small"), await ask(pool, body)

    assert (b"small", body) == (small.body, large.body)
    assert 1 == upstream.connections


@pytest.mark.parametrize(
    ("name", "trusted", "fault"),
    [("elsewhere.test", True, "it is for another host"), ("localhost", False, "its authority is not trusted here")],
)
async def test_certificate_that_does_not_verify_is_refused(
    client: HttpClient, authority: Authority, tmp_path: Path, name: str, trusted: bool, fault: str
) -> None:
    """Another host's certificate and another authority's are refused for good, not to be tried again."""
    (tmp_path / "other").mkdir()
    believed = authority if trusted else Authority(tmp_path / "other")
    async with serving(always(response()), tls=authority.server(name)) as upstream:
        with pytest.raises(CertificateRefused, match=fault) as caught:
            await ask(client.pool(upstream.origin, believed.client()))

    assert (False, False) == (caught.value.may_have_run, caught.value.is_transient)


async def test_unknown_authority_is_refused_by_default(client: HttpClient, authority: Authority) -> None:
    """Without a context the system's authorities count, which do not know ours."""
    async with serving(always(response()), tls=authority.server("localhost")) as upstream:
        with pytest.raises(CertificateRefused):
            await ask(client.pool(upstream.origin))


async def test_bundle_of_the_environment_is_believed(authority: Authority) -> None:
    """AWS_CA_BUNDLE names the authorities, as for boto3."""
    client = HttpClient(environment={"AWS_CA_BUNDLE": str(authority.certificate)})
    async with serving(always(response(b"hi")), tls=authority.server("localhost")) as upstream:
        answer = await ask(client.pool(upstream.origin))
    await client.close()

    assert b"hi" == answer.body


async def test_server_without_tls_is_unreachable(client: HttpClient, authority: Authority) -> None:
    """A plain server at an https origin is not an answer, and nothing ran."""

    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await peer.closed()

    async with serving(plain) as upstream:
        secure = Origin("https", "localhost", upstream.origin.port)
        with pytest.raises(Unreachable):
            await ask(client.pool(secure, authority.client()))


async def test_server_that_hangs_up_in_the_handshake_is_unreachable(client: HttpClient, authority: Authority) -> None:
    async def rude(peer: Peer) -> None:
        peer.reset()

    async with serving(rude) as upstream:
        secure = Origin("https", "localhost", upstream.origin.port)
        with pytest.raises(Unreachable):
            await ask(client.pool(secure, authority.client()))


async def test_second_connection_resumes_the_session(client: HttpClient, authority: Authority) -> None:
    """After an answer a new connection to the same host spares both sides the certificates."""
    resumed = []
    both_here = asyncio.Barrier(2)

    async def first(peer: Peer) -> None:
        resumed.append(peer.has_resumed())
        await peer.request()
        await peer.send(response(b"first"))
        await peer.request()
        await both_here.wait()
        await peer.send(response(b"later"))

    async def second(peer: Peer) -> None:
        resumed.append(peer.has_resumed())
        await peer.request()
        await both_here.wait()
        await peer.send(response(b"later"))

    async with serving(in_turn(first, second), tls=authority.server("localhost")) as upstream:
        pool = client.pool(upstream.origin, authority.client())
        await ask(pool)
        await asyncio.gather(ask(pool), ask(pool))

    assert [False, True] == resumed


async def test_cut_without_goodbye_is_no_end_of_a_body(client: HttpClient, authority: Authority) -> None:
    """A body that ends with the connection is whole only if TLS said that it ends."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\npart of ")
        await asyncio.sleep(0.02)
        peer.reset()

    async with serving(cut, tls=authority.server("localhost")) as upstream:
        with pytest.raises(ConnectionLost):
            await ask(client.pool(upstream.origin, authority.client()))


async def test_goodbye_ends_a_body(client: HttpClient, authority: Authority) -> None:
    async def whole(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with serving(whole, tls=authority.server("localhost")) as upstream:
        answer = await ask(client.pool(upstream.origin, authority.client()))

    assert b"all of it" == answer.body


async def test_old_tls_is_not_spoken(client: HttpClient, authority: Authority) -> None:
    """Nothing below TLS 1.2 is agreed on."""
    assert ssl.TLSVersion.TLSv1_2 == authority.client().minimum_version


async def test_cancelling_closes_a_secure_connection(client: HttpClient, authority: Authority) -> None:
    """The server learns at once, over TLS as well."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.closed()
        gone.set()

    async with (
        serving(script, tls=authority.server("localhost")) as upstream,
        asyncio.timeout(5),
    ):
        pool = client.pool(upstream.origin, authority.client())
        call = asyncio.get_running_loop().create_task(ask(pool))
        await asked.wait()
        call.cancel()
        await gone.wait()

    assert call.cancelled()


async def test_idle_secure_connection_that_closed_is_not_used(client: HttpClient, authority: Authority) -> None:
    async with (
        serving(answers(response(b"one")), tls=authority.server("localhost")) as upstream,
        asyncio.timeout(5),
    ):
        pool = client.pool(upstream.origin, authority.client())
        await ask(pool)
        while pool.open_count:
            await asyncio.sleep(0.001)
        await ask(pool)

    assert 2 == upstream.connections
