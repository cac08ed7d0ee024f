"""Every input that fuzzing has kept, and every one that once broke a promise, keeps to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
INPUTS = [
    pytest.param(path.parent.name, path, id=f"{path.parent.name}/{path.name}")
    for kind in ("corpus", "findings")
    for path in sorted((HERE / kind).glob("*/*"))
]


def test_each_target_has_a_corpus() -> None:
    assert set(TARGETS) == set(seeds()) == {path.name for path in (HERE / "corpus").iterdir()}


@pytest.mark.parametrize(("target", "path"), INPUTS)
def test_kept_inputs_keep_the_promises(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())
