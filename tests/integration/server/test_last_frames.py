"""A connection's last frames reach its client, although the client still sends when the connection ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import trustme
from hyperframe.frame import GoAwayFrame

from bridge.config.schema import Listener, TlsFiles
from bridge.http2.events import ErrorCode
from bridge.http2.interface import EngineLimits
from bridge.http2.native import NativeEngine
from bridge.rpc.address import TcpAddress
from bridge.rpc.call import Call
from tests.support.byte_methods import unary_unary
from tests.support.frames import FrameFactory, body_of, parse, raw
from tests.support.listening import eventually, listening, port_of
from tests.support.serving import echo, serving, wait_for_ever

INITIAL_WINDOW_SIZE = 4
PINGS = raw(0x6, 0, 0, b"12345678") * 50_000
"""850 KB, more than the bridge reads before it has had enough."""


def last_words(port: int, tls: ssl.SSLContext | None, is_answered: threading.Event) -> bytes:
    """All that the server says to a call with a large reply and then, when the call is answered, to too many PINGs. The
    client sends first and reads later.
    """
    make = FrameFactory()
    answered = b""
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so the reply waits at the server
        plain.settimeout(10)
        plain.connect(("127.0.0.1", port))
        sock = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        wide = make.start({INITIAL_WINDOW_SIZE: 1 << 20}) + make.window_update(0, 1 << 20)
        body = [make.data(1, bytes(16_000)) for _ in range(25)]
        sock.sendall(wide + make.headers(1) + b"".join(body) + make.data(1, b"", flags=("END_STREAM",)))
        assert is_answered.wait(10)
        with suppress(ConnectionError, ssl.SSLError):
            sock.sendall(PINGS)
        with suppress(ConnectionError, ssl.SSLError):
            while part := sock.recv(1 << 16):
                answered += part
        sock.close()
    return answered


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def server_files(authority: trustme.CA, folder: Path) -> TlsFiles:
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    return TlsFiles(folder / "tls.crt", folder / "tls.key")


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
async def test_goaway_reaches_a_client_that_still_sends(
    tmp_path: Path, authority: trustme.CA, *, has_tls: bool
) -> None:
    """And no TCP reset takes it away, however late the client reads."""
    files = server_files(authority, tmp_path) if has_tls else None
    context = client_context(authority) if has_tls else None
    is_answered = threading.Event()

    async def answer(call: Call) -> None:
        await echo(call)
        is_answered.set()

    served = serving(answer, new_engine=NativeEngine)
    async with listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=files)) as server:
        answered = await asyncio.to_thread(last_words, port_of(server), context, is_answered)
        await eventually(lambda: not server.connections)

    goaway = parse(answered)[-1]
    assert isinstance(goaway, GoAwayFrame)
    assert ErrorCode.ENHANCE_YOUR_CALM == goaway.error_code
    assert b"too_many_pings" == goaway.additional_data
    assert 400_000 == len(body_of(parse(answered), 1))


@pytest.mark.parametrize("sends_on", [False, True])
async def test_a_client_that_does_not_close_is_left_soon(*, sends_on: bool) -> None:
    """It has half a second; what it sends is dropped meanwhile, and too much of it ends the wait."""
    served = serving(wait_for_ever, new_engine=NativeEngine)
    async with listening(served) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        make = FrameFactory()
        writer.write(make.start() + make.headers(1) + make.data(7, b"no stream"))
        await reader.read()  # up to the end of the server's side; ours stays open
        try:
            while sends_on:
                writer.write(bytes(1 << 20))
                await writer.drain()
        except ConnectionError:
            pass
        await eventually(lambda: not server.connections)
        writer.close()


async def test_calls_end_with_the_reason_when_a_client_pings_too_often() -> None:
    """grpcio, with a keepalive faster than the server allows: each call gets a status that says so."""
    limits = EngineLimits(min_ping_interval=300.0)
    served = serving(wait_for_ever, new_engine=NativeEngine, engine=limits)
    eager = [
        ("grpc.keepalive_time_ms", 50),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with (
        listening(served) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{port_of(server)}", eager) as channel,
    ):
        calls = [unary_unary(channel, "/a.B/C")(b"", timeout=30) for _ in range(5)]
        ends = await asyncio.gather(*calls, return_exceptions=True)

    for end in ends:
        assert isinstance(end, grpc.aio.AioRpcError)
        assert grpc.StatusCode.UNAVAILABLE == end.code()
        assert "too_many_pings" in f"{end.details()} {end.debug_error_string()}".lower()
