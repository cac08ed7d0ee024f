"""A pytest plugin. In CI a test that lacks what CI installs fails; elsewhere it is skipped, and says how to get it."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

INSTALLER = ".ci/tools"
"""Reasons for a skip that name it are about what CI has."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and os.environ.get("CI") and INSTALLER in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"CI must have it: {report.longrepr}"
    return report
