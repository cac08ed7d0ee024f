"""deploy/: the zip, the wrapper under AWS's own variables, and the functions of the examples."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lambda_fn import StreamingReply
from lambda_fn.lambda_context import LambdaContext
from tests.support.runtime_api_double import Posted, paths, runtime_api

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
WRAPPER = DEPLOY / "lambda_fn_wrapper"

STREAMING = """
from lambda_fn import StreamingReply
from lambda_fn.lambda_context import LambdaContext

def handler(event, context):
    return StreamingReply([b"one, ", b"two"], content_type="text/plain")
"""


def recipe() -> ModuleType:
    found = importlib.util.spec_from_file_location("lambda_zip", DEPLOY / "lambda_zip.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lambda_zip() -> ModuleType:
    return recipe()


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


# -- the zip --


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
def test_the_wheels_are_those_of_the_runtimes_own_linux(lambda_zip: ModuleType, arch: str) -> None:
    """Amazon Linux 2 up to Python 3.11, 2023 from 3.12 on; the machine is Lambda's, not ours."""
    machine = {"arm64": "aarch64", "x86_64": "x86_64"}[arch]
    old, new = (lambda_zip.platforms((3, minor), arch) for minor in (11, 13))

    assert f"manylinux2014_{machine}" in old
    assert f"manylinux_2_28_{machine}" not in old
    assert {f"manylinux2014_{machine}", f"manylinux_2_28_{machine}"} <= set(new)


def zipped(lambda_zip: ModuleType, scratch: Path) -> Path:
    """A zip of a small function and one wheel, made without a package index."""
    function, folder = scratch / "function", scratch / "folder"
    for path in ("wheel/tests/test_it.py", "wheel/code.py", "wheel/code.pyi", "bin/tool"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
    for path in ("bin/server", "app.py", "requirements.txt", "__pycache__/app.cpython-311.pyc"):
        (function / path).parent.mkdir(parents=True, exist_ok=True)
        (function / path).write_text("")
    (function / "bin/server").chmod(0o700)
    lambda_zip.strip(folder)
    lambda_zip.gather(function, folder)
    out = scratch / "out/function.zip"
    lambda_zip.pack(folder, out)
    return out


def test_the_zip_has_what_a_call_needs(lambda_zip: ModuleType, tmp_path: Path) -> None:
    """Code, wheels, lambda_fn, wrapper; no tests, stubs, bytecode or requirements. Programs of the function stay
    programs.
    """
    with zipfile.ZipFile(zipped(lambda_zip, tmp_path)) as packed:
        names = set(packed.namelist())
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in packed.infolist()}

    assert {"app.py", "wheel/code.py", "lambda_fn/runtime.py", "lambda_fn_wrapper"} <= names
    assert not [name for name in names if name.endswith((".pyc", "code.pyi", "test_it.py", ".txt"))]
    assert "bin/tool" not in names
    assert (0o755, 0o755, 0o644) == (
        modes["lambda_fn_wrapper"],
        modes["bin/server"],
        modes["app.py"],
    )


def test_the_zip_is_reproducible(lambda_zip: ModuleType, tmp_path: Path) -> None:
    """Deployments compare by hash: same files, same bytes."""
    one, two = (zipped(lambda_zip, tmp_path / name).read_bytes() for name in ("one", "two"))

    assert one == two


def test_bytecode_is_made_by_the_same_python_only(lambda_zip: ModuleType, tmp_path: Path) -> None:
    """Another one's would be ignored."""
    (tmp_path / "module.py").write_text("")

    assert not lambda_zip.compile_for(tmp_path, (3, 4))
    assert not list(tmp_path.rglob("*.pyc"))
    assert lambda_zip.compile_for(tmp_path, sys.version_info[:2])
    assert 1 == len(list(tmp_path.rglob("*.pyc")))


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
