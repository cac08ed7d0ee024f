from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.errors import BadReply, MalformedRequest, UnknownMethod
from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.services.transcode import Transcoder

ECHO = "/orders.v1.Orders/Echo"
PING = "/orders.v1.Orders/Ping"


@pytest.fixture(scope="module")
def described() -> Descriptors:
    return load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")


@pytest.fixture(scope="module")
def transcoder(described: Descriptors) -> Transcoder:
    return Transcoder(described)


def order(described: Descriptors, **fields: Any) -> Any:
    return GetMessageClass(described.message("orders.v1.Order"))(**fields)


def from_json(described: Descriptors, transcoder: Transcoder, value: object) -> Any:
    message = transcoder.from_json(ECHO, json.dumps(value).encode())
    return order(described).FromString(message)


# -- up ----------------------------------------------------------------------------------------------------------------


def test_defaults_and_json_names(described: Descriptors) -> None:
    """Fields without presence are written, those with it and oneofs only if they are set."""
    message = order(described, total_cents=2**62, state=1, odd_name="x").SerializeToString()

    told = json.loads(Transcoder(described).to_json(ECHO, message))

    assert {
        "id": "",
        "totalCents": "4611686018427387904",
        "state": "OPEN",
        "signature": "",
        "itemCounts": {},
        "parts": [],
        "ratio": 0.0,
        "oddOne": "x",
    } == told


def test_proto_names_without_defaults(described: Descriptors) -> None:
    message = order(described, total_cents=1, odd_name="x").SerializeToString()
    transcoder = Transcoder(described, proto_names=True, defaults=False)

    assert {"total_cents": "1", "odd_name": "x"} == json.loads(transcoder.to_json(ECHO, message))


def test_unknown_enum_numbers_stay_numbers(described: Descriptors, transcoder: Transcoder) -> None:
    told = json.loads(transcoder.to_json(ECHO, order(described, state=9).SerializeToString()))

    assert 9 == told["state"]


def test_a_request_that_does_not_parse(transcoder: Transcoder) -> None:
    with pytest.raises(MalformedRequest, match=r"the request is not a orders\.v1\.Order"):
        transcoder.to_json(ECHO, b"\xff")


@pytest.mark.parametrize(
    "message",
    [
        b"\x2a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a Timestamp after the year 9999
        b"\x82\x01\x0f\x0a\x0btype.x/no.A\x12\x00",  # an Any of an unknown type
        b"\x82\x01\x1b\x0a\x16type.x/orders.v1.Order\x12\x01\xff",  # an Any that is none of its type
    ],
    ids=["timestamp", "unknown any", "broken any"],
)
def test_a_request_without_a_json_form(transcoder: Transcoder, message: bytes) -> None:
    """What the library says of it goes to the log."""
    with pytest.raises(MalformedRequest, match="has no JSON form") as raised:
        transcoder.to_json(ECHO, message)

    assert raised.value.__notes__


def test_nesting_is_bounded(described: Descriptors, transcoder: Transcoder) -> None:
    """By protobuf's own hundred levels, on both ways."""
    message, value = b"", "{}"
    for _ in range(3000):
        length = order(described, note="").ByteSize()
        assert length == 2
        message = b"\x42" + _varint(len(message)) + message
        value = '{"parts":[' + value + "]}"

    with pytest.raises(MalformedRequest):
        transcoder.to_json(ECHO, message)
    with pytest.raises(BadReply):
        transcoder.from_json(ECHO, value.encode())


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return encoded + bytes((number,))


# -- down --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b" ", b"null", b" null\n", b"{}"])
@pytest.mark.parametrize("path", [ECHO, PING])
def test_nothing_is_the_empty_message(transcoder: Transcoder, text: bytes, path: str) -> None:
    assert b"" == transcoder.from_json(path, text)


@pytest.mark.parametrize("names", ["totalCents", "total_cents"])
def test_both_names_are_read(described: Descriptors, transcoder: Transcoder, names: str) -> None:
    """Whichever is written; numbers of 64 bits with and without quotes."""
    assert 5 == from_json(described, transcoder, {names: 5}).total_cents
    assert 5 == from_json(described, transcoder, {names: "5"}).total_cents


def test_unknown_fields_and_enum_names_are_ignored(described: Descriptors, transcoder: Transcoder) -> None:
    """A function may know more than the .proto."""
    found = from_json(described, transcoder, {"new": {"a": [1]}, "id": "1", "state": "LOST"})

    assert order(described, id="1") == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"{", r"no orders\.v1\.Order$"),
        (b'{"\xff": 1}', "Order$"),
        (b'{"ratio": 1e999}', "in ratio$"),
        (b'{"id": 1}', "in id$"),
        (b'{"totalCents": "x"}', "in totalCents$"),
        (b'{"parts": [{"parts": [{"id": 1}]}]}', r"in parts\.parts\.id$"),
        (b'{"createdAt": "today"}', "in createdAt$"),
        (b'{"id": "\\ud800"}', "in id$"),
        (b'{"id": "1", "id": "2"}', "Order$"),
        (b'{"attachment": {"@type": "type.x/no.A"}}', "in attachment$"),
        (b'{"parts": ' + b"[" * 100_000, "Order$"),
        (b'{"card": "1", "voucher": 1}', "in voucher$"),
        (b'{"totalCents": ' + b"9" * 5000 + b"}", "Order$"),
    ],
)
def test_bad_json(transcoder: Transcoder, text: bytes, told: str) -> None:
    """The client learns which field; the value and the library's words stay in the log."""
    with pytest.raises(BadReply) as raised:
        transcoder.from_json(ECHO, text)

    assert re.search(told, str(raised.value))
    assert raised.value.__notes__
    assert max(map(len, raised.value.__notes__)) <= 200


@pytest.mark.parametrize("text", [b"[]", b'"x"', b"1", b"true", b"\xff", b"hello"])
def test_json_that_is_no_object(transcoder: Transcoder, text: bytes) -> None:
    """The library takes some of it for an empty message."""
    with pytest.raises(BadReply, match="is no object"):
        transcoder.from_json(ECHO, text)


def test_a_method_that_the_descriptors_lack(transcoder: Transcoder) -> None:
    for turn in (transcoder.to_json, transcoder.from_json):
        with pytest.raises(UnknownMethod, match=r"orders\.v1\.Orders/No is not in orders,"):
            turn("/orders.v1.Orders/No", b"")


@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(st.characters(exclude_categories=["Cs"])),
            "total_cents": st.integers(-(2**63), 2**63 - 1),
            "state": st.integers(0, 5),
            "signature": st.binary(),
            "item_counts": st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**31), 2**31 - 1)
            ),
            "note": st.text(st.characters(exclude_categories=["Cs"])),
            "ratio": st.floats(allow_nan=False),
            "voucher": st.integers(0, 2**64 - 1),
        },
    ),
    proto_names=st.booleans(),
    defaults=st.booleans(),
)
def test_round_trip(described: Descriptors, fields: dict[str, Any], proto_names: bool, defaults: bool) -> None:
    """Under all options."""
    sent = order(described, **fields)
    transcoder = Transcoder(described, proto_names=proto_names, defaults=defaults)

    came = transcoder.from_json(ECHO, transcoder.to_json(ECHO, sent.SerializeToString()))

    assert sent == sent.FromString(came)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_a_bad_one(transcoder: Transcoder, message: bytes) -> None:
    with suppress(MalformedRequest):
        json.loads(transcoder.to_json(ECHO, message))


FIELDS = [
    "id",
    "totalCents",
    "state",
    "signature",
    "createdAt",
    "leadTime",
    "itemCounts",
    "parts",
    "note",
    "extra",
    "weight",
    "changed",
    "ratio",
    "card",
    "voucher",
    "attachment",
    "@type",
    "value",
]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    )
)
def test_any_json_is_a_reply_or_a_bad_one(transcoder: Transcoder, value: object) -> None:
    with suppress(BadReply):
        transcoder.from_json(ECHO, json.dumps(value).encode())
