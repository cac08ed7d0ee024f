"""What the linter cannot see: rules of style that hold for every file of the repository."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
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


def test_prose_has_at_most_120_columns() -> None:
    found = {page: long_lines(page.read_text()) for page in files("*.md", "config.example.yaml")}

    assert {} == {str(page.relative_to(ROOT)): lines for page, lines in found.items() if lines}


ESCAPE = re.compile(r"# (?:noqa|type: ignore)\b")
IN_FORM = re.compile(
    r"# (?:noqa: (?P<rules>[A-Z0-9, ]+?)|type: ignore\[(?P<errors>[a-z, -]+)\])(?P<reason>(?: -|  #) \S.*)?"
)
NEAR = 4
"""Lines within which a reason holds for the next escape from the same rules."""


def comments(text: str) -> list[tuple[int, str]]:
    """Return the comments with the numbers of their lines."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def escapes_without_reason(text: str) -> list[int]:
    """Return the numbers of the lines that escape from a rule without a reason in the one form."""
    found: list[int] = []
    known, until = "", 0
    for number, comment in comments(text) if ESCAPE.search(text) else ():
        if not ESCAPE.search(comment):
            continue
        form = IN_FORM.fullmatch(comment)
        rules = form and (form["rules"] or form["errors"])
        if form and rules and (form["reason"] or (rules == known and number <= until)):
            known, until = rules, number + NEAR
        else:
            found.append(number)
    return found


def loggers(text: str) -> set[str]:
    """Return the names that a module gives to loggers."""
    return {
        ast.unparse(target)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and "getLogger(" in ast.unparse(node.value)
        for target in node.targets
    }


def test_every_escape_from_a_rule_has_a_reason() -> None:
    """`# noqa: RULE - reason` or `# type: ignore[error]  # reason`. A repetition on the next lines needs no other."""
    found = {page: escapes_without_reason(page.read_text()) for page in files("*.py")}

    assert {} == {str(page.relative_to(ROOT)): lines for page, lines in found.items() if lines}


def test_loggers_have_one_name() -> None:
    """ruff's rules for logging know a logger by a name that ends in `logger`."""
    named = {page: loggers(page.read_text()) for page in files("bridge/*.py", "lambda_fn/*.py")}

    assert {"_logger"} == set[str]().union(*named.values())


@pytest.mark.parametrize(
    "line",
    [
        "x = y  # noqa",
        "x = y  # noqa: S101",
        "x = y  # noqa: S101 (a reason)",
        "x = y  # noqa: S101  a reason",
        "x = y  # type: ignore",
        "x = y  # type: ignore[misc]",
        "x = y  # type: ignore[misc] a reason",
        "x = y  # noqa: S101 - a reason\n\n\n\n\nx = y  # noqa: S101",
        "x = y  # noqa: S101 - a reason\nx = y  # noqa: S102",
    ],
)
def test_escapes_without_a_reason_are_found(line: str) -> None:
    assert [len(line.splitlines())] == escapes_without_reason(line)


def test_long_lines_are_found() -> None:
    assert [2] == long_lines("short\n" + "word " * 25 + "\n| a row " + "x" * 120)
