"""What `call` prints of a reply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from bridge.commands.call_report import json_of
from bridge.commands.failure import CommandFailed
from bridge.services.descriptors import load_descriptors


@pytest.fixture(scope="module")
def order_class() -> Any:
    described = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")
    return GetMessageClass(described.message("orders.v1.Order"))


def test_an_any_of_a_type_that_only_the_server_describes(order_class: Any) -> None:
    order = order_class()
    order.attachment.type_url = "type.googleapis.com/orders.v1.Order"
    order.attachment.value = order_class(id="inner").SerializeToString()

    assert "inner" == json.loads(json_of(order))["attachment"]["id"]


@pytest.mark.parametrize(
    "data",
    [b"\x2a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x82\x01\x0f\x0a\x0btype.x/no.A\x12\x00"],
    ids=["a time out of range", "an Any of an unknown type"],
)
def test_a_reply_without_a_json_form_is_said(order_class: Any, data: bytes) -> None:
    """In a line, without a traceback."""
    with pytest.raises(CommandFailed, match="has no JSON form"):
        json_of(order_class.FromString(data))
