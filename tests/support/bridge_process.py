"""A bridge as a user runs it: a process of its own, with a configuration file and free ports."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

START_SECONDS = 60.0
STOP_SECONDS = 30.0

_SERVING = re.compile(r"serving gRPC on ([^\s\",]+)")
_ADMIN = re.compile(r"admin on http://([^\s\",/]+)")


class RunningBridge:
    """`address` takes calls; `lines` is what it has written to stderr so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.address = ""
        self.admin = ""
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if found := _ADMIN.search(line):
                self.admin = found[1]
            if found := _SERVING.search(line):
                self.address = found[1]
                self._started.set()
        self._started.set()  # it has ended

    def wait_until_serving(self) -> None:
        self._started.wait(START_SECONDS)
        if not self.address:
            raise AssertionError("the bridge did not start:\n" + "\n".join(self.lines))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(5)
            if self.process.stderr is not None:
                self.process.stderr.close()

    def get(self, path: str) -> str:
        """A page of the admin port."""
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as response:
            text: str = response.read().decode()
            return text

    def get_whole(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the admin port, whatever the status."""
        try:
            return 200, self.get(path)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise AssertionError("it did not come to that:\n" + "\n".join(self.lines[-20:]))
            time.sleep(0.02)

    def wait_for_line(self, text: str) -> None:
        """Until the log has a line with this text."""
        self.wait_until(lambda: any(text in line for line in tuple(self.lines)))

    def access_log(self) -> list[dict[str, Any]]:
        """The access log's entries so far."""
        entries = [json.loads(line) for line in tuple(self.lines) if line.startswith("{")]
        return [entry for entry in entries if "method" in entry]

    def wait_for_log(self, method: str, count: int = 1) -> list[dict[str, Any]]:
        """The access-log entries of a method, once there are so many."""

        def found() -> list[dict[str, Any]]:
            return [entry for entry in self.access_log() if entry["method"] == method]

        self.wait_until(lambda: len(found()) >= count)
        return found()


@contextmanager
def running_bridge(
    folder: Path,
    config: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    files: int | None = None,
) -> Iterator[RunningBridge]:
    """Serves `config` (its `listen`, `admin` and `emulator` chosen here unless it says) until the block ends.

    `files`: how many it may have open.
    """
    whole = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "emulator": "127.0.0.1:0",
        "drain": "5s",
        "log": {"format": "json"},
        **config,
    }
    file = folder / "bridge.yaml"
    file.write_text(yaml.safe_dump(whole))
    with started_bridge(file, *arguments, environ=environ, files=files) as bridge:
        yield bridge


@contextmanager
def started_bridge(
    file: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    files: int | None = None,
) -> Iterator[RunningBridge]:
    """Serves by this configuration file until the block ends."""

    def limit_files() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve", "-c", str(file), *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**plain_environment(), **(environ or {})},
        preexec_fn=limit_files,  # noqa: PLW1509 - it takes no lock
    )
    bridge = RunningBridge(process)
    try:
        bridge.wait_until_serving()
        yield bridge
    finally:
        bridge.stop()


def bridge_command(
    *arguments: str, folder: Path, environ: Mapping[str, str] | None = None, text_in: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs `grpc-lambda-bridge` in a folder to its end, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        cwd=folder,
        env={**plain_environment(), "PYTHONPATH": os.getcwd(), **(environ or {})},
        input=text_in,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def plain_environment() -> dict[str, str]:
    """This process's environment without what would change a bridge: AWS, BRIDGE and OTEL variables, proxies."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "BRIDGE_", "OTEL_", "PYTHON")) and not name.lower().endswith("_proxy")
    }


EXAMPLES: dict[str, Any] = {
    "services": {"helloworld.Greeter": "local:greeter", "dev.Echo": "local:echo"},
    "functions": {
        "greeter": {"handler": "lambda_fn.examples.greeter.handler", "timeout": "10s"},
        "echo": {
            "handler": "lambda_fn.examples.echo.handler",
            "timeout": "10s",
            "memory": "512MiB",
            "concurrency": 10,
        },
    },
}
"""The configuration of the example functions."""
