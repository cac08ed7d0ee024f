"""How problems of a configuration are printed: for people, as every command does, or for editors and CI by `check`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from bridge.config.element import MAX_FILE
from bridge.config.problems import Problem
from bridge.rpc.value import FrozenValue

Severity = Literal["error", "warning"]

_HOLDS_SECRETS = re.compile(r"\b(?:headers|env|external_id)\b")
"""Keys whose values are never shown."""
_MAX_SHOWN = 160
"""Characters of a source line."""

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


class Finding(FrozenValue, frozen=True):
    """One thing that `check` has found."""

    severity: Severity
    problem: Problem


def printed(findings: Sequence[Finding], path: str, text: str | None, output: str) -> None:
    """Print the findings. `text` is that of standard input, if the configuration came from there."""
    if output == "text":
        sources = _Sources({} if text is None else {path: text})
        for finding in findings:
            print("\n".join(_lines_of(finding, sources)), file=sys.stderr)
    else:
        print(_FORMATS[output](findings), end="")


def print_errors(problems: Sequence[Problem]) -> None:
    """Print what keeps a command from its work, for people."""
    printed([Finding("error", problem) for problem in problems], "", None, "text")


# -- for people --------------------------------------------------------------------------------------------------------


class _Sources:
    """The lines of the files that findings name."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._lines = {name: text.splitlines() for name, text in texts.items()}

    def line(self, file: str, number: int) -> str | None:
        """Return a line, or None if it may hold a secret or is not there."""
        lines = self._lines.get(file)
        if lines is None:
            lines = self._lines[file] = _read(file)
        if not 0 < number <= len(lines) or _is_under_secrets(lines, number - 1):
            return None
        return lines[number - 1].replace("\t", " ")


def _read(file: str) -> list[str]:
    try:
        with Path(file).open(encoding="utf-8-sig", errors="replace") as stream:
            return stream.read(MAX_FILE).splitlines()
    except (OSError, ValueError):
        return []


def _is_under_secrets(lines: Sequence[str], index: int) -> bool:
    """Whether the line, or a key that it is indented under, names a mapping whose values may be secrets."""
    indent = len(lines[index]) + 1
    for line in reversed(lines[: index + 1]):
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth < indent:
            if _HOLDS_SECRETS.search(line):
                return True
            indent = depth
    return False


def _lines_of(finding: Finding, sources: _Sources) -> list[str]:
    problem = finding.problem
    key = f"{problem.key_path}: " if problem.key_path else ""
    told = [f"{_where(problem)}: {finding.severity}: {key}{problem.message}"]
    if problem.line is None or problem.columns is None:
        return told
    line = sources.line(problem.file, problem.line)
    start, end = problem.columns
    if line is None or start > _MAX_SHOWN:
        return told
    number = str(problem.line)
    margin = " " * len(number)
    end = min(max(end, start + 1), _MAX_SHOWN)
    return [
        *told,
        f"{margin} |",
        f"{number} | {line[:_MAX_SHOWN]}",
        f"{margin} | {' ' * (start - 1)}{'^' * (end - start)}",
    ]


def _where(problem: Problem) -> str:
    parts = [problem.file]
    if problem.line is not None:
        parts.append(str(problem.line))
        if problem.columns is not None:
            parts.append(str(problem.columns[0]))
    return ":".join(parts)


# -- for programs ------------------------------------------------------------------------------------------------------


def _as_json(findings: Sequence[Finding]) -> str:
    listed = [
        {
            "severity": finding.severity,
            "file": finding.problem.file,
            "line": finding.problem.line,
            "column": finding.problem.columns[0] if finding.problem.columns else None,
            "end_column": finding.problem.columns[1] if finding.problem.columns else None,
            "key": finding.problem.key_path,
            "message": finding.problem.message,
        }
        for finding in findings
    ]
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"


def _as_github(findings: Sequence[Finding]) -> str:
    """Workflow commands, which GitHub shows at the lines of a pull request."""
    return "".join(map(_github_line, findings))


def _github_line(finding: Finding) -> str:
    problem = finding.problem
    properties = {"file": problem.file}
    if problem.line is not None:
        properties["line"] = str(problem.line)
    if problem.columns is not None:
        properties |= {"col": str(problem.columns[0]), "endColumn": str(problem.columns[1])}
    shown = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in properties.items())
    key = f"{problem.key_path}: " if problem.key_path else ""
    return f"::{finding.severity} {shown}::{_escaped(key + problem.message)}\n"


def _escaped(text: str, more: str = "") -> str:
    return "".join(f"%{ord(char):02X}" if char in f"%\r\n{more}" else char for char in text)


def _as_sarif(findings: Sequence[Finding]) -> str:
    """SARIF 2.1.0, which code scanners exchange."""
    driver = {
        "name": "grpc-lambda-bridge",
        "version": version("grpc-lambda-bridge"),
        "rules": [{"id": "configuration"}],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": [*map(_sarif_result, findings)]}
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _sarif_result(finding: Finding) -> dict[str, Any]:
    problem = finding.problem
    place: dict[str, Any] = {"artifactLocation": {"uri": Path(problem.file).as_posix()}}
    if problem.line is not None:
        place["region"] = {"startLine": problem.line}
        if problem.columns is not None:
            place["region"] |= {"startColumn": problem.columns[0], "endColumn": problem.columns[1]}
    key = f"{problem.key_path}: " if problem.key_path else ""
    return {
        "ruleId": "configuration",
        "level": finding.severity,
        "message": {"text": key + problem.message},
        "locations": [{"physicalLocation": place}],
    }


_FORMATS: Mapping[str, Callable[[Sequence[Finding]], str]] = MappingProxyType(
    {"json": _as_json, "github": _as_github, "sarif": _as_sarif}
)
