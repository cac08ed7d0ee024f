"""AWS's own local emulator (the Runtime Interface Emulator), as it runs in AWS's images: one function behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clients import ROOT, tool
from tests.support.programs import free_port, wait_until_listening


@contextmanager
def runtime_interface_emulator(command: Sequence[str], *, folder: Path, timeout: int) -> Iterator[str]:
    """Its URL. `command`: the function; `folder`: where it runs; `timeout`: its time in seconds. Skips the test without
    the emulator.
    """
    with _running((), command, folder, {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout)}) as url:
        yield url


_IN_A_VAR_OF_ITS_OWN = """
mount -t tmpfs none /var && mkdir -p /var/task && cp -r ./. /var/task && chmod -R a+rX /var && cd /var/task || exit 9
exec "$@"
"""
"""With many invocations at once, the emulator starts only /var/runtime/bootstrap or /var/task/bootstrap."""


@contextmanager
def managed_instances_emulator(folder: Path, *, concurrency: int, timeout: int) -> Iterator[str]:
    """Its URL, with many invocations at once. `folder`: what the function's /var/task shall hold; it has a `bootstrap`.

    The emulator needs that path and another user's rights. So it runs as root, in a mount namespace of its own; the
    test is skipped where that is not allowed.
    """
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root and mount namespaces")
    environment = {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout), "AWS_LAMBDA_MAX_CONCURRENCY": str(concurrency)}
    with _running(("unshare", "-m", "sh", "-c", _IN_A_VAR_OF_ITS_OWN, "sh"), (), folder, environment) as url:
        yield f"{url}/2015-03-31/functions/function/invocations"


_AS_A_RUNTIME = """
mount -t tmpfs none /var && mkdir -p /var/task /var/runtime && cp -r ./. /var/task || exit 9
cp "$RUNTIME/bootstrap" /var/runtime/ && ln -s "$LANG_FOLDER" /var/lang && cd / || exit 9
exec "$@"
"""
"""What Lambda makes of a customer-managed runtime and a zip, with an environment of this machine as /var/lang."""


def as_a_runtime(*command: str) -> list[str]:
    """A command that runs in a mount namespace of its own, where the current folder's content is in /var/task and
    docker/runtime in /var/runtime. Skips the test where that is not allowed.
    """
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root and mount namespaces")
    places = [f"RUNTIME={ROOT / 'docker' / 'runtime'}", f"LANG_FOLDER={sys.prefix}"]
    return ["env", *places, "unshare", "-m", "sh", "-c", _AS_A_RUNTIME, "sh", *command]


@contextmanager
def runtime_in_the_emulator(
    folder: Path, handler: str, *, timeout: int, environment: Mapping[str, str]
) -> Iterator[str]:
    """The URL of AWS's emulator, which starts our runtime. `folder`: what the zip holds."""
    whole = {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout), **environment}
    with _running(as_a_runtime(), ["/var/runtime/bootstrap", handler], folder, whole) as url:
        yield f"{url}/2015-03-31/functions/function/invocations"


@contextmanager
def _running(
    prefix: Sequence[str], command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [
            *prefix,
            tool("aws-lambda-rie"),
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{port}",
            "--runtime-api-address",
            f"127.0.0.1:{free_port()}",
            *command,
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
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
