"""The tutorial, followed from its first line to its last in an empty virtual environment."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clients import installed
from tests.support.transcripts import Shell, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.full(part="roads")]

ROOT = Path(__file__).parents[2]
SKIPPED = {
    "aws": "needs an account on AWS",
    "git": "the clone is this checkout",
    "make": "the wheels are built from it by the test",
    "sam": "needs an account on AWS",
}
AWS = ("check --live", "serve -c aws.yaml")
"""Commands that call AWS."""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_the_tutorial_leads_where_it_says(tmp_path: Path) -> None:
    """Every file is written and every command run, and each prints what the page shows. Only the ports are others."""
    wheels = tmp_path / "bridge" / "dist"
    for source in (ROOT, ROOT / "lambda_fn"):
        command = [sys.executable, "-m", "build", "--quiet", "--wheel", "--no-isolation", "--outdir", str(wheels)]
        subprocess.run([*command, str(source)], check=True, timeout=120)
    names = ("50051", "50052", "5678", "8080", "9901", "9001")
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "PYTEST"))}
    environment = own | {
        "BRIDGE_LISTEN": f"127.0.0.1:{ports['50051']}",
        "BRIDGE_ADMIN": f"127.0.0.1:{ports['9901']}",
        "BRIDGE_LOG_FORMAT": "console",  # as on a terminal
        "PATH": f"{Path(sys.executable).parent}:{ROOT / '.cache/tools/bin'}:{os.environ['PATH']}",
    }

    def rewrite(text: str) -> str:
        text = re.sub(r"(:|debug: )(50051|50052|5678|8080)\b", lambda found: found[1] + ports[found[2]], text)
        to = f"--to localhost:{ports['50051']}"
        text = re.sub(r"bridge call (?!list|describe)", f"bridge call {to} ", text)
        return re.sub(r"bridge call (?:list|describe)(?: [\w.]+)?", rf"\g<0> {to}", text)

    skip = set(SKIPPED) | ({"grpcurl"} if installed("grpcurl") is None else set())
    shell = Shell(tmp_path, environment, rewrite=rewrite)
    try:
        for block in blocks(ROOT / "docs" / "tutorial.md", ROOT):
            if not any(command in block.text for command in AWS):
                shell.follow(block, skip=skip)
            for made in (tmp_path / "hello").glob("*.yaml"):
                if "functions:" in made.read_text() and "emulator:" not in made.read_text():
                    with made.open("a") as file:
                        file.write(f"emulator: 127.0.0.1:{ports['9001']}\n")
    finally:
        shell.close()
