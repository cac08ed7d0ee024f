"""`breakpoint()` in a function of the local Lambda: pdb on the bridge's terminal, or a line that says what to do."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.bridge_process import bridge_command, plain_environment
from tests.support.programs import free_port

pytestmark = pytest.mark.slow

SOURCE = """
import os

def handler(event, context):
    print("before", event["name"])
    found = event["name"].upper()
    breakpoint()
    print("after", found)
    return found

def talks(event, context):
    print("something else")
    return os.getpid()
"""


class Terminal:
    """A terminal on which `emulate` runs, as a person sees it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._shown = ""
        command = [sys.executable, "-m", "bridge", "emulate", "-c", str(folder / "bridge.yaml")]
        self.process, self._master = _on_a_terminal(command)
        self._port = port

    def until(self, text: str, seconds: float = 30) -> str:
        """What is shown up to a text, since the last one."""
        until = time.monotonic() + seconds
        while text not in self._shown:
            if time.monotonic() > until:
                raise AssertionError(f"no {text!r} in:\n{self._shown}")
            self._read(0.1)
        before, _, self._shown = self._shown.partition(text)
        return before + text

    def later(self, seconds: float) -> str:
        """All that is shown within so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._read(0.1)
        return self._shown

    def _read(self, seconds: float) -> None:
        if select.select([self._master], [], [], seconds)[0]:
            with suppress(OSError):  # of a terminal that nobody has open any more
                self._shown += os.read(self._master, 65536).decode().replace("\r\n", "\n")

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def invoke(self, name: str, event: object = None) -> Any:
        client = boto3.client(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{self._port}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event))
        found = json.loads(answer["Payload"].read())
        client.close()
        return found

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            while self.process.poll() is None:
                self._read(0.1)  # a terminal that nobody reads holds back its writer
        finally:
            os.close(self._master)


def _on_a_terminal(command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Run a command as a shell on a terminal does: in the foreground, as its session's leader."""
    master, slave = pty.openpty()

    def take_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.tcsetpgrp(0, os.getpgrp())

    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=plain_environment(),
        preexec_fn=take_terminal,  # noqa: PLW1509 - it takes no lock
    )
    os.close(slave)
    return process, master


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "app.py").write_text(SOURCE)
    stops = {"handler": "app.handler", "timeout": "1s"}
    functions = {
        "one": stops,
        "two": stops,
        "aws": {**stops, "runtime": "awslambdaric"},
        "many": {**stops, "instance_concurrency": 2},
        "talks": {"handler": "app.talks"},
    }
    port = free_port()
    config = {"emulator": f"127.0.0.1:{port}", "services": {}, "functions": functions}
    (tmp_path / "bridge.yaml").write_text(json.dumps(config))
    running = Terminal(tmp_path, port)
    try:
        running.until("local Lambda on")
        yield running
    finally:
        running.close()


class Invoking(threading.Thread):
    """An invocation, and its result."""

    def __init__(self, terminal: Terminal, name: str, event: object) -> None:
        super().__init__()
        self._terminal, self._name, self._event = terminal, name, event
        self.result: Any = None
        self.start()

    def run(self) -> None:
        self.result = self._terminal.invoke(self._name, self._event)


@pytest.mark.parametrize("name", ["one", "aws", "many"])
def test_pdb_runs_on_the_terminal(terminal: Terminal, name: str) -> None:
    """What the function has printed comes first. It outlives its time limit, and its variables can be changed."""
    invoking = Invoking(terminal, name, {"name": "you"})
    shown = terminal.until(f"(Pdb {name}) ")
    assert re.search(r"\| (.*\t)?before you\n", shown)
    assert '-> print("after", found)' in shown
    terminal.type("p found")
    assert "'YOU'" in terminal.until(f"(Pdb {name}) ")
    time.sleep(1.5)
    terminal.type("found = 'ME'")
    terminal.until(f"(Pdb {name}) ")
    terminal.type("next")
    assert "after ME\n" in terminal.until(f"(Pdb {name}) ")
    terminal.type("continue")
    invoking.join(30)

    assert "ME" == invoking.result
    assert "REPORT RequestId" in terminal.until("REPORT RequestId")


def test_lines_of_other_functions_wait(terminal: Terminal) -> None:
    """So that what pdb shows can be read. They follow when it is done."""
    invoking = Invoking(terminal, "one", {"name": "you"})
    terminal.until("(Pdb one) ")
    terminal.invoke("talks")
    assert "something else" not in terminal.later(0.5)
    terminal.type("c")
    invoking.join(30)

    assert "something else" in terminal.until("something else")
    assert "YOU" == invoking.result


def test_one_function_at_a_time_has_the_terminal(terminal: Terminal) -> None:
    """The other stops when the first goes on, and its time limit does not end it meanwhile."""
    first = Invoking(terminal, "one", {"name": "first"})
    terminal.until("(Pdb one) ")
    second = Invoking(terminal, "two", {"name": "second"})
    assert "(Pdb two)" not in terminal.later(1.5)
    terminal.type("c")
    terminal.until("(Pdb two) ")
    first.join(30)
    terminal.type("p found")
    assert "'SECOND'" in terminal.until("(Pdb two) ")
    terminal.type("c")
    second.join(30)

    assert ("FIRST", "SECOND") == (first.result, second.result)


def test_to_quit_pdb_fails_the_invocation_alone(terminal: Terminal) -> None:
    """The next one stops again."""
    for _ in range(2):
        invoking = Invoking(terminal, "one", {"name": "you"})
        terminal.until("(Pdb one) ")
        terminal.type("q")
        invoking.join(30)
        assert "BdbQuit" == invoking.result["errorType"]


def test_the_terminal_comes_back_from_a_process_that_ends(terminal: Terminal) -> None:
    invoking = Invoking(terminal, "one", {"name": "you"})
    terminal.until("(Pdb one) ")
    terminal.type("os._exit(3)")
    invoking.join(30)
    assert "Runtime.ExitError" == invoking.result["errorType"]
    other = Invoking(terminal, "two", {"name": "you"})
    terminal.until("(Pdb two) ")
    terminal.type("c")
    other.join(30)

    assert "YOU" == other.result


def test_without_a_terminal_it_says_what_to_do(tmp_path: Path) -> None:
    """And the invocation goes on."""
    (tmp_path / "app.py").write_text(SOURCE)
    config = {"services": {}, "functions": {"one": {"handler": "app.handler"}}}
    (tmp_path / "bridge.yaml").write_text(json.dumps(config))
    ended = bridge_command("invoke", "one", '{"name": "you"}', folder=tmp_path)

    assert (0, '"YOU"\n') == (ended.returncode, ended.stdout)
    (line,) = [line for line in ended.stderr.splitlines() if "breakpoint()" in line]
    assert f"breakpoint() in {tmp_path}/app.py:7 was passed over" in line
    assert "`debug: 5678`" in line
