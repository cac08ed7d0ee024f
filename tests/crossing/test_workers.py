"""`workers: N`: several processes behind one address."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("workers")
    with running_bridge(folder, {**EXAMPLES, "workers": 2}) as bridge:
        yield bridge


def greet(bridge: RunningBridge) -> str:
    """A call on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(bridge.address, options) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        message: str = stub.SayHello(helloworld_pb2.HelloRequest(name="you"), timeout=10).message
        return message


def figure(bridge: RunningBridge, name: str) -> float:
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", bridge.get("/metrics"), re.MULTILINE)
    return sum(map(float, values))


def children(bridge: RunningBridge) -> list[int]:
    """The worker processes."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            is_ours = f"\nPPid:\t{bridge.process.pid}\n" in (entry / "status").read_text()
            command = (entry / "cmdline").read_bytes() if is_ours else b""
        except OSError:
            continue  # not a process, or no longer one
        if b"bridge.commands.worker" in command:
            found.append(int(entry.name))
    return found


def test_calls_are_served_and_their_figures_added_up(workers: RunningBridge) -> None:
    """Twenty connections, whichever worker took them, are twenty calls in /metrics."""
    before = figure(workers, "grpc_server_started_total")
    answers = {greet(workers) for _ in range(20)}

    assert {"Hello, you!"} == answers
    assert 20 == figure(workers, "grpc_server_started_total") - before
    assert 2 == len(children(workers))


def test_a_worker_that_dies_is_replaced_and_calls_go_on(workers: RunningBridge) -> None:
    """SIGKILL of one worker: others serve, a new one starts, readiness comes back."""
    former = children(workers)
    os.kill(former[0], signal.SIGKILL)
    answer = greet(workers)
    workers.wait_until(lambda: len(set(children(workers)) - {former[0]}) == 2)
    workers.wait_until(lambda: workers.get_whole("/readyz")[0] == 200)

    assert "Hello, you!" == answer
    workers.wait_for_line("worker 1 ended with -9")


def test_what_a_dead_worker_counted_stays_counted(workers: RunningBridge) -> None:
    """Counters in /metrics never go backwards: neither when a worker dies nor when its successor begins at zero."""
    counters = (
        "grpc_server_started_total",
        "grpc_server_handled_total",
        "grpc_server_handling_seconds_count",
        "bridge_connections_accepted_total",
        "process_cpu_seconds_total",
    )
    for _ in range(10):
        greet(workers)
    before = {name: figure(workers, name) for name in counters}
    former = children(workers)
    for pid in former:
        os.kill(pid, signal.SIGKILL)
    dead = {name: figure(workers, name) for name in counters}
    workers.wait_until(lambda: len(set(children(workers)) - set(former)) == 2)
    workers.wait_until(lambda: workers.get_whole("/readyz")[0] == 200)
    greet(workers)
    after = {name: figure(workers, name) for name in counters}

    assert [] == [name for name in counters if not before[name] <= dead[name] <= after[name]]
    assert before["grpc_server_started_total"] + 1 == after["grpc_server_started_total"]


def test_a_worker_that_does_not_answer_is_counted_as_it_was(workers: RunningBridge) -> None:
    """Stopped, or too busy for the supervisor's question: what it last said holds until it says more."""
    greet(workers)
    before = figure(workers, "grpc_server_started_total")
    stopped = children(workers)[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        during = figure(workers, "grpc_server_started_total")
    finally:
        os.kill(stopped, signal.SIGCONT)

    assert before <= during


def test_sigterm_drains_every_worker(tmp_path: Path) -> None:
    """The call in flight finishes; the supervisor ends with 0 and leaves no process."""
    from lambda_fn.examples import echo_pb2, echo_pb2_grpc

    with running_bridge(tmp_path, {**EXAMPLES, "workers": 2}) as bridge:
        pids = children(bridge)
        with grpc.insecure_channel(bridge.address) as channel:
            slow = echo_pb2_grpc.EchoStub(channel).Sleep.future(echo_pb2.SleepRequest(seconds=1))
            bridge.wait_until(lambda: figure(bridge, "bridge_in_flight") == 1)
            code = bridge.stop()
            slow.result(timeout=5)

    assert 0 == code
    assert [] == [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_workers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the supervisor: its workers see the control socket close and end."""
    with running_bridge(tmp_path, {**EXAMPLES, "workers": 2}) as bridge:
        pids = children(bridge)
        bridge.process.kill()
        bridge.process.wait()
        bridge.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_what_keeps_a_worker_from_serving_is_told_once(tmp_path: Path) -> None:
    """A certificate that cannot be used: exit code 1, one clear line."""
    (tmp_path / "tls.crt").write_text("no certificate")
    (tmp_path / "tls.key").write_text("no key")
    tls = {"cert": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}
    config = {**EXAMPLES, "workers": 2, "listen": [{"address": "127.0.0.1:0", "tls": tls}]}
    refused = pytest.raises(AssertionError, match="are not a certificate and its key")
    with refused as caught, running_bridge(tmp_path, config):
        pass

    assert "Traceback" not in str(caught.value)
