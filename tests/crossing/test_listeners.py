"""Where and how a bridge is reached: TLS, mutual TLS, a Unix socket, several at once; and who comes with the wrong
protocol.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge
from tests.support.clients import run, tool

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Certificates:
    """Files of a listener, and what clients need."""

    folder: Path
    authority: trustme.CA

    @property
    def server(self) -> dict[str, str]:
        return {"cert": str(self.folder / "tls.crt"), "key": str(self.folder / "tls.key")}

    @property
    def mutual(self) -> dict[str, str]:
        return {**self.server, "client_ca": str(self.folder / "ca.crt")}

    @property
    def ca(self) -> bytes:
        return self.authority.cert_pem.bytes()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "tls.crt", append=True)
    return Certificates(folder, authority)


@pytest.fixture(scope="module")
def bridge(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """Listens four times: plain, TLS, mutual TLS, and on a Unix socket."""
    folder = tmp_path_factory.mktemp("listening")
    listen = [
        {"address": "127.0.0.1:0"},
        {"address": "127.0.0.1:0", "tls": certificates.server},
        {"address": "127.0.0.1:0", "tls": certificates.mutual},
        {"address": f"unix:{folder}/bridge.sock"},
    ]
    with running_bridge(folder, {**EXAMPLES, "listen": listen}) as running:
        yield running


@pytest.fixture(scope="module")
def addresses(bridge: RunningBridge) -> list[str]:
    [line] = [line for line in bridge.lines if "serving gRPC on" in line]
    return line.partition("serving gRPC on ")[2].rstrip('"}').split(", ")


def greet(channel: grpc.Channel) -> str:
    stub = helloworld_pb2_grpc.GreeterStub(channel)
    with channel:
        return str(stub.SayHello(helloworld_pb2.HelloRequest(name="you"), timeout=10).message)


def localhost(address: str) -> str:
    """The name in the certificate."""
    return address.replace("127.0.0.1", "localhost")


def test_all_listeners_are_announced(addresses: list[str]) -> None:
    """With the ports that were chosen."""
    assert 4 == len(addresses)
    assert addresses[3].startswith("unix:/")


def test_tls(addresses: list[str], certificates: Certificates) -> None:
    """The authority's certificate is all that a client needs."""
    credentials = grpc.ssl_channel_credentials(certificates.ca)

    assert "Hello, you!" == greet(grpc.secure_channel(localhost(addresses[1]), credentials))


def test_mutual_tls(addresses: list[str], certificates: Certificates) -> None:
    """A client with a certificate of the authority gets through."""
    issued = certificates.authority.issue_cert("client@example.org")
    credentials = grpc.ssl_channel_credentials(
        certificates.ca,
        private_key=issued.private_key_pem.bytes(),
        certificate_chain=b"".join(blob.bytes() for blob in issued.cert_chain_pems),
    )

    assert "Hello, you!" == greet(grpc.secure_channel(localhost(addresses[2]), credentials))


def test_mutual_tls_without_a_certificate(addresses: list[str], certificates: Certificates) -> None:
    """The handshake fails: no call."""
    credentials = grpc.ssl_channel_credentials(certificates.ca)
    with pytest.raises(grpc.RpcError) as caught:
        greet(grpc.secure_channel(localhost(addresses[2]), credentials))

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()


def test_plain_client_on_a_tls_port(bridge: RunningBridge, addresses: list[str]) -> None:
    """It fails soon, and others are not disturbed."""
    with pytest.raises(grpc.RpcError) as caught:
        greet(grpc.insecure_channel(addresses[1]))

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
    assert "Hello, you!" == greet(grpc.insecure_channel(addresses[0]))


def test_unix_socket(addresses: list[str]) -> None:
    """grpcio takes the address as the bridge writes it."""
    assert "Hello, you!" == greet(grpc.insecure_channel(addresses[3]))


def test_unix_socket_with_grpcurl(addresses: list[str]) -> None:
    """grpcurl's -unix."""
    path = addresses[3].removeprefix("unix:")
    ended = run([tool("grpcurl"), "-plaintext", "-unix", "-d", '{"name": "you"}', path, "helloworld.Greeter/SayHello"])

    assert (0, True) == (ended.returncode, "Hello, you!" in ended.stdout), ended.stderr


def test_http1_request_is_told_what_this_port_speaks(addresses: list[str]) -> None:
    """curl, a browser, a load balancer's health check: 400, in words."""
    host, _, port = addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with client.makefile("rb") as answer:
            whole = answer.read()

    assert whole.startswith(b"HTTP/1.1 400 ")
    assert b"this port speaks gRPC over HTTP/2" in whole


def test_the_socket_is_gone_with_the_bridge(tmp_path: Path) -> None:
    """And one that a killed bridge left behind is no obstacle."""
    path = tmp_path / "bridge.sock"
    config: dict[str, Any] = {**EXAMPLES, "listen": f"unix:{path}"}
    with running_bridge(tmp_path, config) as killed:
        killed.process.kill()
        killed.process.wait(10)
        assert path.exists()
    with running_bridge(tmp_path, config):
        assert "Hello, you!" == greet(grpc.insecure_channel(f"unix:{path}"))

    assert not path.exists()
