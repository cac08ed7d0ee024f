"""A server that is a program: started, told where to listen, waited for, started again, stopped."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import grpc
import pytest

from lambda_fn import forward
from lambda_fn.forwarding.process import ServerProcess
from lambda_fn.forwarding.target import parse
from tests.support import grpc_program
from tests.support.forwarding import forwarding
from tests.support.lambda_channel import LambdaChannel, Outcome

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, grpc_program.__file__]
OK = grpc.StatusCode.OK


def facts(channel: LambdaChannel) -> list[str]:
    """The program's process id, then what its environment says of address, socket and port."""
    outcome = channel.call("/test.Test/Facts")

    assert OK == outcome.code, outcome.details
    return [message.decode() for message in outcome.messages]


def test_a_program_on_a_socket(tmp_path: Path) -> None:
    """Told of it by placeholder, it has the process's number in its name; the environment tells it too. close() ends
    the program.
    """
    with forwarding(f"unix:{tmp_path}/app.sock", command=[*PROGRAM, "unix:{socket}"]) as channel:
        streamed = channel.call("/test.Test/Echo", (b"1", b"2"))
        pid, *environment = facts(channel)

    own = f"{tmp_path}/app.{os.getpid()}.sock"
    assert Outcome(OK, messages=(b"1", b"2")) == streamed
    assert [f"unix:{own}", own, ""] == environment
    assert not Path(own).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_program_that_has_its_own_socket_keeps_the_name(tmp_path: Path) -> None:
    """It is not told of another, so there must be none. A socket left behind by a killed one is removed first."""
    path = tmp_path / "fixed.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with forwarding(f"unix:{path}", command=[*PROGRAM, f"unix:{path}"]) as channel:
        outcome = channel.call("/test.Test/Echo")

    assert Outcome(OK, messages=(b"request",)) == outcome


def test_a_program_on_a_free_port() -> None:
    """Port 0: each instance has its own."""
    with forwarding("localhost:0", command=[*PROGRAM, "localhost:{port}"]) as channel:
        _, address, path, port = facts(channel)

    assert (f"localhost:{port}", "") == (address, path)
    assert int(port) > 0


def test_a_program_that_died_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The call during which it died fails; the next one finds a new process."""
    with forwarding(f"unix:{tmp_path}/app.sock", command=[*PROGRAM, "{address}"]) as channel:
        first, *_ = facts(channel)
        died = channel.call("/test.Test/Die")
        os.waitid(os.P_PID, int(first), os.WEXITED | os.WNOWAIT)
        second, *_ = facts(channel)

    assert grpc.StatusCode.UNAVAILABLE == died.code
    assert first != second
    assert "ended with exit code 3; starting it again" in caplog.text


def test_a_program_that_ends_at_once_is_unavailable() -> None:
    """With its exit code; the next call tries again."""
    with forwarding("localhost:0", command=[*PROGRAM, "exit"]) as channel:
        outcomes = [channel.call("/test.Test/Echo") for _ in range(2)]

    expected = f"the server {Path(sys.executable).name} ended with exit code 7 before it accepted a connection"
    assert [(grpc.StatusCode.UNAVAILABLE, expected)] * 2 == [(outcome.code, outcome.details) for outcome in outcomes]


def test_a_program_whose_port_was_taken_gets_another_one(tmp_path: Path) -> None:
    """Between the choice of a port and the program's bind, somebody else may take the port."""
    script = f'echo "$PORT" >> {tmp_path}/ports; test "$(wc -l < {tmp_path}/ports)" -gt 1 || exit 98; exec "$@"'
    with forwarding("localhost:0", command=["sh", "-c", script, "sh", *PROGRAM, "localhost:{port}"]) as channel:
        _, address, _, port = facts(channel)
        outcome = channel.call("/test.Test/Echo")

    taken, chosen = (tmp_path / "ports").read_text().split()
    assert (chosen, f"localhost:{chosen}") == (port, address)
    assert taken != chosen
    assert Outcome(OK, messages=(b"request",)) == outcome


def test_a_program_that_never_listens_is_unavailable() -> None:
    """After start_timeout, saying the address."""
    with forwarding("localhost:0", command=[*PROGRAM, "deaf"], start_timeout=0.3) as channel:
        outcome = channel.call("/test.Test/Echo", timeout=5)

    assert grpc.StatusCode.UNAVAILABLE == outcome.code
    assert "accepts no connection on localhost:" in outcome.details
    assert outcome.details.endswith(" after 0.3 s")


def test_waiting_for_a_program_ends_with_the_deadline() -> None:
    """Not with start_timeout."""
    with forwarding("localhost:0", command=[*PROGRAM, "deaf"]) as channel:
        outcome = channel.call("/test.Test/Echo", timeout=0.3)

    assert outcome.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


def test_a_program_that_is_not_there_fails_the_load() -> None:
    """As early as it is known: when the function's module loads."""
    with pytest.raises(FileNotFoundError, match="no-such-server"):
        forward("localhost:0", command=["./no-such-server"])


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("orders.internal:50051", "serves plaintext in this function"),
        ("grpcs://localhost:1", "serves plaintext in this function"),
    ],
)
def test_a_program_elsewhere_cannot_be_started(target: str, problem: str) -> None:
    """Only here, and without TLS."""
    with pytest.raises(ValueError, match=problem):
        ServerProcess(["./server"], parse(target, tls=False), start_timeout=1)


def test_a_command_is_a_list() -> None:
    """No shell reads it."""
    with pytest.raises(ValueError, match="command is a list"):
        forward("localhost:0", command="./server -port 1")
