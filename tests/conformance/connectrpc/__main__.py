"""`make conformance`: connectrpc's suite in every setting, or in those that are named.

    python -m tests.conformance.connectrpc [NAME ...]

Fails if a case fails that is not known to, and if one passes that is.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.conformance.connectrpc.server import FUNCTION, SERVICE, SERVICER, SUITE
from tests.conformance.connectrpc.settings import SETTINGS, Setting
from tests.support.bridge_process import plain_environment
from tests.support.clients import HOW_TO_GET, ROOT

RUNNER = SUITE / "connectconformance"
AT_ONCE = 2
"""Settings that run at the same time: cases that wait leave the processor to others."""
CALLS = 8
"""Of one setting at the same time."""
INSTANCES = 16
"""Of the function: calls of two settings, and those whose clients have left."""
LONGEST = 170.0
"""Seconds for one setting."""

_LISTENING = re.compile(r"local Lambda on (http://[^\s:]+:\d+)")


class Outcome(NamedTuple):
    name: str
    has_passed: bool
    seconds: float
    output: str


def main() -> int:
    arguments = argparse.ArgumentParser(description="Run connectrpc's conformance suite.")
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(each.name for each in SETTINGS))
    names = arguments.parse_args().names or [each.name for each in SETTINGS]
    chosen = [each for each in SETTINGS if each.name in names]
    if unknown := set(names) - {each.name for each in chosen}:
        arguments.error(f"no such setting: {', '.join(sorted(unknown))}")
    if not RUNNER.exists():
        print(f"{RUNNER} is missing; {HOW_TO_GET}", file=sys.stderr)
        return 1
    with TemporaryDirectory() as folder, _local_lambda(Path(folder)) as emulator:
        return _run_all(chosen, Path(folder), emulator)


def _run_all(chosen: list[Setting], folder: Path, emulator: str) -> int:
    """Settings that fail beside others are played again alone: some cases give a call half a second, which a busy
    machine may not.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(_run, each, folder, emulator): each for each in chosen}
        again = [running[each] for each in as_completed(running) if not _report(each.result())]
    failed = [each.name for each in again if not _report(_run(each, folder, emulator))]
    if failed:
        print(f"not as expected: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _report(outcome: Outcome) -> bool:
    """Tells what happened, all of it if the suite was not content; whether it was."""
    print(f"{outcome.name:14} {_summary(outcome.output)} ({outcome.seconds:.1f} s)", flush=True)
    if not outcome.has_passed:
        print(outcome.output, flush=True)
    return outcome.has_passed


def _run(setting: Setting, folder: Path, emulator: str) -> Outcome:
    features = folder / f"{setting.name}.json"  # which is YAML, too
    features.write_text(json.dumps({"features": setting.features}))
    known = [f"--known-{what}=@{file}" for what, file in setting.known.items() if file.exists()]
    parallel = [f"--parallel={CALLS}"] if setting.mode == "server" else []
    command = [
        str(RUNNER),
        "--mode",
        setting.mode,
        "--conf",
        str(features),
        *parallel,
        *known,
        "--",
        sys.executable,
        "-m",
        f"tests.conformance.connectrpc.{setting.mode}",
        setting.way,
        json.dumps(setting.bridge(emulator)),
    ]
    started = time.monotonic()
    played = subprocess.run(
        command,
        cwd=ROOT,
        timeout=LONGEST,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Outcome(setting.name, played.returncode == 0, time.monotonic() - started, played.stdout)


def _summary(output: str) -> str:
    """What the suite says at its end: how many cases there were, and how many did as expected."""
    _, found, end = output.rpartition("Total cases: ")
    return ", ".join((found + end).split("\n")).strip(", ") if found else "did not run"


@contextmanager
def _local_lambda(folder: Path) -> Iterator[str]:
    """The URL of a local Lambda with the suite's service as a function."""
    function = {
        "handler": f"{SERVICER}.handler",
        "code": str(ROOT),
        "timeout": "20s",
        "concurrency": INSTANCES,
        "url": {"auth": "none"},
    }
    file = folder / "emulator.yaml"
    file.write_text(json.dumps({"functions": {FUNCTION: function}}))
    command = [sys.executable, "-m", "bridge", "emulate", "-c", str(file), "--emulator", "127.0.0.1:0"]
    log = folder / "emulator.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=plain_environment())
    try:
        emulator = _url_in(log, process)
        _warm_up(emulator)
        yield emulator
    finally:
        process.terminate()
        process.wait(30)


def _warm_up(emulator: str) -> None:
    """Starts the function's instances: a cold start is time of a call's deadline, and the suite allows half a
    second.
    """
    url = f"{emulator}/lambda-url/{FUNCTION}/{SERVICE}/Unary"
    body = json.dumps({"responseDefinition": {"responseDelayMs": 2000}}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})

    def call(_: int) -> None:
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()

    with ThreadPoolExecutor(INSTANCES) as pool:
        list(pool.map(call, range(INSTANCES)))


def _url_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 60
    while (found := _LISTENING.search(log.read_text())) is None:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the local Lambda did not start:\n{log.read_text()}")
        time.sleep(0.05)
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
