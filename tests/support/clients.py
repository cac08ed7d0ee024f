"""Clients that nobody here wrote. CI has them all, so there a missing one fails; elsewhere the test says how to
get it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".cache" / "tools" / "bin"
NODE = ROOT / "tests" / "crossing" / "node"

HOW_TO_GET = "bash .ci/tools installs it"


def _missing(name: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{name} is missing, and CI must have it: {HOW_TO_GET}")
    pytest.skip(f"{name} is not installed: {HOW_TO_GET}")


def installed(name: str) -> str | None:
    """The path of a program, if it is there."""
    return shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")


def tool(name: str) -> str:
    """The path of a program; the test is skipped without it, in CI it fails."""
    found = installed(name)
    if found is None:
        _missing(name)
    return str(found)


def node_program(name: str, *, folder: Path = NODE, needs: Sequence[str] = ("",)) -> list[str]:
    """The command that runs a script of a folder with npm packages of its own. `needs`: those that the script uses."""
    if not all((folder / "node_modules" / package).exists() for package in needs):
        _missing(f"the npm packages of {folder.relative_to(ROOT)}")
    return [tool("node"), str(folder / name)]


def node_binary(name: str) -> str:
    """A command that an npm package brings."""
    found = NODE / "node_modules" / ".bin" / name
    if not found.exists():
        _missing(name)
    return str(found)


def run(command: Sequence[str], *, text_in: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a client to its end, whatever its exit code."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, input=text_in)
