"""What the linter cannot see: rules of style that hold for every file of the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_COLUMNS = 120


def files(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    named = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / line for line in named.stdout.splitlines() if (ROOT / line).exists()]


def long_lines(text: str) -> list[int]:
    """Return the numbers of the lines above 120 columns. A row of a table must be one line."""
    lines = enumerate(text.splitlines(), 1)
    return [number for number, line in lines if len(line) > MAX_COLUMNS and not line.lstrip().startswith("|")]


PROSE = files("*.md", "config.example.yaml")


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_has_at_most_120_columns(page: Path) -> None:
    assert [] == long_lines(page.read_text())


def test_long_lines_are_found() -> None:
    assert [2] == long_lines("short\n" + "word " * 25 + "\n| a row " + "x" * 120)
