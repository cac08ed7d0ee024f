"""What the linter cannot see: rules of style that hold for every file of the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_COLUMNS = 120


def files(pattern: str) -> list[Path]:
    named = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / line for line in named.stdout.splitlines() if (ROOT / line).exists()]


def too_long(text: str) -> list[int]:
    """Return the numbers of the lines above 120 columns. A row of a table must be one line."""
    return [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > MAX_COLUMNS and not line.lstrip().startswith("|")
    ]


@pytest.mark.parametrize("page", files("*.md"), ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_has_at_most_120_columns(page: Path) -> None:
    assert [] == too_long(page.read_text())


def test_long_lines_are_found() -> None:
    assert [2] == too_long("short\n" + "word " * 25 + "\n| a row " + "x" * 120)
