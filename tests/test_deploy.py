"""The wrapper of zips under AWS's own variables, and the functions of the examples."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambda_fn import StreamingReply
from lambda_fn.lambda_context import LambdaContext
from tests.support.runtime_api_double import Posted, paths, runtime_api

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
WRAPPER = ROOT / "bridge/packaging/lambda_fn_wrapper"

STREAMING = """
from lambda_fn import StreamingReply
from lambda_fn.lambda_context import LambdaContext

def handler(event, context):
    return StreamingReply([b"one, ", b"two"], content_type="text/plain")
"""


# -- the wrapper --


def run_wrapper(task_root: Path, *command: str, **variables: str) -> tuple[Any, list[Posted]]:
    """What the managed runtime's init does: the wrapper, with the command line that it stands in for as its
    arguments.
    """
    with runtime_api(b"{}") as api:
        result = subprocess.run(
            [str(task_root / "lambda_fn_wrapper"), *command],
            cwd=task_root,
            env={
                "PATH": os.environ["PATH"],
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "AWS_LAMBDA_EXEC_WRAPPER": "/var/task/lambda_fn_wrapper",
                "LAMBDA_TASK_ROOT": str(task_root),
                "LAMBDA_RUNTIME_DIR": "/var/runtime",
                "PYTHONPATH": "/var/runtime",
                "_HANDLER": "app.handler",
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=30,
        )
        return result, api.posted


@pytest.fixture
def task_root(tmp_path: Path) -> Path:
    """/var/task, as the zip unpacks there."""
    shutil.copy(WRAPPER, tmp_path)
    shutil.copytree(ROOT / "lambda_fn", tmp_path / "lambda_fn")
    (tmp_path / "app.py").write_text(STREAMING)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((sys.executable, "/var/runtime/bootstrap.py"), id="plain"),
        pytest.param((sys.executable, "-X", "utf8", "/var/runtime/bootstrap.py"), id="with options"),
    ],
)
def test_the_wrapper_makes_the_managed_runtime_stream(task_root: Path, command: tuple[str, ...]) -> None:
    """The handler is that of _HANDLER; its reply goes out in the streaming form."""
    _, posted = run_wrapper(task_root, *command)

    assert ["invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response"] == paths(posted)
    assert "streaming" == posted[0].headers["lambda-runtime-function-response-mode"]
    assert b"one, two" == posted[0].body


def test_the_wrapper_keeps_interpreter_and_options(tmp_path: Path) -> None:
    """Word for word, spaces in them too; only bootstrap.py is replaced."""
    fake = tmp_path / "python 3"
    fake.write_text('#!/bin/sh\nprintf "%s|" "$@"; printf "%s" "$PYTHONPATH"\n')
    fake.chmod(0o755)
    shutil.copy(WRAPPER, tmp_path)
    result, _ = run_wrapper(tmp_path, str(fake), "-X", "a b", "/var/runtime/bootstrap.py")
    first, *rest = result.stdout.rpartition("|")[2].split(":")

    assert result.stdout.startswith("-X|a b|-m|lambda_fn.runtime|")
    assert (str(tmp_path), "/var/runtime") == (first, rest[-1])


def test_the_wrapper_may_be_executed() -> None:
    """By everybody, in the repository as in the zip."""
    assert 0o755 == WRAPPER.stat().st_mode & 0o777


# -- the functions of the examples --


@pytest.mark.parametrize("name", ["greeter", "echo"])
def test_the_functions_stream_their_replies(name: str) -> None:
    """A URL with RESPONSE_STREAM, as the templates make it, reads nothing else."""
    found = importlib.util.spec_from_file_location(f"{name}_function", DEPLOY / name / "app.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    event = {
        "version": "2.0",
        "rawPath": "/nowhere.Service/Method",
        "headers": {"content-type": "application/grpc-web+proto"},
        "requestContext": {"http": {"method": "POST", "path": "/nowhere.Service/Method"}},
        "body": "AAAAAAA=",
        "isBase64Encoded": True,
    }

    assert isinstance(
        module.handler(event, LambdaContext({"lambda-runtime-deadline-ms": "9999999999999"})), StreamingReply
    )
