"""AWS's own local emulator (the Runtime Interface Emulator), as it runs in AWS's images: one function behind it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.clients import tool

_START_SECONDS = 20.0


@contextmanager
def runtime_interface_emulator(
    command: Sequence[str], *, folder: Path, timeout: int
) -> Iterator[str]:
    """Its URL. `command`: the function; `folder`: where it runs; `timeout`: its time in seconds. Skips the test without the emulator."""
    emulator, runtime = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    process = subprocess.Popen(
        [
            tool("aws-lambda-rie"),
            "--runtime-interface-emulator-address", emulator,
            "--runtime-api-address", runtime,
            *command,
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        _wait_until_listening(emulator, process)
        yield f"http://{emulator}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_until_listening(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError("the emulator did not start") from None
            time.sleep(0.02)
        else:
            return
