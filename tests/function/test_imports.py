"""What a cold start pays for: the modules that are imported, and what the wheel asks for."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(result.stdout.split())


def test_the_runtime_imports_neither_grpc_nor_asyncio() -> None:
    """A plain Python function does not pay for them, nor for http.client's e-mail parser."""
    modules = imported_by("import lambda_fn.runtime")

    assert set() == modules & {"grpc", "asyncio", "http.client", "email", "ssl", "google.protobuf"}


def test_the_server_adds_little_to_what_generated_code_imports() -> None:
    """grpc is there anyway, and asyncio with it; descriptors only when reflection asks."""
    added = imported_by("from lambda_fn import LambdaServer") - imported_by("import grpc")
    foreign = {name for name in added if not name.startswith("lambda_fn")}

    assert foreign <= {
        "queue",
        "_queue",
        "base64",
        "binascii",
        "struct",
        "_struct",
        "zlib",
        "json",
        "json.decoder",
        "json.encoder",
        "json.scanner",
        "_json",
    }


@pytest.mark.parametrize("module", ["bridge", "aiohttp", "msgspec", "yaml", "google.protobuf"])
def test_the_function_side_stands_alone(module: str) -> None:
    """Nothing of the bridge or its libraries is imported."""
    assert module not in imported_by("from lambda_fn import LambdaServer, StreamingReply")


def test_the_wheel_asks_for_what_generated_code_needs_and_nothing_else() -> None:
    """A function's zip stays small."""
    project = tomllib.loads((ROOT / "lambda_fn/pyproject.toml").read_text())["project"]
    names = {requirement.partition(">=")[0] for requirement in project["dependencies"]}

    assert {"grpcio", "protobuf"} == names
