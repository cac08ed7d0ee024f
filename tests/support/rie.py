"""AWS's own local emulator (the Runtime Interface Emulator), as it runs in AWS's images: one function behind it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.clients import tool
from tests.support.programs import free_port, wait_until_listening


@contextmanager
def runtime_interface_emulator(command: Sequence[str], *, folder: Path, timeout: int) -> Iterator[str]:
    """Its URL. `command`: the function; `folder`: where it runs; `timeout`: its time in seconds. Skips the test without
    the emulator.
    """
    port = free_port()
    process = subprocess.Popen(
        [
            tool("aws-lambda-rie"),
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{port}",
            "--runtime-api-address",
            f"127.0.0.1:{free_port()}",
            *command,
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_listening(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
