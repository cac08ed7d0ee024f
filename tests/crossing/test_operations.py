"""How a bridge ends and how it fails to begin: signals, drains, addresses in use, wrong files; each as an operator
meets it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import EXAMPLES, bridge_command, plain_environment, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.echo_api import AWS, FAULT, ID, EchoApi, echo_api

pytestmark = pytest.mark.slow

Code = grpc.StatusCode


@pytest.fixture
def api() -> Iterator[EchoApi]:
    with echo_api() as serving:
        yield serving


def config_for(api: EchoApi, **sections: object) -> dict[str, Any]:
    endpoint = f"http://127.0.0.1:{api.port}"
    return {"services": {"t.Echo": "function:echo"}, "aws": {"endpoint_url": endpoint}, **sections}


def held_call(channel: grpc.Channel, call_id: str) -> Any:
    """A call that the function answers when it is let."""
    invoke = unary_unary(channel, "/t.Echo/Method")
    return invoke.future(call_id.encode(), metadata=((ID, call_id), (FAULT, "hold")), timeout=30)


def refuses_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_drain_loses_no_call(api: EchoApi, tmp_path: Path) -> None:
    """SIGTERM with 20 calls in flight on five connections: all get their answers, new connections are refused, exit
    code 0.
    """
    with (
        running_bridge(tmp_path, config_for(api), environ=AWS) as bridge,
        ExitStack() as opened,
    ):
        bridge.wait_for_line("AWS credentials found")
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [opened.enter_context(grpc.insecure_channel(bridge.address, options)) for _ in range(5)]
        futures = [held_call(channels[index % 5], f"call-{index}") for index in range(20)]
        bridge.wait_until(lambda: len(api.attempts) == 20)
        bridge.process.send_signal(signal.SIGTERM)
        bridge.wait_until(lambda: refuses_connections(bridge.address))
        api.release()
        replies = [future.result(timeout=10) for future in futures]
        exit_code = bridge.process.wait(10)

    assert [f"call-{index}".encode() for index in range(20)] == replies
    assert 0 == exit_code
    assert any("draining" in line for line in bridge.lines)
    assert 20 == sum(entry["code"] == "OK" for entry in bridge.access_log())


def test_drain_delay_keeps_accepting_while_not_ready(api: EchoApi, tmp_path: Path) -> None:
    """For as long as a load balancer still sends calls: /readyz says 503, health NOT_SERVING, calls are served."""
    config = config_for(api, drain_delay="30s")
    with running_bridge(tmp_path, config, environ=AWS) as bridge:
        bridge.wait_for_line("AWS credentials found")
        assert (200, 200) == (bridge.get_whole("/readyz")[0], bridge.get_whole("/healthz")[0])

        bridge.process.send_signal(signal.SIGTERM)
        bridge.wait_until(lambda: bridge.get_whole("/readyz")[0] == 503)
        with grpc.insecure_channel(bridge.address) as channel:
            reply = unary_unary(channel, "/t.Echo/Method")(b"x", metadata=((ID, "x"),), timeout=10)
        live = bridge.get_whole("/healthz")[0]
        bridge.stop()  # the second signal

    assert b"x" == reply
    assert 200 == live


def test_a_second_signal_ends_at_once(api: EchoApi, tmp_path: Path) -> None:
    """Whoever asks twice does not want to wait for the drain."""
    with running_bridge(tmp_path, config_for(api, drain="1m"), environ=AWS) as bridge:
        bridge.wait_for_line("AWS credentials found")
        with grpc.insecure_channel(bridge.address) as channel:
            future = held_call(channel, "held")
            bridge.wait_until(lambda: api.attempts["held"] == 1)
            bridge.process.send_signal(signal.SIGTERM)
            bridge.wait_for_line("draining")
            exit_code = bridge.stop(signal.SIGTERM)

            assert Code.UNAVAILABLE is future.exception(10).code()
    assert -signal.SIGTERM == exit_code


def test_an_idle_bridge_ends_at_once_by_ctrl_c(tmp_path: Path) -> None:
    """SIGINT drains as SIGTERM does; with nothing in flight there is nothing to wait for."""
    with (
        running_bridge(tmp_path, EXAMPLES) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        grpc.channel_ready_future(channel).result(10)

        assert 0 == bridge.stop(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_function_outlives_the_bridge(tmp_path: Path, number: signal.Signals) -> None:
    """Even if the bridge is killed: its functions end with it."""
    (tmp_path / "told.py").write_text(
        "import os\n\ndef handler(event, context):\n    print('pid', os.getpid())\n    return {}\n"
    )
    config = {"services": {"t.F": "local:f"}, "functions": {"f": {"handler": "told.handler"}}}
    with running_bridge(tmp_path, config) as bridge:
        with grpc.insecure_channel(bridge.address) as channel:
            unary_unary(channel, "/t.F/Method").future(b"", timeout=10).exception()
        bridge.wait_for_line("pid ")
        told = next(line for line in bridge.lines if "pid " in line)
        pid = int(told.rpartition("pid ")[2].split('"')[0])
        assert is_alive(pid)

        bridge.process.send_signal(number)
        bridge.process.wait(10)
        bridge.wait_until(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may have waited for it yet.
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


# -- no beginning ------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[str]:
    """An address on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "127.0.0.1:{1}".format(*server.getsockname())


@pytest.mark.parametrize(
    ("section", "remedy"),
    [("listen", "--listen"), ("admin", "--admin"), ("emulator", "`emulator`")],
)
def test_an_address_in_use_is_one_line_and_exit_1(taken: str, tmp_path: Path, section: str, remedy: str) -> None:
    """It names the address and what to do, and no process is left."""
    free = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "emulator": "127.0.0.1:0"}
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump({**EXAMPLES, **free, section: taken}))
    ended = bridge_command("serve", folder=tmp_path)

    lines = [line for line in ended.stderr.splitlines() if "grpc-lambda-bridge: " in line]
    assert 1 == ended.returncode, ended.stderr
    assert 1 == len(lines)
    assert 1 == lines[0].count(taken)
    for word in ("Address already in use", remedy):
        assert word in lines[0]
    assert "Traceback" not in ended.stderr


def test_an_emulator_address_in_use_is_one_line_and_exit_1(taken: str, tmp_path: Path) -> None:
    """`emulate` too."""
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump({**EXAMPLES, "emulator": taken}))
    ended = bridge_command("emulate", folder=tmp_path)

    assert 1 == ended.returncode
    [line] = ended.stderr.splitlines()
    assert 1 == line.count(taken)
    assert "Address already in use" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["no such file"]),
        ("servces: {}", ["bridge.yaml:1", "servces", 'did you mean "services"']),
        ("services: [", ["bridge.yaml", "not YAML"]),
        ("services: {a.B: 'local:nobody'}\nworkers: -1\n", ["services.a.B", "nobody", "workers"]),
    ],
    ids=["missing", "misspelt", "yaml", "several"],
)
def test_a_wrong_configuration_is_exit_2(tmp_path: Path, text: str | None, words: list[str]) -> None:
    """All that is wrong is said, each with its line, by `check` and `serve` alike, and nothing starts."""
    if text is not None:
        (tmp_path / "bridge.yaml").write_text(text)
    for command in ("check", "serve"):
        ended = bridge_command(command, "-c", "bridge.yaml", folder=tmp_path)

        assert 2 == ended.returncode
        assert (command == "serve") is ("nothing was started" in ended.stderr)
        for word in words:
            assert word in ended.stderr


def test_workers_tell_problems_as_one_process_does(tmp_path: Path) -> None:
    """What only a start finds out: descriptors that do not compile."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a.proto").write_text('syntax = "proto3"; service A { rpc Go(E) returns (No); } message E {}\n')
    entry = "services: {A: {target: 'function:f', descriptors: p}}\naws: {region: eu-west-1}\n"
    (tmp_path / "bridge.yaml").write_text(f"{entry}listen: 127.0.0.1:0\nadmin: null\n")
    one, several = (bridge_command("serve", "--workers", count, folder=tmp_path) for count in ("1", "2"))

    assert '"No" is not defined' in one.stderr
    assert "  |     " in one.stderr
    assert (2, one.stderr) == (several.returncode, several.stderr)


def test_without_any_file_the_way_to_one_is_told(tmp_path: Path) -> None:
    """No -c, no BRIDGE_CONFIG, no bridge.yaml."""
    ended = bridge_command("serve", folder=tmp_path)

    assert 2 == ended.returncode
    assert "bridge.yaml" in ended.stderr


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["is gone", "has stopped"])
def test_calls_go_on_without_a_reader_of_the_log(api: EchoApi, tmp_path: Path, reader: str) -> None:
    """A pipe that is closed or full costs lines, never a call, nor the exit code."""
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump({"listen": "127.0.0.1:0", "admin": None, **config_for(api)}))
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve", "-c", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env={**plain_environment(), **AWS},
    )
    assert process.stderr is not None
    with process.stderr as log:
        address = ""
        for line in iter(log.readline, ""):
            if found := re.search(r"serving gRPC on ([\d.:]+)", line):
                address = found[1]
            if "credentials found" in line:
                break
        if reader == "is gone":
            log.close()
        with grpc.insecure_channel(address) as channel:
            invoke = unary_unary(channel, "/t.Echo/" + "M" * 400)
            futures = [invoke.future(b"", metadata=((ID, "x"),), timeout=10) for _ in range(500)]
            failures = [future.exception() for future in futures]
        process.terminate()
        exit_code = process.wait(10)

    assert [None] * 500 == failures
    assert 0 == exit_code


def test_calls_are_served_without_standard_streams(tmp_path: Path) -> None:
    """`<&- >&- 2>&-`, as some supervisors start what they run: the log must not take a client's connection for
    stderr.
    """
    file, address = tmp_path / "bridge.yaml", tmp_path / "b.sock"
    file.write_text(yaml.safe_dump({"listen": f"unix:{address}", "admin": None, "emulator": "127.0.0.1:0", **EXAMPLES}))
    command = [sys.executable, "-m", "bridge", "serve", "-c", str(file)]
    process = subprocess.Popen(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], env=plain_environment())
    try:
        with grpc.insecure_channel(f"unix:{address}") as channel:
            stub = helloworld_pb2_grpc.GreeterStub(channel)
            request = helloworld_pb2.HelloRequest(name="you")
            answers = [stub.SayHello(request, timeout=30, wait_for_ready=True) for _ in range(3)]
    finally:
        process.terminate()
        exit_code = process.wait(30)

    assert ["Hello, you!"] * 3 == [answer.message for answer in answers]
    assert 0 == exit_code
