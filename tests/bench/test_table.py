"""Figures of several rounds as a table and as a picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from benchmarks.measures import Figure
from benchmarks.plot import svg
from benchmarks.table import Results, Spread, markdown

CPU = Figure("CPU a call", "us")
RATE = Figure("calls a second", "1/s", more_is_better=True)


def _results() -> Results:
    results = Results(["bridge", "Envoy"])
    for number, (ours, theirs) in enumerate([(30.0, 60.0), (20.0, 80.0), (40.0, 50.0)]):
        results.add("bridge", number, {CPU: ours, RATE: 1000.0})
        results.add("Envoy", number, {CPU: theirs, RATE: 500.0})
    return results


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """Neighbours in time are compared, not the medians of either."""
    assert Spread(0.5, 0.25, 0.8) == _results().ratio("bridge", CPU)


def test_a_figure_that_only_one_peer_has_gets_no_ratio() -> None:
    """The bridge alone is measured for flatness."""
    results = Results()
    results.add("bridge", 0, {CPU: 30.0})

    assert results.ratio("bridge", CPU) is None


def test_the_table_names_envoy_first() -> None:
    """Whatever the order in which figures came."""
    lines = markdown(_results()).splitlines()

    assert "|  | Envoy | bridge | to Envoy |" == lines[0]
    assert "| CPU a call (us) | 60.0 | 30.0 | **0.50** (0.25 - 0.80) |" == lines[2]


def test_the_picture_turns_over_what_should_be_large() -> None:
    """Twice the calls a second is a bar of one half: short is good everywhere."""
    texts = [each.text for each in ET.fromstring(svg(_results(), title="<t>")).iter()]

    assert "calls a second, inverse" in texts
    assert 2 == texts.count("0.50")
    assert "<t>" in texts


def test_no_name_runs_out_of_the_picture() -> None:
    """A bridge on each of four Pythons, beside nghttpx."""
    names = [f"bridge, Python 3.15.{number}, release build, JIT on" for number in range(5)]
    results = Results([*names, "Envoy"])
    for name in (*names, "Envoy"):
        results.add(name, 0, {CPU: 30.0})

    picture = ET.fromstring(svg(results, title="t"))
    starts = [float(each.get("x", 0)) for each in picture if each.text in names]

    assert 5 == len(starts)
    assert max(starts) + 8 * len(names[0]) < float(picture.get("width", 0))
