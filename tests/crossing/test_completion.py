"""Completion as bash asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bridge import cli
from bridge.commands.completion import SCRIPTS
from tests.support.bridge_process import EXAMPLES, RunningBridge, bridge_command, plain_environment

pytestmark = pytest.mark.slow

PROTO = Path("lambda_fn/examples/helloworld.proto").absolute()


def completed(line: str, folder: Path) -> list[str]:
    return bridge_command("__complete", f"grpc-lambda-bridge {line}", folder=folder).stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c", ["check", "call", "completion"]),
        ("serve --log-f", ["--log-format"]),
        ("serve --log-format j", ["json"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("nonsense ", []),
        ("call --cacert ", []),
        (
            f"call --proto {PROTO} ",
            [
                "list",
                "describe",
                *(
                    f"helloworld.Greeter/{name}"
                    for name in ("SayHello", "SayHelloStreamReply", "SayHelloToAll", "SayHelloBidiStream")
                ),
            ],
        ),
        (f"call --proto {PROTO} helloworld.Greeter/SayHelloT", ["helloworld.Greeter/SayHelloToAll"]),
        (f"call --proto {PROTO} list h", ["helloworld.Greeter"]),
        (f"call --proto {PROTO} helloworld.Greeter/SayHello ", []),
        ("call --to localhost:1 ", ["list", "describe", "dev.Echo/", "helloworld.Greeter/"]),
        ("call 'open", []),
        ("package ", ["echo", "greeter"]),
        ("package gr", ["greeter"]),
        ("package --arch ", ["x86_64", "arm64"]),
        ("package greeter ", []),
        ("invoke --config bridge.yaml e", ["echo"]),
    ],
)
def test_the_words_that_fit(tmp_path: Path, line: str, words: list[str]) -> None:
    """Without a server, the names are those of the configuration."""
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(EXAMPLES))

    assert words == completed(line, tmp_path)


def test_names_come_from_the_server(bridge: RunningBridge, tmp_path: Path) -> None:
    to = f"call --to {bridge.address}"

    assert {"dev.Echo/", "helloworld.Greeter/"} <= set(completed(f"{to} ", tmp_path))
    assert "dev.Echo/Unary" in completed(f"{to} dev", tmp_path)
    assert ["dev.Echo/BidiStream"] == completed(f"{to} dev.Echo/Bid", tmp_path)
    assert ["dev.Echo"] == completed(f"{to} describe dev", tmp_path)


def test_bash_runs_the_script(bridge: RunningBridge, tmp_path: Path) -> None:
    (tmp_path / "grpc-lambda-bridge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bridge "$@"\n')
    (tmp_path / "grpc-lambda-bridge").chmod(0o755)
    line = f"grpc-lambda-bridge call --to {bridge.address} dev.Echo/Un"
    script = 'eval "$(grpc-lambda-bridge completion bash)"'
    program = f'{script}; COMP_LINE="{line}" COMP_POINT={len(line)}; _grpc_lambda_bridge; echo "$COMPREPLY"'
    ended = subprocess.run(
        ["bash", "-c", program],
        env={**plain_environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ("dev.Echo/Unary\n", "") == (ended.stdout, ended.stderr)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == cli.main(["completion", shell])
    assert "__complete" in capsys.readouterr().out
