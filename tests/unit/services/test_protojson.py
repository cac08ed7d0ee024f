"""ProtoJSON by its specification, where json_format alone reads something else. The bridge and lambda_fn have the same
reader.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, json_format, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

import bridge.services.protojson
import lambda_fn.protojson
from tests.support.protojson_types import MORE, SAMPLE

FLOAT_MAX = 3.4028234663852886e38
TYPE_URL = "type.googleapis.com/"


@pytest.fixture(params=[bridge.services.protojson, lambda_fn.protojson], ids=["bridge", "lambda_fn"])
def protojson(request: pytest.FixtureRequest) -> Any:
    return request.param


def read(protojson: Any, text: str | bytes, *, ignore_unknown: bool = True) -> Any:
    sample = SAMPLE()
    found = protojson.loads(text if isinstance(text, bytes) else text.encode())
    protojson.Reader().fill(sample, found, ignore_unknown=ignore_unknown)
    return sample


def refusal(protojson: Any, text: str | bytes, *, ignore_unknown: bool = True) -> Any:
    with pytest.raises(protojson.NotProtoJson) as raised:
        read(protojson, text, ignore_unknown=ignore_unknown)
    return raised.value


def test_both_sides_have_the_same_reader() -> None:
    """They share no module: the function's zip holds nothing of the bridge."""
    ours, functions = (
        Path(str(module.__file__)).read_text() for module in (bridge.services.protojson, lambda_fn.protojson)
    )

    assert ours == functions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3.4028235e+38", FLOAT_MAX),
        ("-3.4028235e+38", -FLOAT_MAX),
        ('"3.4028235E38"', FLOAT_MAX),
        ("3.4028234663852886e38", FLOAT_MAX),
        ("340282350000000000000000000000000000000", FLOAT_MAX),
        ("3.40282356e38", FLOAT_MAX),
        ("1e-46", 0.0),
        ("1.401298464324817e-45", 2.0**-149),
        ("16777217", 16777216.0),
        ('"1.5"', 1.5),
        ("5", 5.0),
        ('"Infinity"', math.inf),
        ('"-Infinity"', -math.inf),
    ],
)
def test_floats(protojson: Any, text: str, value: float) -> None:
    """The nearest float that there is; what other languages print for the largest one is one of them."""
    for place in (
        '{"f": %s}',
        '{"floats": [%s]}',
        '{"byNumber": {"1": %s}}',
        '{"one": %s}',
        '{"wrapped": %s}',
        '{"grouped": {"f": %s}}',
        '{"[test.protojson.more]": %s}',
        '{"any": {"@type": "x/google.protobuf.FloatValue", "value": %s}}',
    ):
        sample = read(protojson, place % text)
        wrapped = wrappers_pb2.FloatValue()
        sample.any.Unpack(wrapped)

        found = [
            sample.f,
            *sample.floats,
            sample.by_number[1],
            sample.one,
            sample.wrapped.value,
            sample.grouped.f,
            sample.Extensions[MORE],
            wrapped.value,
        ]
        assert value == sum(found)
        assert len(found) == len(sample.floats) + 7


def test_not_a_number(protojson: Any) -> None:
    assert math.isnan(read(protojson, '{"f": "NaN"}').f)
    assert math.isnan(read(protojson, '{"d": "NaN"}').d)


@pytest.mark.parametrize("text", ["-0", "-0.0", "-0e5", '"-0"', '"-0.0"'])
def test_minus_zero_keeps_its_sign(protojson: Any, text: str) -> None:
    """JavaScript and Go write it like an integer."""
    for end in ("}", " }", ', "text": "-0"}'):
        assert -1.0 == math.copysign(1, read(protojson, f'{{"d": {text}{end}').d)
    assert 0 == read(protojson, f'{{"big": {text}}}').big


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740993.0", 2**53 + 1),
        ("9007199254740993e0", 2**53 + 1),
        ('"9.007199254740993e15"', 2**53 + 1),
        ("-9223372036854775808.00", -(2**63)),
        ("9.223372036854775807e18", 2**63 - 1),
        ("0.0009007199254740993e19", 2**53 + 1),
        ("1e3", 1000),
        ('"1E3"', 1000),
        ("1.0", 1),
        ("-1.50e1", -15),
        ('"-7"', -7),
        ("0e5", 0),
        ("10000e-4", 1),
    ],
)
def test_integers_are_exact(protojson: Any, text: str, value: int) -> None:
    """However they are written; a double holds only 53 bits."""
    assert value == read(protojson, f'{{"big": {text}}}').big


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("f", "3.5e38"),
        ("f", "-3.5e38"),
        ("f", '"3.5e38"'),
        ("f", "3.4028236e38"),
        ("f", "350000000000000000000000000000000000000"),
        ("f", "1e400"),
        ("d", "1e400"),
        ("d", '"-1e400"'),
        ("d", "1" * 310),
        ("f", "true"),
        ("d", "false"),
        ("f", "NaN"),
        ("d", "-Infinity"),
        ("f", '"nan"'),
        ("f", '"inf"'),
        ("f", '"infinity"'),
        ("f", '"+1"'),
        ("f", '" 1"'),
        ("f", '"1_0"'),
        ("d", '""'),
        ("d", '"\u0661"'),
        ("f", "[]"),
        ("f", "{}"),
        ("floats", "1"),
        ("floats", "[null]"),
        ("floats", '{"0": 1}'),
        ("floats", '["x"]'),
        ("big", "9223372036854775808"),
        ("big", "9.223372036854775808e18"),
        ("small", "2147483648"),
        ("unsigned", "-1"),
        ("big", "9007199254740992.5"),
        ("big", "0.99999999999999999999"),
        ("big", "1e-99999999999"),
        ("big", "1.5"),
        ("big", '"1_0"'),
        ("big", '"1 "'),
        ("big", '"\\n1"'),
        ("big", "true"),
        ("big", '"\u0661"'),
        ("big", '"0x1"'),
        ("big", "1e400"),
        ("big", '""'),
        ("big", "1" * 5000),
        ("big", '"' + "1" * 5000 + '"'),
        ("blob", '"Y!Q="'),
        ("blob", '"YQ==="'),
        ("blob", '"YQ="'),
        ("blob", '"A"'),
        ("blob", '"YQ\\n"'),
        ("blob", '"Y=Q="'),
        ("blob", "5"),
        ("blob", "[1]"),
        ("state", "true"),
        ("state", "1.5"),
        ("state", '"1_0"'),
        ("state", "7"),
        ("state", "[]"),
        ("flag", '"true"'),
        ("flag", "1"),
        ("text", "5"),
        ("text", '"\\ud800"'),
        ("subPart", "[]"),
        ("subPart", '""'),
        ("subPart", '"text"'),
        ("subPart", "5"),
        ("parts", "[[]]"),
        ("parts", "[null]"),
        ("parts", "{}"),
        ("texts", "[null]"),
        ("byNumber", "[]"),
        ("byNumber", '{"1": 1, "1.0": 2}'),
        ("byNumber", '{"1_0": 1}'),
        ("byNumber", '{" 1": 1}'),
        ("byNumber", '{"1": null}'),
        ("byNumber", '{"1": 3.5e38}'),
        ("byFlag", '{"1": ""}'),
        ("byFlag", '{"true": "!"}'),
        ("at", '"2030-1-2T3:4:5Z"'),
        ("at", '"2030-01-02T03:04:05.1e0Z"'),
        ("at", '"2030-01-02T03:04:05.1234567890Z"'),
        ("at", '"2030-01-02T03:04:05+25:00"'),
        ("at", '"2030-01-02T03:04:05+01"'),
        ("at", '"2030-01-02t03:04:05Z"'),
        ("at", '"2030-02-30T00:00:00Z"'),
        ("at", '"0001-01-01T00:00:00+00:01"'),
        ("at", '"2030-01-02T03:04:05"'),
        ("at", '"203\u0660-01-02T03:04:05Z"'),
        ("at", "5"),
        ("took", '"1.1234567890s"'),
        ("took", '"1_0s"'),
        ("took", '"+1s"'),
        ("took", '"1.s"'),
        ("took", '"1.1e1s"'),
        ("took", '"315576000001s"'),
        ("took", '"1"'),
        ("mask", '"a,,b"'),
        ("mask", '"a_b"'),
        ("mask", "[]"),
        ("extra", "[]"),
        ("extra", '{"a": 1e400}'),
        ("extra", '{"a": NaN}'),
        ("extra", '{"a": "\\ud800"}'),
        ("value", "1e400"),
        ("values", "[1e400]"),
        ("any", "[]"),
        ("any", '{"@type": 5}'),
        ("any", '{"a": 1}'),
        ("any", '{"@type": "x/google.protobuf.Duration"}'),
        ("any", '{"@type": "x/google.protobuf.Duration", "value": "1_0s"}'),
        ("any", '{"@type": "x/test.protojson.Sample", "f": 3.5e38}'),
        ("any", '{"@type": "x/no.Type"}'),
        ("wrapped", "3.5e38"),
        ("wrapped", "{}"),
        ("grouped", "[]"),
        ("[test.protojson.more]", "3.5e38"),
    ],
)
def test_what_no_field_holds_is_refused(protojson: Any, field: str, text: str) -> None:
    """Never read as something else: each with the field that it stands in, also deep inside."""
    assert refusal(protojson, f'{{"{field}": {text}}}')
    assert refusal(protojson, f'{{"parts": [{{}}, {{"{field}": {text}}}]}}')


def test_a_refusal_names_the_place(protojson: Any) -> None:
    assert (
        "parts[1].subPart.byNumber.2"
        == refusal(protojson, '{"parts": [{}, {"subPart": {"byNumber": {"2": true}}}]}').path
    )
    assert "floats[2]" == refusal(protojson, '{"floats": [1, 2, "x"]}').path
    assert "any.value" == refusal(protojson, '{"any": {"@type": "x/google.protobuf.Duration", "value": 5}}').path


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        '""',
        '"f"',
        "5",
        "true",
        "",
        "{",
        "{} {}",
        '{"f": 1,}',
        "{'f': 1}",
        '{"f": 01}',
        '{"f": +1}',
        '{"f": .5}',
        b'{"text": "\xff"}',
        '{"text": "a", "text": "b"}',
        '{"extra": {"a": 1, "a": 2}}',
        '{"new": {"a": 1, "a": 2}}',
        '{"subPart": {}, "sub_part": {}}',
        '{"parts": [{"byNumber": {}, "by_number": {}}]}',
        '{"one": 1, "two": "2"}',
        '{"two": "2", "three": null}',
        '{"three": null, "one": 1}',
        "[" * 100_000,
        '{"parts": ' + "[" * 100_000,
        '{"parts": [' * 400 + "{}" + "]}" * 400,
        '{"value": ' + "[" * 200 + "]" * 200 + "}",
        '{"any": ' * 101 + "{}" + "}" * 101,
    ],
)
def test_what_is_no_sample_is_refused(protojson: Any, text: str | bytes) -> None:
    """Other values than objects, what is no JSON, one key or one field twice, two fields of one oneof, a tower of
    brackets.
    """
    assert refusal(protojson, text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"blob": "YQ"}', {"blob": b"a"}),
        ('{"blob": "YQ=="}', {"blob": b"a"}),
        ('{"blob": "+/-_"}', {"blob": b"\xfb\xff\xbf"}),
        ('{"state": "OPEN"}', {"state": 1}),
        ('{"state": 1}', {"state": 1}),
        ('{"state": 1.0}', {"state": 1}),
        ('{"state": "1"}', {"state": 1}),
        ('{"state": "LOST"}', {}),
        ('{"new": [1]}', {}),
        ('{"[no.such]": 1}', None),
        ('{"text": null, "parts": null, "byNumber": null}', {}),
        ('{"one": null, "two": "2"}', {"two": "2"}),
        ('{"nothing": null}', {"nothing": 0}),
        ('{"nulls": [null, "NULL_VALUE"]}', {"nulls": [0, 0]}),
        ('{"nullsByName": {"a": null}}', {"nulls_by_name": {"a": 0}}),
        ('{"byNumber": {"1e1": 1}}', {"by_number": {10: 1}}),
        ('{"byFlag": {"true": "YQ"}}', {"by_flag": {True: b"a"}}),
        ('{"mask": "*"}', {"mask": {"paths": ["*"]}}),
        ('{"mask": "a.bC,d3"}', {"mask": {"paths": ["a.b_c", "d3"]}}),
        ('{"mask": ""}', {"mask": {}}),
        ('{"at": "2030-01-02T03:04:05.123456789+01:30"}', {"at": {"seconds": 1893548045, "nanos": 123456789}}),
        ('{"took": "-0.5s"}', {"took": {"nanos": -500000000}}),
        ('{"took": "315576000000s"}', {"took": {"seconds": 315576000000}}),
        ('\ufeff{"text": "a"}', {"text": "a"}),
        ('{"any": {}}', {"any": {}}),
    ],
)
def test_what_is_read(protojson: Any, text: str, fields: dict[str, Any] | None) -> None:
    """What the specification lets through, and null where it is a value."""
    if fields is None:
        assert SAMPLE() == read(protojson, text)
    else:
        assert SAMPLE(**fields) == read(protojson, text)


def test_unknown_fields_are_refused_where_they_are_asked_for(protojson: Any) -> None:
    assert refusal(protojson, '{"new": 1}', ignore_unknown=False)
    assert refusal(protojson, '{"state": "LOST"}', ignore_unknown=False)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "f": st.floats(width=32, allow_nan=False),
            "d": st.floats(allow_nan=False),
            "big": st.integers(-(2**63), 2**63 - 1),
            "unsigned": st.integers(0, 2**64 - 1),
            "blob": st.binary(),
            "floats": st.lists(st.floats(width=32, allow_nan=False)),
            "nulls": st.lists(st.just(0)),
            "by_number": st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False)),
            "nulls_by_name": st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.just(0)),
        },
    )
)
def test_what_protobuf_writes_is_read_as_the_same(fields: dict[str, Any]) -> None:
    sample = SAMPLE(**fields)
    packed = any_pb2.Any()
    packed.Pack(sample)
    sample.any.CopyFrom(packed)
    text = json.dumps(json_format.MessageToDict(sample)).encode()

    for protojson in (bridge.services.protojson, lambda_fn.protojson):
        found = read(protojson, text)
        unpacked = SAMPLE()
        assert found.any.Unpack(unpacked)
        assert SAMPLE(**fields) == unpacked
        found.ClearField("any")
        assert SAMPLE(**fields) == found
