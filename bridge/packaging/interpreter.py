"""Which Python interpreters there are on this machine, and which of them is like the one on Lambda."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.packaging.failure import PackagingFailed
from bridge.packaging.recipe import PythonVersion
from bridge.packaging.running import run_program
from bridge.packaging.uv import Uv

_ASK = """
import platform, sys
print(*sys.version_info[:2], platform.system(), platform.machine(), platform.python_version())
"""
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python interpreter of this machine."""

    program: str
    version: PythonVersion
    system: str
    """`Linux`, `Darwin`."""
    machine: str
    """As the system names it: `x86_64`, `aarch64`."""
    release: str
    """With all its parts, such as `3.13.5`."""


def ask_interpreter(program: str, folder: Path) -> Interpreter | None:
    """Return what an interpreter says about itself. None: it cannot be started."""
    try:
        ended = run_program(
            [program, "-I", "-S", "-c", _ASK], folder=folder, environment=_environment(), seconds=_SECONDS
        )
    except OSError:
        return None
    match ended.output.split():
        case [major, minor, system, machine, release] if ended.exit_code == 0:
            return Interpreter(program, (int(major), int(minor)), system, machine, release)
        case _:
            return None


def find_interpreter(version: PythonVersion, *, first: str | None, folder: Path) -> Interpreter | None:
    """Return an interpreter of a version, `first` if it fits. None: none was found."""
    for program in _candidates(version, first, folder):
        found = ask_interpreter(program, folder)
        if found is not None and found.version == version:
            return found
    return None


def _candidates(version: PythonVersion, first: str | None, folder: Path) -> Iterator[str]:
    if first is not None:
        yield first
    if sys.version_info[:2] == version:
        yield sys.executable
    name = "python{}.{}".format(*version)
    if (found := shutil.which(name)) is not None:
        yield found
    # The shims of pyenv on PATH find only the versions that are switched on.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{name.removeprefix('python')}.*/bin/{name}"), reverse=True))
    try:
        found = Uv.find().find_python(version, folder)
    except PackagingFailed:  # no uv
        return
    if found is not None:
        yield found


def _environment() -> dict[str, str]:
    """Return what version managers need for finding the interpreter that a name stands for."""
    return {name: os.environ[name] for name in ("HOME", "PATH", "PYENV_ROOT", "PYENV_VERSION") if name in os.environ}
