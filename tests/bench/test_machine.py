"""What the table says of an interpreter, and which of Debian's can be had."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.machine import python_of


def _interpreter(path: Path, *, jit: str) -> Path:
    """This one, with another's `sys._jit`."""
    script = f"import sys; sys._jit = {jit}; exec(sys.argv.pop(2))"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{script}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("is_enabled", "ending"), [(True, " build, JIT on"), (False, " build")])
def test_an_interpreter_is_named_with_its_jit(tmp_path: Path, is_enabled: bool, ending: str) -> None:
    """By what it says of itself: one that was built without stays without, whatever it is asked."""
    jit = f"type('', (), dict(is_enabled=lambda: {is_enabled}))"

    name = python_of(_interpreter(tmp_path / "python", jit=jit))

    assert name.startswith(f"Python {platform.python_version()}, ")
    assert name.endswith(ending)


def test_what_the_shell_says_of_the_jit_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peers are started without it, too."""
    monkeypatch.setenv("PYTHON_JIT", "1")
    jit = "type('', (), dict(is_enabled=lambda: 'PYTHON_JIT' in __import__('os').environ))"

    assert python_of(_interpreter(tmp_path / "python", jit=jit)).endswith(" build")


def test_this_interpreter_has_a_name() -> None:
    """Before Python 3.14 nothing tells of a JIT."""
    assert python_of(Path(sys.executable)).startswith(f"Python {platform.python_version()}, ")


def test_bridges_that_would_share_a_column_are_refused() -> None:
    """As 3.13 and 3.13+jit would: it has none."""
    here = Path(sys.executable)

    with pytest.raises(SystemExit, match="cannot be told apart: bridge, Python"):
        run.bridges_on([here, here])


def test_a_python_that_debian_lacks_is_refused(tmp_path: Path) -> None:
    """Before anything is fetched."""
    script = Path(run.__file__).with_name("debian_python")
    ran = subprocess.run(["bash", script, "3.9", tmp_path / "python"], capture_output=True, text=True)

    assert (1, "") == (ran.returncode, ran.stdout)
    assert "3.13, 3.14 and 3.15, not 3.9" in ran.stderr
