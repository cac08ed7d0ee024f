from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.admin.metrics import SnapshotCollector
from tests.support.figures import FULL_SNAPSHOT

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
DOCUMENTED = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE))

# What a family is called when it is scraped, by its type.
SUFFIX = {"counter": "_total", "info": "_info"}
EXPORTED = {
    family.name + SUFFIX.get(family.type, ""): family
    for family in SnapshotCollector(FULL_SNAPSHOT, version="1.2.3").collect()
}


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    """docs/metrics.md has a row for each exported family, with its type, and no other rows."""
    types = {name: "gauge" if family.type == "info" else family.type for name, family in EXPORTED.items()}

    assert types == DOCUMENTED


@pytest.mark.parametrize("name", EXPORTED)
def test_every_label_is_documented(name: str) -> None:
    """Each label of a family is spoken of on the page."""
    labels = {label for sample in EXPORTED[name].samples for label in sample.labels} - {"le"}

    assert [] == [label for label in labels if f"`{label}`" not in PAGE]
