"""Pages whose commands are run with the example functions: what they print is what the page shows."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge
from tests.support.clients import TOOLS, tool
from tests.support.transcripts import Block, Shell, blocks, program_of

pytestmark = [pytest.mark.slow, pytest.mark.clients]

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/call.md", "docs/local-lambda.md", "docs/permissions.md", "docs/scaling.md")
RUN = re.compile(r"grpcurl|(?:\.venv/bin/)?grpc-lambda-bridge (?:call|routes|iam)\b|python -m benchmarks\.costs")
"""Commands that end by themselves and need neither an account nor a network."""
ELSEWHERE = re.compile(r"api\.example\.com|--target function:|> |\| jq")
"""Those that call another host or AWS, need another program, or write a file."""


def is_run(command: str) -> bool:
    return RUN.match(command) is not None and ELSEWHERE.search(command) is None


BLOCKS = [
    block
    for page in PAGES
    for block in blocks(ROOT / page, ROOT)
    if any(is_run(command) for command, _ in block.commands())
]


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """As `make run`."""
    with running_bridge(tmp_path_factory.mktemp("bridge"), EXAMPLES) as running:
        yield running


@pytest.fixture
def shell(bridge: RunningBridge, tmp_path: Path) -> Iterator[Shell]:
    """In a folder with the files that pages name."""
    (tmp_path / "request.json").write_text('{"name": "world"}')
    (tmp_path / "bridge.yaml").write_text(
        "services: {helloworld.Greeter: 'arn:aws:lambda:eu-west-1:123456789012:function:greeter'}\n"
    )
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{TOOLS}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(ROOT)}

    def rewrite(text: str) -> str:
        text = text.replace("localhost:50051", bridge.address).replace(".venv/bin/", "")
        to = f"--to {bridge.address}"
        text = re.sub(r"bridge call (?!list|describe|--target)", f"bridge call {to} ", text)
        return re.sub(r"bridge call (?:list|describe)(?: [\w.]+)?", rf"\g<0> {to}", text)

    opened = Shell(tmp_path, environment, rewrite=rewrite)
    yield opened
    opened.close()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_commands_print_what_the_page_shows(block: Block, shell: Shell) -> None:
    """Each command of the block that can run here, in order."""
    tool("grpcurl")
    for command, printed in block.commands():
        if is_run(command):
            shell.run(command, printed)


def test_commands_are_found() -> None:
    ran = {program_of(command).rpartition("/")[2] for block in BLOCKS for command, _ in block.commands()}

    assert {"grpcurl", "grpc-lambda-bridge", "python"} <= ran
