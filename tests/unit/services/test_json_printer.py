"""JsonPrinter: what is printed in slices is what json_format prints whole, and never more of it than allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.text_format import Parse
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.errors import MessageTooLarge
from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.services.json_cost import JsonCosts
from bridge.services.json_printer import SLICE, JsonPrinter

ORDERS = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")

ODD = Descriptors(
    [
        Parse(
            """
            name: "odd.proto" package: "odd" syntax: "proto2"
            message_type {
              name: "Odd" extension_range { start: 100 end: 200 }
              field { name: "names" number: 1 type: TYPE_STRING label: LABEL_REPEATED json_name: "theNames" }
              field { name: "kinds" number: 2 type: TYPE_ENUM
                type_name: ".odd.Kind" label: LABEL_REPEATED json_name: "kinds" }
              field { name: "flags" number: 3 type: TYPE_MESSAGE
                type_name: ".odd.Odd.FlagsEntry" label: LABEL_REPEATED json_name: "flags" }
              field { name: "by_id" number: 4 type: TYPE_MESSAGE
                type_name: ".odd.Odd.ByIdEntry" label: LABEL_REPEATED json_name: "byId" }
              field { name: "blobs" number: 5 type: TYPE_BYTES label: LABEL_REPEATED json_name: "blobs" }
              field { name: "ratios" number: 6 type: TYPE_FLOAT label: LABEL_REPEATED json_name: "ratios" }
              nested_type {
                name: "FlagsEntry" options { map_entry: true }
                field { name: "key" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL }
                field { name: "value" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL }
              }
              nested_type {
                name: "ByIdEntry" options { map_entry: true }
                field { name: "key" number: 1 type: TYPE_SFIXED64 label: LABEL_OPTIONAL }
                field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".odd.Odd" label: LABEL_OPTIONAL }
              }
            }
            enum_type { name: "Kind" value { name: "A" number: 0 } value { name: "B" number: -1 } }
            extension { name: "more" extendee: ".odd.Odd" number: 100 type: TYPE_MESSAGE
              type_name: ".odd.Odd" label: LABEL_REPEATED }
            extension { name: "extra" extendee: ".odd.Odd" number: 101 type: TYPE_INT32 label: LABEL_OPTIONAL }
            """,
            FileDescriptorProto(),
        ).SerializeToString()
    ],
    name="odd",
)


def mapped(described: Descriptors, message: Message, *, names: bool, defaults: bool) -> Any:
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=names,
        always_print_fields_with_no_presence=defaults,
        descriptor_pool=described.pool,
    )


def printer(
    described: Descriptors,
    *,
    names: bool = False,
    defaults: bool = True,
    slice_cost: float = SLICE,
) -> JsonPrinter:
    def packed_in(packed: Any) -> Message:
        descriptor = described.message(packed.type_url.rpartition("/")[2])
        return GetMessageClass(descriptor).FromString(packed.value)

    return JsonPrinter(
        lambda message: mapped(described, message, names=names, defaults=defaults),
        JsonCosts(described.pool, defaults=defaults),
        proto_names=names,
        new_packed=packed_in,
        slice_cost=slice_cost,
    )


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: no name may come twice."""
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


WORDS = st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
PLAIN = {
    "id": WORDS,
    "totalCents": st.integers(-(2**63), 2**63 - 1).map(str),
    "state": st.sampled_from(["OPEN", "SHIPPED", 7]),
    "signature": st.sampled_from(["", "aGk="]),
    "createdAt": st.just("2026-01-02T03:04:05.5Z"),
    "leadTime": st.just("-3.000000001s"),
    "itemCounts": st.dictionaries(WORDS, st.integers(-9, 9), max_size=5),
    "note": WORDS,
    "extra": st.dictionaries(WORDS, VALUES, max_size=4),
    "weight": st.floats(allow_nan=False, allow_infinity=False),
    "changed": st.just("id,totalCents"),
    "ratio": st.sampled_from(["NaN", "-Infinity", 0.1]),
    "card": WORDS,
    "oddOne": WORDS,
}


def with_type(name: str, value: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{name}", **value}


def orders_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    packed = st.one_of(
        inner.map(lambda order: with_type("orders.v1.Order", order)),
        VALUES.map(lambda value: with_type("google.protobuf.Value", {"value": value})),
        st.just(with_type("google.protobuf.Int64Value", {"value": "5"})),
        st.just(with_type("google.protobuf.Empty", {})),
        inner.map(lambda order: with_type("google.protobuf.Any", {"value": with_type("orders.v1.Order", order)})),
    )
    parts = {"parts": st.lists(inner, max_size=5), "attachment": packed}
    return st.fixed_dictionaries({}, optional={**PLAIN, **parts})


ORDER = st.recursive(st.fixed_dictionaries({}, optional=PLAIN), orders_of, max_leaves=6)


@given(ORDER, st.booleans(), st.booleans(), st.sampled_from([0.5, 3.0, 20.0, 100.0, SLICE]))
def test_slices_make_the_same_json(order: dict[str, Any], names: bool, defaults: bool, slice_cost: float) -> None:
    message = GetMessageClass(ORDERS.message("orders.v1.Order"))()
    json_format.ParseDict(order, message, descriptor_pool=ORDERS.pool)
    expected = mapped(ORDERS, message, names=names, defaults=defaults)

    text = printer(ORDERS, names=names, defaults=defaults, slice_cost=slice_cost).print(message, max_size=1 << 20)

    assert expected == json.loads(text, object_pairs_hook=unique)


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize("slice_cost", [0.5, 3.0, 20.0, SLICE])
def test_extensions_maps_and_closed_enums(slice_cost: float, names: bool) -> None:
    new = GetMessageClass(ODD.message("odd.Odd"))
    message: Any = new(names=["a", 'b"'], kinds=[0, -1, 0], blobs=[b"\xff", b""], ratios=[0.1, 1e38])
    message.flags[True] = 5
    message.flags[False] = -(2**62)
    for number in range(5):
        message.by_id[number].names.append(str(number))
    more = ODD.pool.FindExtensionByName("odd.more")
    extra = ODD.pool.FindExtensionByName("odd.extra")
    for _ in range(4):
        message.Extensions[more].add().names.append("x")
    message.Extensions[extra] = 3
    expected = mapped(ODD, message, names=names, defaults=True)

    text = printer(ODD, names=names, slice_cost=slice_cost).print(message, max_size=1 << 20)

    assert expected == json.loads(text, object_pairs_hook=unique)
    assert {"[odd.more]", "[odd.extra]"} < {*expected}


@pytest.mark.parametrize("slice_cost", [3.0, SLICE])
def test_the_size_is_bounded(slice_cost: float) -> None:
    """As much as is allowed is printed, and not a byte more."""
    message = GetMessageClass(ORDERS.message("orders.v1.Order"))(
        parts=[{"id": "x" * 50} for _ in range(50)], item_counts={str(n): n for n in range(99)}
    )
    again = type(message).FromString(message.SerializeToString())
    size = len(printer(ORDERS, slice_cost=slice_cost).print(message, max_size=1 << 20))

    whole = printer(ORDERS, slice_cost=slice_cost).print(
        type(again).FromString(again.SerializeToString()), max_size=size
    )
    with pytest.raises(MessageTooLarge, match=f"more than {size - 1} bytes of JSON"):
        printer(ORDERS, slice_cost=slice_cost).print(again, max_size=size - 1)

    assert size == len(whole)


def test_what_must_be_too_large_is_not_begun() -> None:
    """Of a million empty messages none is printed where the commas alone are too many."""
    prints = 0

    def count(message: Message) -> Any:
        nonlocal prints
        prints += 1
        return mapped(ORDERS, message, names=False, defaults=False)

    costs = JsonCosts(ORDERS.pool, defaults=False)
    counting = JsonPrinter(count, costs, proto_names=False, new_packed=lambda _: pytest.fail("no"))
    message = GetMessageClass(ORDERS.message("orders.v1.Order")).FromString(b"\x42\x00" * 1_000_000)

    with pytest.raises(MessageTooLarge):
        counting.print(message, max_size=2_900_000)

    assert not prints
