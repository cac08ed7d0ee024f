"""`check`: reports what is wrong with a configuration, and with the functions that it names, as far as can be seen
without running anything. With --live it also asks AWS about each function.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from bridge.commands.check_functions import problems_of_functions
from bridge.commands.check_report import Finding, printed
from bridge.commands.loading import refuse_missing_regions
from bridge.config.element import MAX_FILE
from bridge.config.load import find_config, load, parse
from bridge.config.problems import ConfigErrors, Problem
from bridge.config.schema import Config

STDIN = "-"
_STDIN_NAME = "<stdin>"


def check(chosen: argparse.Namespace) -> int:
    """Check the configuration. Returns 0 if all is well, 1 if AWS would refuse a call, 2 for an error in the file or in
    a function. Warnings change nothing. Raises CommandFailed, and ConfigErrors if no file is found.
    """
    if chosen.schema:
        return _print_schema()
    file = chosen.file or chosen.config
    path = _STDIN_NAME if file == STDIN else str(find_config(file, os.environ, Path.cwd()))
    text = sys.stdin.read(MAX_FILE + 1) if path == _STDIN_NAME else None
    findings: list[Finding] = []
    config = None
    try:
        config = _load(path, text)
        findings += [Finding("warning", warning) for warning in (*config.warnings, *_about_descriptors(config))]
    except ConfigErrors as errors:
        findings += [Finding("error", problem) for problem in errors.problems]
    if config is not None:
        findings += [Finding("error", problem) for problem in problems_of_functions(config, path)]
        try:
            refuse_missing_regions(config)
        except ConfigErrors as errors:
            findings += [Finding("error", problem) for problem in errors.problems]
    is_wrong = any(finding.severity == "error" for finding in findings)
    printed(findings, path, text, chosen.output)
    if chosen.output == "text":
        _conclude(path, config, findings)
    if config is None or is_wrong:
        return 2
    if not chosen.live:
        return 0
    from bridge.commands.check_live import check_live

    return check_live(config)


def _print_schema() -> int:
    from bridge.config.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1))
    return 0


def _load(path: str, text: str | None) -> Config:
    if text is None:
        return load(Path(path), environ=os.environ)
    return parse(text, file=path, folder=Path.cwd(), environ=os.environ)


def _about_descriptors(config: Config) -> list[Problem]:
    """Load all descriptors, and return what is odd about them. Raises ConfigErrors."""
    if not any(leg.descriptors for service in config.services.values() for leg in service.legs):
        return []  # protobuf is not imported for nothing
    from bridge.services.configured import load_configured, warnings_about

    return warnings_about(config, load_configured(config))


def _conclude(path: str, config: Config | None, findings: list[Finding]) -> None:
    errors = sum(finding.severity == "error" for finding in findings)
    if errors or config is None:
        print(f"{errors} problem{'s' if errors > 1 else ''}", file=sys.stderr)
        return
    count = len(config.services)
    print(f"{path}: fine, {count} service entr{'y' if count == 1 else 'ies'}")
