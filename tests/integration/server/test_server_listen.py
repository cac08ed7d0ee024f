"""Where the server listens: TCP, Unix sockets, TLS with its certificates; and who knocks with the wrong protocol."""

import asyncio
import os
import re
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import trustme

from bridge.config.schema import Listener, TlsFiles
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.native import NativeEngine
from bridge.http2.preface import PREFACE
from bridge.rpc.address import Address, TcpAddress, UnixAddress
from bridge.rpc.call import Call, Peer
from bridge.rpc.envelope import envelope
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Message
from bridge.server.server import Server, ServerTimes, bind
from tests.support.byte_methods import unary_unary
from tests.support.listening import LOCALHOST, dialled, eventually, listening, port_of
from tests.support.serving import serving

_METHOD = "/a.B/C"
_HELLO = envelope(b"hello")
_ENGINES: list[Callable[[EngineLimits], Engine]] = [H2Engine, NativeEngine]


@pytest.fixture(params=_ENGINES, ids=["h2", "native"])
def new_engine(request: pytest.FixtureRequest) -> Callable[[EngineLimits], Engine]:
    engine: Callable[[EngineLimits], Engine] = request.param
    return engine


class Peers:
    """A handler that notes who calls."""

    def __init__(self) -> None:
        self.seen: list[Peer] = []

    async def __call__(self, call: Call) -> None:
        self.seen.append(call.peer)
        body = await call.read_all()
        call.send(EMPTY_HEADERS)
        call.send(Message(body))
        call.send(OK_TRAILERS)


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (TcpAddress("127.0.0.1", 50051), "127.0.0.1:50051"),
        (TcpAddress("::1", 50051), "[::1]:50051"),
        (UnixAddress(Path("/run/bridge.sock")), "unix:/run/bridge.sock"),
    ],
)
def test_address_reads_as_it_is_configured(address: Address, text: str) -> None:
    """With brackets around IPv6."""
    assert text == str(address)


async def test_port_in_use_is_an_os_error() -> None:
    """Another bridge listens there."""
    async with listening(serving()) as server:
        with pytest.raises(OSError, match="in use"):
            bind(Listener(TcpAddress("127.0.0.1", port_of(server))))


def test_name_that_does_not_resolve_is_an_os_error() -> None:
    """A misspelt host."""
    with pytest.raises(OSError):
        bind(Listener(TcpAddress("host.invalid", 0)))


async def test_ipv6_is_listened_on() -> None:
    """Where the machine has it."""
    try:
        address = Listener(TcpAddress("::1", 0))
        bind(address).close()
    except OSError:
        pytest.skip("no IPv6 here")
    peers = Peers()
    async with (
        listening(serving(peers), address) as server,
        grpc.aio.insecure_channel(server.addresses[0]) as channel,
    ):
        answer = await unary_unary(channel, _METHOD)(b"hello", timeout=5)

    assert (b"hello", [Peer("::1")]) == (answer, peers.seen)


async def test_several_listeners_serve_side_by_side(tmp_path: Path) -> None:
    """Each under the address that it was bound to."""
    addresses = [LOCALHOST, Listener(UnixAddress(tmp_path / "bridge.sock"))]
    server = Server(serving(), [bind(address) for address in addresses])
    await server.start()
    for name in server.addresses:
        async with grpc.aio.insecure_channel(name) as channel:
            assert b"x" == await unary_unary(channel, _METHOD)(b"x", timeout=5)
    await server.close()

    assert f"unix:{tmp_path}/bridge.sock" == server.addresses[1]


# -- Unix sockets -----------------------------------------------------------------------------------------------------


async def test_unix_socket(tmp_path: Path) -> None:
    """Its clients have no address; its path goes with the server."""
    path = tmp_path / "bridge.sock"
    peers = Peers()
    async with (
        listening(serving(peers), Listener(UnixAddress(path))),
        grpc.aio.insecure_channel(f"unix:{path}") as channel,
    ):
        answer = await unary_unary(channel, _METHOD)(b"hello", timeout=5)

    assert (b"hello", [Peer("unix")]) == (answer, peers.seen)
    assert not path.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
def test_a_unix_socket_has_its_mode_whatever_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    """It has it before it listens: nobody connects by other permissions."""
    path = tmp_path / "bridge.sock"
    former = os.umask(umask)
    try:
        sock = bind(Listener(UnixAddress(path), mode=mode)).sock
    finally:
        os.umask(former)
    with sock, socket.socket(socket.AF_UNIX) as client:
        assert mode == stat.S_IMODE(path.stat().st_mode)
        with pytest.raises(ConnectionRefusedError):
            client.connect(str(path))


async def test_dead_unix_socket_is_replaced(tmp_path: Path) -> None:
    """Left behind by a process that was killed."""
    path = tmp_path / "bridge.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with (
        listening(serving(), Listener(UnixAddress(path))),
        grpc.aio.insecure_channel(f"unix:{path}") as channel,
    ):
        assert b"x" == await unary_unary(channel, _METHOD)(b"x", timeout=5)


async def test_live_unix_socket_is_not(tmp_path: Path) -> None:
    """Even if its queue is full."""
    path = tmp_path / "bridge.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(0)
        with pytest.raises(OSError, match="in use"):
            bind(Listener(UnixAddress(path)))
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(str(path))
        with pytest.raises(OSError, match="in use"):
            bind(Listener(UnixAddress(path)))
        for each in waiting:
            each.close()

    assert path.exists()


def test_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    """It is no socket; whose it is we do not know."""
    path = tmp_path / "bridge.sock"
    path.write_text("precious")

    with pytest.raises(OSError, match="in use"):
        bind(Listener(UnixAddress(path)))
    assert "precious" == path.read_text()


# -- the wrong protocol -----------------------------------------------------------------------------------------------


async def test_http1_request_is_answered_400(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """In its own language, saying what this port speaks."""
    served = serving(new_engine=new_engine)
    async with listening(served) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"this port speaks gRPC over HTTP/2" in answer
    assert 1 == served.figures.protocol_errors["http1"]


async def test_garbage_is_cut_off(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """A TLS client on a plain port, say."""
    served = serving(new_engine=new_engine)
    async with listening(served) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: not server.connections)

    assert 1 == served.figures.protocol_errors["tls"] + served.figures.protocol_errors["protocol"]


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> TlsFiles:
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    _issue(authority, tmp_path)
    return TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key")


def _issue(authority: trustme.CA, folder: Path) -> None:
    """New files in the place of the old ones, as a renewal leaves them."""
    issued = authority.issue_cert("localhost", common_name="bridge")
    for name, content in (
        ("tls.key", issued.private_key_pem),
        ("tls.crt", issued.cert_chain_pems[0]),
    ):
        content.write_to_path(folder / f"new-{name}")
        (folder / f"new-{name}").rename(folder / name)


def _client_tls(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def _credentials(authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    root = authority.cert_pem.bytes()
    if certificate is None:
        return grpc.ssl_channel_credentials(root)
    chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
    return grpc.ssl_channel_credentials(root, certificate.private_key_pem.bytes(), chain)


def _secure_channel(server: Server, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(f"localhost:{port_of(server)}", credentials)


async def test_tls_with_http2_by_alpn(
    files: TlsFiles, authority: trustme.CA, new_engine: Callable[[EngineLimits], Engine]
) -> None:
    """grpcio insists on it; messages larger than one TLS read come through whole."""
    peers = Peers()
    served = serving(peers, new_engine=new_engine)
    async with (
        listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=files)) as server,
        _secure_channel(server, _credentials(authority)) as channel,
    ):
        method = unary_unary(channel, _METHOD)
        answers = await asyncio.gather(*(method(bytes([number]) * 700_000, timeout=10) for number in range(4)))

    assert [bytes([number]) * 700_000 for number in range(4)] == answers
    assert [Peer("127.0.0.1")] * 4 == peers.seen


async def test_alpn_names_h2(files: TlsFiles, authority: trustme.CA) -> None:
    """Out of what the client offers."""
    async with listening(serving(), Listener(TcpAddress("127.0.0.1", 0), tls=files)) as server:
        tls = _client_tls(authority, "http/1.1", "h2")
        async with dialled(server, tls=tls) as client:
            chosen = client.writer.get_extra_info("ssl_object").selected_alpn_protocol()
            stream = client.h2.call(_HELLO)
            await client.until(lambda: client.h2.replies[stream].has_ended)

    assert "h2" == chosen


async def test_https_request_is_answered_400(files: TlsFiles, authority: trustme.CA) -> None:
    """A browser that found the port."""
    async with listening(serving(), Listener(TcpAddress("127.0.0.1", 0), tls=files)) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port_of(server), ssl=_client_tls(authority), server_hostname="localhost"
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_verified_client_certificate_is_the_peers(files: TlsFiles, authority: trustme.CA) -> None:
    """Mutual TLS: subject, issuer, serial number and validity reach the call."""
    mutual = TlsFiles(files.cert, files.key, files.cert.with_name("ca.crt"))
    client_certificate = authority.issue_cert("client@example.org", common_name="client, inc")
    peers = Peers()
    async with (
        listening(serving(peers), Listener(TcpAddress("127.0.0.1", 0), tls=mutual)) as server,
        _secure_channel(server, _credentials(authority, client_certificate)) as channel,
    ):
        await unary_unary(channel, _METHOD)(b"", timeout=5)
    (peer,) = peers.seen

    assert peer.certificate is not None
    assert client_certificate.cert_chain_pems[0].bytes().strip() == peer.certificate.pem.encode().strip()
    assert peer.certificate.subject.startswith("CN=client\\, inc,")
    assert "trustme" in peer.certificate.issuer
    assert peer.certificate.not_after.endswith(" GMT")
    assert all(len(pair) == 2 for pair in peer.certificate.serial_number.split(":"))


async def test_client_without_a_certificate_is_refused(files: TlsFiles, authority: trustme.CA) -> None:
    """And one whose certificate comes from elsewhere; neither makes a connection."""
    mutual = TlsFiles(files.cert, files.key, files.cert.with_name("ca.crt"))
    stranger = trustme.CA().issue_cert("stranger@example.org")
    served = serving()
    async with listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=mutual)) as server:
        for credentials in (_credentials(authority), _credentials(authority, stranger)):
            async with _secure_channel(server, credentials) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await unary_unary(channel, _METHOD)(b"", timeout=5)
            assert grpc.StatusCode.UNAVAILABLE is caught.value.code()

    assert 0 == served.figures.connections_accepted


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_failed_handshake_is_told_to_both_sides(
    files: TlsFiles,
    authority: trustme.CA,
    version: ssl.TLSVersion,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client gets TLS's own alert and not a mere reset; the log has the reason once a second, the figures each
    time.
    """
    caplog.set_level("INFO", logger="bridge")
    mutual = TlsFiles(files.cert, files.key, files.cert.with_name("ca.crt"))
    tls = _client_tls(authority, "h2")
    tls.minimum_version = tls.maximum_version = version
    served = serving()

    def shake_hands(port: int) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            try:
                with tls.wrap_socket(plain, server_hostname="localhost") as secured:
                    secured.recv(1)
            except ssl.SSLError as error:
                return str(error.reason)
        return "no alert"

    async with listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=mutual)) as server:
        told = [await asyncio.to_thread(shake_hands, port_of(server)) for _ in range(3)]
        await eventually(lambda: not server.connections)

    assert all("ALERT" in reason for reason in told), told
    assert 3 == served.figures.protocol_errors["tls_handshake"]
    assert 1 <= caplog.text.count("failed: the client showed no certificate") < 3
    assert re.search(r"a TLS handshake of 127\.0\.0\.1 at 127\.0\.0\.1:\d+ failed", caplog.text)


async def test_what_is_no_tls_is_closed_at_once(files: TlsFiles, caplog: pytest.LogCaptureFixture) -> None:
    """It would not know an alert, and may wait for ever. The log names it, and says what it is."""
    caplog.set_level("INFO", logger="bridge")
    served = serving()
    async with listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=files)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()

    assert 1 == served.figures.protocol_errors["tls_handshake"]
    assert re.search(r"handshake of 127\.0\.0\.1 .* failed: an HTTP/1\.1 client without TLS", caplog.text)


async def test_plaintext_grpc_at_a_tls_port_is_named(files: TlsFiles, caplog: pytest.LogCaptureFixture) -> None:
    """HTTP/2's preface is what OpenSSL calls a wrong version."""
    caplog.set_level("INFO", logger="bridge")
    served = serving()
    async with listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=files)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(PREFACE)
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()

    assert re.search(r"handshake of 127\.0\.0\.1 .* failed: a plaintext client", caplog.text)


async def test_a_handshake_that_takes_too_long_is_told(files: TlsFiles, caplog: pytest.LogCaptureFixture) -> None:
    """A client that connects and says nothing."""
    caplog.set_level("INFO", logger="bridge")
    served = serving()
    quick = ServerTimes(tls_handshake=0.05)
    async with listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=files), times=quick) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
        await eventually(lambda: served.figures.protocol_errors["tls_handshake"] == 1)

    assert re.search(r"handshake of 127\.0\.0\.1 .* failed: it was not over after 0\.05 s", caplog.text)


async def test_a_client_that_does_not_trust_our_certificate_is_named(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    """It tells us by an alert."""
    caplog.set_level("INFO", logger="bridge")
    stranger = ssl.create_default_context()
    served = serving()

    def shake_hands(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            stranger.wrap_socket(plain, server_hostname="localhost")

    async with listening(served, Listener(TcpAddress("127.0.0.1", 0), tls=files)) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(shake_hands, port_of(server))
        await eventually(lambda: served.figures.protocol_errors["tls_handshake"] == 1)

    assert re.search(r"handshake of 127\.0\.0\.1 .* failed: the client does not trust our certificate", caplog.text)


async def test_tls_at_a_plaintext_port_has_one_line(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """As an HTTP/1.1 client has."""
    refused: list[tuple[str, str]] = []
    served = replace(
        serving(new_engine=new_engine),
        refused=lambda refusal, connection: refused.append((refusal.kind, connection.peer.address)),
    )
    async with listening(served, Listener(TcpAddress("127.0.0.1", 0))) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(
                "127.0.0.1", port_of(server), ssl=ssl.create_default_context(), server_hostname="localhost"
            )
        await eventually(lambda: bool(refused))

    assert [("tls", "127.0.0.1")] == refused


_QUICK_RELOAD = ServerTimes(tick=0.01, tls_check_ticks=1)


async def test_renewed_certificate_is_taken_up(
    files: TlsFiles, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """New connections see it, old ones live on, the port stays."""
    caplog.set_level("INFO", logger="bridge")
    async with listening(serving(), Listener(TcpAddress("127.0.0.1", 0), tls=files), times=_QUICK_RELOAD) as server:
        tls = _client_tls(authority, "h2")
        async with dialled(server, tls=tls) as old:
            await old.until(lambda: old.h2.has_server_settings)
            _issue(authority, files.cert.parent)
            await eventually(lambda: "new certificate taken up" in caplog.text)
            async with dialled(server, tls=tls) as new:
                shown = [_certificate(client.writer) for client in (old, new)]
                streams = [client.h2.call(_HELLO) for client in (old, new)]
                await old.until(lambda: old.h2.replies[streams[0]].has_ended)
                await new.until(lambda: new.h2.replies[streams[1]].has_ended)

    assert shown[0] != shown[1]
    assert ssl.PEM_cert_to_DER_cert(files.cert.read_text()) == shown[1]


def _certificate(writer: asyncio.StreamWriter) -> bytes:
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return shown


async def test_bad_certificate_leaves_the_old_one(
    files: TlsFiles, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, not one a tick; when the files are right again they are taken up."""
    caplog.set_level("INFO", logger="bridge")
    good = files.cert.read_bytes()
    async with listening(serving(), Listener(TcpAddress("127.0.0.1", 0), tls=files), times=_QUICK_RELOAD) as server:
        files.cert.write_text("rubbish")
        await eventually(lambda: "the old one stays" in caplog.text)
        async with dialled(server, tls=_client_tls(authority, "h2")) as client:
            await client.until(lambda: client.h2.has_server_settings)
        files.cert.write_bytes(good)
        os.utime(files.cert, ns=(1, 1))
        await eventually(lambda: "new certificate taken up" in caplog.text)

    assert 1 == caplog.text.count("the old one stays")


async def test_server_that_cannot_use_its_certificate_does_not_start(files: TlsFiles, tmp_path: Path) -> None:
    """And leaves no socket behind, not even of the listener before it."""
    path = tmp_path / "bridge.sock"
    addresses = [Listener(UnixAddress(path)), Listener(TcpAddress("127.0.0.1", 0), tls=files)]
    files.key.unlink()
    server = Server(serving(), [bind(address) for address in addresses])

    with pytest.raises(OSError):
        await server.start()
    assert not path.exists()
