"""The JSON values of a text, however it is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands.call_requests import JsonSplitter, requests_in, split
from bridge.commands.failure import CommandFailed
from lambda_fn.examples import echo_pb2

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


@pytest.mark.parametrize(
    ("method", "document", "text"),
    [
        ("Unary", '{"txt": "a"}', 'dev.EchoRequest has no field named "txt", did you mean "text"?'),
        ("Unary", '{"FailAfter": 1}', 'no field named "FailAfter", did you mean "failAfter"?'),
        ("Unary", '{"zzz": 1}', 'no field named "zzz"; there are text, count, delay, failAfter'),
        ("Unary", '{"text": 5, "txt": "a"}', 'no field named "txt", did you mean "text"?'),
        ("Unary", '{"text": 5}', "(at text)"),
    ],
)
def test_a_name_that_is_no_field_brings_the_nearest(method: str, document: str, text: str) -> None:
    found = echo_pb2.DESCRIPTOR.services_by_name["Echo"].methods_by_name[method]

    with pytest.raises(CommandFailed) as refused:
        list(requests_in([document], found))
    assert text in str(refused.value)


def test_the_nearest_field_is_sought_where_the_name_stands() -> None:
    """In messages within messages, lists and maps. Well-known types have a form of their own."""
    file = descriptor_pb2.FileDescriptorProto(name="nested.proto", package="n", syntax="proto3")
    file.dependency.append("google/protobuf/struct.proto")
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="unit_price", number=1, type=1, label=1)
    outer = file.message_type.add(name="Outer")
    outer.field.add(name="items", number=1, type=11, label=3, type_name=".n.Inner")
    outer.field.add(name="by_name", number=2, type=11, label=3, type_name=".n.Outer.ByNameEntry")
    outer.field.add(name="free", number=3, type=11, label=1, type_name=".google.protobuf.Struct")
    entry = outer.nested_type.add(name="ByNameEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, label=1, type_name=".n.Inner")
    service = file.service.add(name="S")
    service.method.add(name="M", input_type=".n.Outer", output_type=".n.Outer")
    pool = descriptor_pool.DescriptorPool()
    struct_pb2.DESCRIPTOR.CopyToProto(copied := descriptor_pb2.FileDescriptorProto())
    pool.Add(copied)
    pool.Add(file)
    method = pool.FindMethodByName("n.S.M")

    for document in ('{"items": [{"unitPrise": 1}]}', '{"byName": {"x": {"unitPrise": 1}}}'):
        with pytest.raises(CommandFailed, match=r'n\.Inner has no field named "unitPrise", did you mean "unitPrice"'):
            list(requests_in([document], method))
    assert 1 == len(list(requests_in(['{"free": {"whatever": 1}}'], method)))
