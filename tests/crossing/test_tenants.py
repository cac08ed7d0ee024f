"""gRPC clients of several tenants: each has instances of its own, and who names no tenant reaches no function."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import stream_stream, unary_unary
from tests.support.clients import run, tool
from tests.support.programs import free_port
from tests.support.tls import issue_client

pytestmark = pytest.mark.slow

APP = """
import os
import grpc
from lambda_fn import LambdaServer

count = 0

def say(request, context):
    global count
    count += 1
    text = f"{context.lambda_context.tenant_id} {count}".encode()
    return bytes((10, len(text))) + text

def chat(requests, context):
    for request in requests:
        yield f"{context.lambda_context.tenant_id} {os.getpid()}".encode()

server = LambdaServer()
for name in ("ByMetadata", "ByUri", "ByName", "Fixed", "Streamed", "Plain"):
    server.add_registered_method_handlers(f"t.{name}", {"Say": grpc.unary_unary_rpc_method_handler(say)})
server.add_registered_method_handlers("t.Duplex", {"Chat": grpc.stream_stream_rpc_method_handler(chat)})
handler = server.handler
"""

PROTO = """
syntax = "proto3";
package t;
message Request {}
message Reply { string text = 1; }
service ByMetadata { rpc Say(Request) returns (Reply); }
"""

SERVICES: dict[str, Any] = {
    "t.ByMetadata": {"target": "local:f", "tenant": {"metadata": "x-tenant"}},
    "t.Streamed": {"target": "local:f", "tenant": {"metadata": "x-tenant"}, "invoke_mode": "response_stream"},
    "t.ByUri": {"target": "local:f", "tenant": {"certificate": "uri"}},
    "t.ByName": {"target": "local:f", "tenant": {"certificate": "cn"}},
    "t.Fixed": {"target": "local:f", "tenant": "house"},
    "t.Plain": "local:f",
    "t.Duplex": {"target": "local:f", "tenant": {"metadata": "x-tenant"}, "duplex": {"use": "always", "idle": "30s"}},
}


@dataclass(frozen=True)
class Served:
    """A bridge with a plain listener and one that wants certificates."""

    folder: Path
    running: RunningBridge
    authority: trustme.CA
    addresses: Sequence[str]

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.addresses[0])

    def verified(self, **names: Sequence[str]) -> grpc.Channel:
        """A channel of a client with a certificate for these names."""
        key, certificate = issue_client(self.authority, **names)
        credentials = grpc.ssl_channel_credentials(self.authority.cert_pem.bytes(), key, certificate)
        return grpc.secure_channel(self.addresses[1].replace("127.0.0.1", "localhost"), credentials)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("tenants")
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "tls.pem")
    (folder / "tenants_app.py").write_text(APP)
    (folder / "tenants.proto").write_text(PROTO)
    tls = {"cert": str(folder / "tls.pem"), "key": str(folder / "tls.pem"), "client_ca": str(folder / "ca.crt")}
    function = {
        "handler": "tenants_app.handler",
        "code": str(folder),
        "tenants": True,
        "concurrency": 20,
        "timeout": "30s",
    }
    config = {
        "services": SERVICES,
        "functions": {"f": function},
        "health": {"functions": True},
        "duplex": {"listen": f"127.0.0.1:{free_port()}"},
        "listen": [{"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": tls}],
    }
    with running_bridge(folder, config) as running:
        [line] = [line for line in running.lines if "serving gRPC on" in line]
        addresses = line.partition("serving gRPC on ")[2].rstrip('"}').split(", ")
        yield Served(folder, running, authority, addresses)


def _say(channel: grpc.Channel, service: str, *metadata: tuple[str, str]) -> str:
    with channel:
        return unary_unary(channel, f"/{service}/Say")(b"", metadata=metadata, timeout=30)[2:].decode()


def _talk(served: Served, tenant: str) -> list[str]:
    """Ask, read the answer, and ask again: full duplex."""
    questions: queue.Queue[bytes | None] = queue.Queue()
    answers = []
    with served.channel() as channel:
        call = stream_stream(channel, "/t.Duplex/Chat")(
            iter(questions.get, None), metadata=(("x-tenant", tenant),), timeout=30
        )
        for _ in range(2):
            questions.put(b"?")
            answers.append(next(call).decode())
        questions.put(None)
        assert [] == list(call)
    return answers


def test_no_instance_in_full_duplex_serves_two_tenants(served: Served) -> None:
    """Calls of one tenant share an instance, whose invocation was for that tenant."""
    talks = [(tenant, _talk(served, tenant)) for tenant in ("duplex one", "duplex two", "duplex one")]
    instances = [{answer.rpartition(" ")[2] for answer in answers} for _, answers in talks]

    assert all(answer.rpartition(" ")[0] == tenant for tenant, answers in talks for answer in answers)
    assert instances[0] == instances[2] != instances[1]
    assert [1, 1, 1] == [len(each) for each in instances]
    code, details = _refusal(served.channel(), "t.Duplex")
    assert grpc.StatusCode.UNAUTHENTICATED is code, details


def _refusal(channel: grpc.Channel, service: str, *metadata: tuple[str, str]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        _say(channel, service, *metadata)
    error: Any = caught.value
    return error.code(), error.details()


@pytest.mark.parametrize("service", ["t.ByMetadata", "t.Streamed"])
def test_each_tenant_has_instances_of_its_own(served: Served, service: str) -> None:
    """By both APIs, and whatever the client sends under AWS's name."""
    one, other = f"one {service}", f"other/{service}"
    said = [
        _say(served.channel(), service, ("x-tenant", tenant), ("x-amz-tenant-id", "evil"))
        for tenant in (one, other, one, other)
    ]

    assert [f"{one} 1", f"{other} 1", f"{one} 2", f"{other} 2"] == said


def test_a_constant_is_the_tenant_of_all(served: Served) -> None:
    assert "house" == _say(served.channel(), "t.Fixed", ("x-tenant", "evil")).split()[0]


def test_a_certificate_names_the_tenant(served: Served) -> None:
    names = {"uris": ["spiffe://example.org/acme"], "common_names": ["blue"]}

    assert "spiffe://example.org/acme" == _say(served.verified(**names), "t.ByUri", ("x-tenant", "evil")).split()[0]
    assert "blue" == _say(served.verified(**names), "t.ByName").split()[0]


@pytest.mark.parametrize(
    ("service", "names", "told"),
    [
        ("t.ByUri", {"uris": ["a:b", "a:c"]}, "subjectAltName of the client's certificate is there more than once"),
        ("t.ByUri", {"common_names": ["a"]}, "subjectAltName of the client's certificate is missing"),
        (
            "t.ByUri",
            {"uris": ["https://a/?b"]},
            "subjectAltName of the client's certificate is not the name of a tenant",
        ),
        ("t.ByName", {"uris": ["a:b"]}, "common name (CN) of the client's certificate is missing"),
        ("t.ByName", {"common_names": ["a", "b"]}, "common name (CN) of the client's certificate is there more than"),
    ],
)
def test_a_certificate_that_names_none_is_refused(
    served: Served, service: str, names: dict[str, list[str]], told: str
) -> None:
    code, details = _refusal(served.verified(**names), service)

    assert grpc.StatusCode.UNAUTHENTICATED is code
    assert told in details


@pytest.mark.parametrize("service", ["t.ByMetadata", "t.Streamed"])
@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ([], "the metadata x-tenant is missing"),
        ([("x-amz-tenant-id", "acme")], "the metadata x-tenant is missing"),
        ([("x-tenant", "a"), ("x-tenant", "a")], "the metadata x-tenant is there more than once"),
        ([("x-tenant", "a;b")], "the metadata x-tenant is not the name of a tenant"),
    ],
)
def test_who_names_no_tenant_reaches_no_function(
    served: Served, service: str, metadata: list[tuple[str, str]], told: str
) -> None:
    before = _invocations(served)
    code, details = _refusal(served.channel(), service, *metadata)

    assert grpc.StatusCode.UNAUTHENTICATED is code
    assert told in details
    assert before == _invocations(served)


def _invocations(served: Served) -> list[str]:
    """What the targets' figures say of attempts."""
    metrics = served.running.get("/metrics").splitlines()
    return [line for line in metrics if line.startswith(("bridge_upstream_seconds_count", "bridge_attempts"))]


def test_without_certificate_nobody_is_believed(served: Served) -> None:
    """A listener that asks for none has no verified certificates."""
    code, details = _refusal(served.channel(), "t.ByUri", ("x-tenant", "acme"))

    assert (grpc.StatusCode.UNAUTHENTICATED, True) == (code, "is missing" in details)


def test_a_function_with_tenants_wants_one(served: Served) -> None:
    """AWS's text says what is wrong with the configuration."""
    code, details = _refusal(served.channel(), "t.Plain")

    assert grpc.StatusCode.INTERNAL is code
    assert "Add a valid tenant ID in your request" in details


def test_the_log_names_tenants_and_the_metrics_do_not(served: Served) -> None:
    _say(served.channel(), "t.ByMetadata", ("x-tenant", "logged"))

    served.running.wait_until(lambda: any(each.get("tenant") == "logged" for each in served.running.access_log()))
    assert "logged" not in served.running.get("/metrics")


@pytest.mark.parametrize(
    ("service", "is_serving"), [("t.ByMetadata", True), ("t.ByUri", True), ("t.Fixed", True), ("t.Plain", False)]
)
def test_health_of_functions_names_a_tenant(served: Served, service: str, is_serving: bool) -> None:
    """A DryRun without one would be refused. No instance is started for it."""
    asked = health_pb2.HealthCheckRequest(service=service)

    def answer() -> int:
        with served.channel() as channel:
            return int(health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10).status)

    wanted = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
    served.running.wait_until(lambda: answer() == wanted)


def test_a_function_is_not_asked_for_descriptors_without_a_tenant(served: Served) -> None:
    described = run([tool("grpcurl"), "-plaintext", served.addresses[0], "describe", "t.ByMetadata"])

    assert "calls bring its tenants, and the bridge itself has none: set descriptors" in described.stderr


def test_grpcurl(served: Served) -> None:
    """It names its tenant like any other metadata."""
    options = ["-plaintext", "-import-path", str(served.folder), "-proto", "tenants.proto"]
    called = run([tool("grpcurl"), *options, "-H", "x-tenant: curl", served.addresses[0], "t.ByMetadata/Say"])
    refused = run([tool("grpcurl"), *options, served.addresses[0], "t.ByMetadata/Say"])

    assert {"text": "curl 1"} == json.loads(called.stdout), called.stderr
    assert "Code: Unauthenticated" in refused.stderr
