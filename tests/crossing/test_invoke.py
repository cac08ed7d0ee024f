"""The command `invoke`: one function, one event; here, and through AWS's API."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from bridge.aws.invoke import InvocationWithLog
from bridge.commands.invoke import _described
from tests.support.bridge_process import bridge_command
from tests.support.emulator import handler, local_lambda

SOURCE = """
import sys, time

def echo(event, context):
    print("got", event)
    return {"you said": event}

def fail(event, context):
    raise ValueError("oh")

def leave(event, context):
    sys.exit(3)

def sleep(event, context):
    time.sleep(60)

def wordy(event, context):
    print("x" * 10_000)
"""
FIGURES = re.compile(
    r"REPORT RequestId: [0-9a-f-]{36}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: \d+ MB"
    r"\tMax Memory Used: \d+ MB"
    r"(\tInit Duration: [\d.]+ ms)?(\tStatus: (timeout|error\tError Type: [\w.]+))?"
).fullmatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration with functions that run here."""
    (tmp_path / "app.py").write_text(textwrap.dedent(SOURCE))
    functions = {name: {"handler": f"app.{name}"} for name in ("echo", "fail", "leave", "wordy")}
    slow = {"handler": "app.sleep", "timeout": "1s"}
    web = {"web": {"command": ["./server"]}}
    config = {"services": {}, "functions": {**functions, "sleep": slow, "web": web}}
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


@pytest.mark.parametrize("way", ["argument", "file", "standard input"])
def test_a_local_function_runs(folder: Path, way: str) -> None:
    """The result on standard output; log and figures on standard error."""
    event = '{"name": "é", "n": [1, 2.5, null]}'
    (folder / "event.json").write_text(event)
    word = {"argument": event, "file": "@event.json", "standard input": "-"}[way]
    ended = bridge_command("invoke", "echo", word, folder=folder, text_in=event)

    assert 0 == ended.returncode
    assert {"you said": json.loads(event)} == json.loads(ended.stdout)
    start, line, end, figures = ended.stderr.splitlines()
    assert start.startswith("START RequestId: ")
    assert f"got {json.loads(event)!r}" == line
    assert end.startswith("END RequestId: ")
    assert FIGURES(figures)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("fail", "ValueError", "oh"),
        ("leave", "Runtime.ExitError", "3"),
        ("sleep", "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    ],
)
def test_a_function_that_fails_tells_how(folder: Path, name: str, error: str, text: str) -> None:
    """Its error is the result, as AWS has it, and the exit code is 1."""
    ended = bridge_command("invoke", name, folder=folder)

    assert 1 == ended.returncode
    assert error == json.loads(ended.stdout)["errorType"]
    assert text in json.loads(ended.stdout)["errorMessage"]
    *_, figures, failed = ended.stderr.splitlines()
    assert "the function failed (Unhandled)" == failed
    assert FIGURES(figures)


def test_the_end_of_a_long_log_is_shown(folder: Path) -> None:
    """4 KB of it, as AWS gives."""
    ended = bridge_command("invoke", "wordy", folder=folder)

    assert 0 == ended.returncode
    assert 3000 < ended.stderr.count("x") <= 4096
    assert FIGURES(ended.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ecko",), 'ecko is not among the `functions`, did you mean "echo"? A function on AWS is function:ecko'),
        (("local:nothing",), "local:nothing is not among the `functions` of"),
        (("web",), "a Web Function has no events"),
        (("echo", "{"), "the event is not JSON: "),
        (("echo", "@none.json"), "none.json: No such file or directory"),
        (("https://example.com",), "https://example.com"),
    ],
)
def test_what_cannot_be_invoked_is_refused(folder: Path, arguments: tuple[str, ...], text: str) -> None:
    """With the reason, before anything runs."""
    ended = bridge_command("invoke", *arguments, folder=folder)

    assert (2, "") == (ended.returncode, ended.stdout)
    assert text in ended.stderr


@pytest.mark.parametrize("name", ["fn", "function:fn", "arn:aws:lambda:us-east-1:000000000000:function:fn"])
async def test_a_function_on_aws_runs(tmp_path: Path, name: str) -> None:
    """By its name, or its ARN, with the credentials and the endpoint of the configuration."""
    source = "def handler(event, context):\n    print('remote')\n    return [event]\n"
    async with local_lambda(handler(tmp_path, source)) as caller:
        (tmp_path / "bridge.yaml").write_text(
            yaml.safe_dump({"services": {}, "aws": {"region": "us-east-1", "endpoint_url": caller.local.endpoint_url}})
        )
        keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
        ended = await asyncio.to_thread(bridge_command, "invoke", name, "7", folder=tmp_path, environ=keys)

    assert (0, [7]) == (ended.returncode, json.loads(ended.stdout)), ended.stderr
    assert "remote" == ended.stderr.splitlines()[1]
    assert FIGURES(ended.stderr.splitlines()[-1])


async def test_a_refusal_of_aws_is_told(tmp_path: Path) -> None:
    """Exit code 1, nothing on standard output."""
    async with local_lambda(handler(tmp_path, "def handler(event, context): pass\n")) as caller:
        (tmp_path / "bridge.yaml").write_text(
            yaml.safe_dump({"services": {}, "aws": {"region": "us-east-1", "endpoint_url": caller.local.endpoint_url}})
        )
        keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
        ended = await asyncio.to_thread(bridge_command, "invoke", "function:gone", folder=tmp_path, environ=keys)

    assert (1, "") == (ended.returncode, ended.stdout)
    assert "gone" in ended.stderr


def test_a_log_without_a_report_says_how_long_the_command_took() -> None:
    """AWS's emulator writes none."""
    assert "a line\nDuration: 1500 ms" in _described(InvocationWithLog(b"{}", "", "a line\n"), 1.5)
