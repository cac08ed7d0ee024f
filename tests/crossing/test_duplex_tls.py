"""Functions that connect by TLS, which they must wherever the bridge is not on loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.duplex_chat import CALLS, SLEEP, all_of, chatting, configured, function, metric, statuses
from tests.support.programs import free_port

pytestmark = pytest.mark.slow


def _own_address() -> str:
    """An address of this machine that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        try:
            found.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        address: str = found.getsockname()[0]
        return address


def _configured(folder: Path, kind: str) -> dict[str, Any]:
    """`kind`: whose certificate the bridge shows."""
    address = _own_address()
    tokens = {"TELLS_TOKENS": str(folder / "tokens")}
    listener: dict[str, Any] = {"listen": f"{address}:{free_port()}"}
    if kind != "its own":
        authority = trustme.CA()
        issued = authority.issue_cert(address if kind == "of an authority" else "another.internal")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / "bridge.pem")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        tokens["SSL_CERT_FILE"] = str(folder / "ca.pem")  # in place of the function's system's
        listener["tls"] = {"cert": str(folder / "bridge.pem"), "key": str(folder / "bridge.pem")}
    return configured(duplex=listener, functions={"chat": function(env=tokens)})


@pytest.fixture(scope="module", params=["its own", "of an authority"])
def bridge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder = tmp_path_factory.mktemp("tls")
    with running_bridge(folder, _configured(folder, request.param)) as running:
        yield running


async def test_200_calls_pass_by_tls(bridge: RunningBridge) -> None:
    async with chatting(bridge.address) as chats:
        for _ in range(3):
            await all_of(chat.ask() for chat in chats)
        assert 4 == metric(bridge, "bridge_attached_instances")
        assert {grpc.StatusCode.OK: CALLS} == statuses(await all_of(chat.end() for chat in chats))


@pytest.mark.parametrize("kind", ["its own", "of an authority"])
async def test_a_token_gets_nothing_without_tls_or_a_second_time(tmp_path: Path, kind: str) -> None:
    config = _configured(tmp_path, kind)
    host, _, port = config["duplex"]["listen"].rpartition(":")
    unverified = ssl._create_unverified_context()  # an attacker does not mind whose it is
    with running_bridge(tmp_path, config) as bridge:
        async with chatting(bridge.address, 1) as (chat,):
            (token,) = (tmp_path / "tokens").read_text().split()
            for context in (None, unverified):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
                writer.write(f"GLB1 {token} request-1 60000\n".encode())
                assert b"" == await _rest(reader)
                writer.close()
            await chat.ask()
            assert 1 == metric(bridge, "bridge_attached_instances")
            assert 2 == metric(bridge, "bridge_duplex_strangers_total")


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What follows, but for TLS's own word that the line was no handshake."""
    try:
        found = await reader.read()
    except ConnectionError:
        return b""
    return b"" if found[:1] == b"\x15" else found


async def test_a_certificate_of_another_name_is_refused_before_the_token_is_sent(tmp_path: Path) -> None:
    with running_bridge(tmp_path, _configured(tmp_path, "of another name")) as bridge:
        async with grpc.aio.insecure_channel(bridge.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await unary_unary(channel, SLEEP)(b"0")
        assert grpc.StatusCode.UNAVAILABLE is raised.value.code()
        assert "shows a certificate that is not the bridge's" in (raised.value.details() or "")
