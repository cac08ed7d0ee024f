"""Runs a language's own tools, which make generated code, and says what to install where one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.commands.failure import CommandFailed

_TIMEOUT = 600.0
"""Seconds that one tool may take. It may have to download what it needs."""
_MAX_LINES = 15
"""Lines of a tool's output in an error's text."""


def require(program: str, needed: str) -> None:
    """Raise CommandFailed if a program is not on the PATH. `needed`: what to install, and from where."""
    if shutil.which(program) is None:
        raise CommandFailed(f"{program} is not on the PATH: install {needed}, and run the command again")


def run_tool(command: Sequence[str], folder: Path) -> None:
    """Run a tool in a folder. Raises CommandFailed with the end of its output."""
    # generate.sh finds protoc with the Python that runs us.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    shown = " ".join(command)
    print(f"running {shown} ...", file=sys.stderr)
    try:
        result = subprocess.run(  # noqa: S603 - the bridge chose the command
            command,
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{shown} did not finish in {_TIMEOUT:g} s; nothing was written") from error
    except OSError as error:
        raise CommandFailed(f"{shown} cannot run: {error.strerror}; nothing was written") from error
    if result.returncode:
        lines = [line for line in result.stdout.splitlines() if line.strip()]
        output = "\n".join(f"  {line}" for line in lines[-_MAX_LINES:])
        raise CommandFailed(f"{shown} ended with exit code {result.returncode}; nothing was written:\n{output}")


def formatted(command: Sequence[str], text: str) -> str:
    """Return a text as a formatter writes it, or as it is without the formatter."""
    try:
        result = subprocess.run(  # noqa: S603 - the bridge chose the command
            command, input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return text
    return result.stdout if result.returncode == 0 else text


def texts_in(folder: Path, below: str) -> dict[str, str]:
    """Return the texts of all files below a folder in it, by their paths."""
    paths = sorted(path for path in (folder / below).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def write_all(folder: Path, files: dict[str, str]) -> None:
    """Write texts into a temporary folder."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
