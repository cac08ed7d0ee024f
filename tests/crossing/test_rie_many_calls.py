"""lambda_fn.runtime under AWS's own emulator of Lambda Managed Instances: many invocations at once in one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.clients import ROOT
from tests.support.rie import managed_instances_emulator

pytestmark = [pytest.mark.slow, pytest.mark.clients]

PLACES = 8

APP = """
import os, threading, time

together = threading.Barrier(8, timeout=20)

def handler(event, context):
    if event.get("meet"):
        together.wait()
    time.sleep(event.get("sleep", 0))
    if event.get("raise"):
        raise ValueError(event["raise"])
    return {"n": event.get("n"), "pid": os.getpid()}
"""


def _system_python() -> str:
    """A Python that other users may run: the emulator changes the user."""
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if not os.path.exists(candidate):
            continue
        asked = "import sys; sys.exit(sys.version_info < (3, 10))"
        if 0 == subprocess.run([candidate, "-c", asked], check=False).returncode:
            return candidate
    pytest.skip("needs Python 3.10 or newer in /usr")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("task")
    (folder / "app.py").write_text(APP)
    shutil.copytree(ROOT / "lambda_fn", folder / "lambda_fn", ignore=shutil.ignore_patterns("__pycache__"))
    bootstrap = folder / "bootstrap"
    bootstrap.write_text(f"#!/bin/sh\nPYTHONPATH=/var/task exec {_system_python()} -m lambda_fn.runtime app.handler\n")
    bootstrap.chmod(0o755)
    with managed_instances_emulator(folder, concurrency=PLACES, timeout=3) as url:
        yield url


def call(url: str, **event: Any) -> tuple[str | None, Any]:
    """The error's type and the reply."""
    request = urllib.request.Request(url, data=json.dumps(event).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.headers.get("Error-Type"), json.load(response)


def all_at_once(url: str) -> list[tuple[str | None, Any]]:
    with ThreadPoolExecutor(PLACES) as pool:
        return list(pool.map(lambda n: call(url, meet=True, n=n), range(PLACES)))


def wait_for_places(url: str) -> None:
    """All threads ask for an invocation: the emulator starts with the first one."""
    call(url)
    time.sleep(1)


def test_all_places_are_used_by_one_process(url: str) -> None:
    wait_for_places(url)
    answers = all_at_once(url)

    assert [None] * PLACES == [error for error, _ in answers]
    assert list(range(PLACES)) == [reply["n"] for _, reply in answers]
    assert 1 == len({reply["pid"] for _, reply in answers})


def test_an_error_and_a_timeout_cost_no_place(url: str) -> None:
    """The late answer gets 410 from AWS's emulator, and the thread asks again."""
    wait_for_places(url)
    pid = call(url)[1]["pid"]
    error, reply = call(url, **{"raise": "boom"})
    assert ("ValueError", "boom") == (reply["errorType"], reply["errorMessage"])
    error, _ = call(url, sleep=4)
    assert "Sandbox.Timedout" == error
    time.sleep(2)

    assert {pid} == {reply["pid"] for _, reply in all_at_once(url)}
