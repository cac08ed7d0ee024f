"""Full duplex with servers that nobody here wrote, behind `forward` in the local Lambda: grpc-go's, grpc-js's and etcd.

Clients are those that their users have: grpc-go's, grpcio's, grpcurl and etcdctl.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.clients import ROOT, node_program, run, tool
from tests.support.programs import free_port

pytestmark = [pytest.mark.clients, pytest.mark.slow]

FORWARD = """
from lambda_fn import forward

handler = forward({target!r}, command={command!r})
"""


@contextmanager
def bridged(folder: Path, service: str, target: str, command: list[str], *, calls: int = 10) -> Iterator[RunningBridge]:
    """A bridge before the program that this command starts, as one instance of a function."""
    (folder / "forwarding.py").write_text(FORWARD.format(target=target, command=command))
    entry = {"target": "local:forwarding", "duplex": {"use": "always", "calls": calls}}
    config: dict[str, Any] = {
        "duplex": {"listen": f"127.0.0.1:{free_port()}"},
        "services": {service: entry},
        "functions": {
            "forwarding": {"handler": "forwarding.handler", "code": str(folder), "timeout": "5m", "concurrency": 1}
        },
    }
    with running_bridge(folder, config) as bridge:
        yield bridge


# -- a Go server -------------------------------------------------------------------------------------------------------

INTEROP = "grpc.testing.TestService"
FULL_DUPLEX_CASES = ("ping_pong", "cancel_after_begin", "cancel_after_first_response", "custom_metadata")


@pytest.fixture(scope="module")
def go_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    command = [tool("grpc-go-interop-server"), "-port={port}"]
    with bridged(tmp_path_factory.mktemp("go"), INTEROP, "localhost:0", command) as bridge:
        yield bridge


@pytest.mark.parametrize("case", FULL_DUPLEX_CASES)
def test_grpc_go_speaks_full_duplex_with_a_go_server(go_server: RunningBridge, case: str) -> None:
    host, _, port = go_server.address.rpartition(":")
    client = [tool("grpc-go-interop-client"), f"-server_host={host}", f"-server_port={port}", f"-test_case={case}"]
    played = run(client)

    assert 0 == played.returncode, played.stderr


def test_grpcurl_speaks_full_duplex_with_a_go_server(go_server: RunningBridge) -> None:
    with talking(go_server, f"{INTEROP}/FullDuplexCall", ROOT / "tests/support/protos", "interop.proto") as talk:
        for size in (3, 5):
            assert size == len(_decoded(talk.ask({"response_parameters": [{"size": size}]})["payload"]["body"]))


def _decoded(text: str) -> bytes:

    return base64.b64decode(text)


# -- a Node server -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    command = [*node_program("chat_server.js"), "{address}"]
    with bridged(tmp_path_factory.mktemp("node"), "dev.Echo", "unix:chat.sock", command) as bridge:
        yield bridge


def test_grpcurl_speaks_full_duplex_with_a_node_server(node_server: RunningBridge) -> None:
    with talking(node_server, "dev.Echo/BidiStream", ROOT / "lambda_fn/examples", "echo.proto") as talk:
        for text in ("one", "two", "three"):
            assert {"text": f"re: {text}"} == talk.ask({"text": text})


def test_a_cancellation_reaches_a_node_server(node_server: RunningBridge) -> None:
    with grpc.insecure_channel(node_server.address) as channel:
        stub: Any = echo_pb2_grpc.EchoStub(channel)
        call = stub.BidiStream(_never_ending("one"), timeout=30)
        assert "re: one" == next(call).text
        call.cancel()
        node_server.wait_for_line("the call was cancelled")


def _never_ending(text: str) -> Iterator[echo_pb2.EchoRequest]:
    yield echo_pb2.EchoRequest(text=text)
    time.sleep(5)


# -- grpcurl, a message at a time --------------------------------------------------------------------------------------


class Talk:
    """A call of grpcurl that sends one message when the answer to the last one has come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, message: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer = ""
        while not answer or answer.count("{") != answer.count("}"):
            line = self._process.stdout.readline()
            assert line, self._process.stderr and self._process.stderr.read()
            answer += line
        return json.loads(answer)


@contextmanager
def talking(bridge: RunningBridge, method: str, folder: Path, proto: str) -> Iterator[Talk]:
    command = [tool("grpcurl"), "-plaintext", "-import-path", str(folder), "-proto", proto, "-d", "@"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*command, bridge.address, method], text=True, **pipes) as process:
        try:
            yield Talk(process)
            process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            assert 0 == process.wait(30)
        finally:
            process.kill()


# -- etcd --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """etcd as one instance of a function. All that its clients do passes over its one connection."""
    folder = tmp_path_factory.mktemp("etcd")
    port, peers = free_port(), f"http://localhost:{free_port()}"
    clients = f"http://localhost:{port}"
    command = [
        *(tool("etcd"), "--data-dir", str(folder / "data"), "--name", "one"),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"one={peers}"),
    ]
    # One entry for all of etcd's services: an instance serves the calls of one entry.
    with bridged(folder, "etcdserverpb.*", f"localhost:{port}", command, calls=100) as bridge:
        yield bridge


def etcdctl(bridge: RunningBridge, *arguments: str) -> list[str]:
    return [tool("etcdctl"), f"--endpoints={bridge.address}", *arguments]


def test_etcd_puts_and_gets(etcd: RunningBridge) -> None:
    assert "OK" == run(etcdctl(etcd, "put", "colour", "red")).stdout.strip()
    assert ["colour", "red"] == run(etcdctl(etcd, "get", "colour")).stdout.split()


def test_etcd_watches(etcd: RunningBridge) -> None:
    """Events come while the watch is open. A put goes over the same instance at the same time."""
    with subprocess.Popen(etcdctl(etcd, "watch", "seen"), stdout=subprocess.PIPE, text=True) as watch:
        try:
            assert watch.stdout is not None
            _until(lambda: _calls(etcd) > 0)
            time.sleep(0.5)  # etcdctl says nowhere that its watch stands
            for value in ("one", "two"):
                run(etcdctl(etcd, "put", "seen", value))
                assert ["PUT", "seen", value] == [watch.stdout.readline().strip() for _ in range(3)]
        finally:
            watch.kill()


def test_etcd_keeps_a_lease_alive(etcd: RunningBridge) -> None:
    """The key lives longer than its lease of 2 s."""
    lease = run(etcdctl(etcd, "lease", "grant", "2")).stdout.split()[1]
    with subprocess.Popen(
        etcdctl(etcd, "lease", "keep-alive", lease), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as keeper:
        try:
            assert keeper.stdout is not None
            run(etcdctl(etcd, "put", "alive", "yes", f"--lease={lease}"))
            for _ in range(4):
                assert f"lease {lease} keepalived with TTL(2)" == keeper.stdout.readline().strip()
            assert ["alive", "yes"] == run(etcdctl(etcd, "get", "alive")).stdout.split()
        finally:
            keeper.kill()
    _until(lambda: run(etcdctl(etcd, "get", "alive")).stdout == "")


def test_etcd_saves_a_snapshot(etcd: RunningBridge, tmp_path: Path) -> None:
    """A stream of the whole database, whose sum etcdctl checks."""
    run(etcdctl(etcd, "put", "large", "x" * 100_000))
    saved = run(etcdctl(etcd, "snapshot", "save", str(tmp_path / "snapshot.db")))
    assert 0 == saved.returncode, saved.stderr
    status = run(etcdctl(etcd, "snapshot", "status", str(tmp_path / "snapshot.db"), "-w", "json"))
    assert json.loads(status.stdout)["totalSize"] > 100_000


def _calls(bridge: RunningBridge) -> int:
    lines = [line for line in bridge.get("/metrics").splitlines() if line.startswith("bridge_instance_calls{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


def _until(condition: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)
