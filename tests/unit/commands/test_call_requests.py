"""The JSON values of a text, however it is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands.call_requests import JsonSplitter, split

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(
    st.lists(VALUES, max_size=5), st.sampled_from([" ", "\n", "\t\n "]), st.lists(st.integers(0, 10_000)), st.booleans()
)
def test_any_cut_gives_the_same_values(values: list[object], between: str, places: list[int], escaped: bool) -> None:
    text = between.join(json.dumps(value, ensure_ascii=escaped) for value in values)
    splitter = JsonSplitter()

    found = [value for piece in cut(text, places) for value in splitter.feed(piece)]
    found += splitter.finish()

    assert values == [json.loads(value) for value in found]


def test_values_need_no_space_between_them() -> None:
    assert ['{"a": "}"}', "[1, 2]", '"x"', "{}"] == list(split('{"a": "}"}[1, 2]"x"{}'))


def test_a_value_is_there_with_its_last_byte() -> None:
    splitter = JsonSplitter()

    assert [[], [], ['{"a": {}}']] == [list(splitter.feed(piece)) for piece in ('{"a"', ": {}", "}")]


@pytest.mark.parametrize("text", ['{"a": 1', "[1, 2", '"open', "}", "nul"])
def test_what_is_wrong_is_left_to_the_reader(text: str) -> None:
    assert [text] == list(split(text))
