"""docs/crossings.md is what the matrix says."""

from __future__ import annotations

from pathlib import Path

from tests.crossing.matrix.crossings import CROSSINGS, RULES, SCENARIOS
from tests.crossing.matrix.table import lines

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_current() -> None:
    """`python -m tests.crossing.matrix.table > docs/crossings.md` makes it anew."""
    assert "\n".join(lines()) + "\n" == (DOCS / "crossings.md").read_text()


def test_every_rule_holds_somewhere() -> None:
    """One that no longer does explains nothing."""
    for rule in RULES:
        assert any(rule.holds(crossing, scenario) for crossing in CROSSINGS for scenario in SCENARIOS), rule


def test_every_scenario_of_a_rule_is_played() -> None:
    played = {scenario.id for scenario in SCENARIOS}

    assert set() == {name for rule in RULES for name in rule.scenarios} - played
