"""A pytest plugin. In CI a test that lacks what CI installs fails; elsewhere it is skipped, and says how to get it.

Each test with the mark `full` belongs to a part of tests/heavy.py.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from tests.heavy import PARTS, USUAL

INSTALLER = ".ci/tools"
"""Reasons for a skip that name it are about what CI has."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and os.environ.get("CI") and INSTALLER in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"CI must have it: {report.longrepr}"
    return report


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in list(item.iter_markers("full")):
            part = mark.kwargs.get("part")
            if part is None:
                item.add_marker(pytest.mark.full(part=USUAL))
            elif part not in {each.name for each in PARTS}:
                raise pytest.UsageError(f"{item.nodeid}: the mark full names {part!r}, which tests/heavy.py does not")
