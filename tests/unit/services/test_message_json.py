"""MessageJson: what a person types becomes a message, and a message something to read; errors say where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from bridge.services.descriptors import load_descriptors
from bridge.services.message_json import MessageJson, UnusableMessage

ORDERS = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")
ORDER = "orders.v1.Order"
LARGE = 1 << 20

EVERYTHING: dict[str, Any] = {
    "id": "<script>7",
    "totalCents": "9007199254740993",
    "state": "SHIPPED",
    "signature": "AP8=",
    "createdAt": "2026-01-02T03:04:05Z",
    "leadTime": "1.500s",
    "itemCounts": {"a": 1},
    "parts": [{"id": "part"}],
    "note": "",
    "extra": {"any": ["json", None]},
    "weight": 0.5,
    "changed": "id,totalCents",
    "card": "c",
    "attachment": {"@type": "type.googleapis.com/orders.v1.GetRequest", "id": "9"},
}


@pytest.fixture
def messages() -> MessageJson:
    return MessageJson(ORDERS)


def order(**fields: Any) -> bytes:
    message: bytes = GetMessageClass(ORDERS.message(ORDER))(**fields).SerializeToString()
    return message


def test_every_kind_of_field_survives_the_way_there_and_back(messages: MessageJson) -> None:
    message = messages.read(ORDER, json.dumps(EVERYTHING).encode(), max_size=LARGE)

    assert EVERYTHING == json.loads(messages.print(ORDER, message, max_size=LARGE))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"nope":1}', "no field named"),
        ('{"parts":[{},{"totalCents":"x"}]}', r"in parts\[1\]\.totalCents"),
        ('{"state":"GONE"}', "in state"),
        ('{"card":"c","voucher":1}', "another field of the same oneof"),
        ("[]", "is an object"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
)
def test_json_that_is_no_message_is_refused_with_its_place(messages: MessageJson, text: str, said: str) -> None:
    with pytest.raises(UnusableMessage, match=said):
        messages.read(ORDER, text.encode(), max_size=LARGE)


def test_sizes_are_bounded_both_ways(messages: MessageJson) -> None:
    with pytest.raises(UnusableMessage, match="at most 3"):
        messages.read(ORDER, b'{"id":"1234"}', max_size=3)
    with pytest.raises(UnusableMessage, match="more than 9 bytes of JSON"):
        messages.print(ORDER, order(id="1234"), max_size=9)


def test_bytes_that_are_no_message_are_told(messages: MessageJson) -> None:
    with pytest.raises(UnusableMessage, match=r"not a orders\.v1\.Order"):
        messages.print(ORDER, b"\xff", max_size=LARGE)
    with pytest.raises(UnusableMessage, match="no JSON form"):
        messages.print(ORDER, order(attachment={"type_url": "x/no.Such"}), max_size=LARGE)
    with pytest.raises(UnusableMessage, match=r"no\.Such is not described"):
        messages.print("no.Such", b"", max_size=LARGE)


def test_details_are_read_by_googles_types_and_the_sources_own(messages: MessageJson) -> None:
    """One that nobody knows, or that does not parse, keeps its bytes."""
    status = Status(code=3)
    violation = BadRequest.FieldViolation(field="id", description="<b>")
    status.details.add().Pack(BadRequest(field_violations=[violation]))
    status.details.add(type_url="x/orders.v1.GetRequest", value=b"\x0a\x017")
    status.details.add(type_url="x/no.Such", value=b"\x01")
    status.details.add(type_url="x/orders.v1.GetRequest", value=b"\xff")

    known, own, unknown, broken = json.loads(messages.print_details(status.SerializeToString()))

    assert [{"field": "id", "description": "<b>"}] == known["fieldViolations"]
    assert {"@type": "x/orders.v1.GetRequest", "id": "7"} == own
    assert {"@type": "x/no.Such", "@value": "AQ=="} == unknown
    assert {"@type": "x/orders.v1.GetRequest", "@value": "/w=="} == broken
    assert b"[]" == messages.print_details(b"\xff")
