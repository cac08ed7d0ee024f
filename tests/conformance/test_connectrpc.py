"""What is known to fail in connectrpc's suite; the suite itself runs with `make conformance`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.conformance.connectrpc.settings import KNOWN, SETTINGS

FILES = sorted(KNOWN.iterdir())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_known_difference_has_a_reason(file: Path) -> None:
    """A comment that begins a block; the patterns under it share it."""
    lines = ["", *file.read_text().splitlines()]
    begins = [line for before, line in pairwise(lines) if not before]

    assert begins
    assert all(line.startswith("# ") for line in begins)


def test_each_file_belongs_to_a_setting() -> None:
    """The suite is not told of a file with another name."""
    assert set(FILES) <= {file for each in SETTINGS for file in each.known.values()}


def test_settings_have_names_of_their_own() -> None:
    assert len(SETTINGS) == len({each.name for each in SETTINGS})
