"""h2spec, strict cases included, against the bridge as users run it: either engine, with TLS and without.

Its requests ask for something other than gRPC, so what it sees of answers is what HTTP clients see.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.bridge_process import EXAMPLES, running_bridge
from tests.support.clients import run, tool

pytestmark = [pytest.mark.clients, pytest.mark.slow]

SECONDS = 10
"""That h2spec waits for an answer: one that does not come is a failure, and a busy machine is none."""

CASES = 146


@pytest.fixture(scope="module", params=["native", "h2"])
def addresses(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Of a plain listener and one with TLS."""
    folder = tmp_path_factory.mktemp(request.param)
    listen = [{"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": _certificate(folder)}]
    config = {**EXAMPLES, "listen": listen, "http2": {"engine": request.param}}
    with running_bridge(folder, config) as running:
        [line] = [line for line in running.lines if "serving gRPC on" in line]
        yield line.partition("serving gRPC on ")[2].rstrip('"}').split(", ")


def _certificate(folder: Path) -> dict[str, str]:
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    return {"cert": str(folder / "tls.crt"), "key": str(folder / "tls.key")}


def _h2spec(address: str, *more: str) -> subprocess.CompletedProcess[str]:
    host, _, port = address.rpartition(":")
    command = [tool("h2spec"), "--strict", "-h", host, "-p", port, "-o", str(SECONDS), *more]
    return run(command)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_every_case_passes(addresses: list[str], tls: bool) -> None:
    """None skipped: h2spec skips what an answer without a body does not let it see."""
    played = _h2spec(addresses[1], "-t", "-k") if tls else _h2spec(addresses[0])
    failures = played.stdout.partition("Failures:")[2]

    assert re.search(rf"^{CASES} tests, {CASES} passed, 0 skipped, 0 failed$", played.stdout, re.MULTILINE), failures
    assert 0 == played.returncode
