"""JsonCosts: what is dear is known to be dear, however few bytes it has."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.services.json_cost import TOO_MUCH, JsonCosts

ORDERS = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")
ORDER = ORDERS.message("orders.v1.Order")
COSTS = JsonCosts(ORDERS.pool, defaults=True)
LITTLE = 100.0
"""Microseconds: less than any of the dear messages below, more than an ordinary one."""


def wide(fields: int) -> Descriptors:
    """A message type with so many fields, which a `wide.Root` holds."""
    file = FileDescriptorProto(name="wide.proto", package="wide", syntax="proto3")
    root = file.message_type.add(name="Root")
    root.field.add(
        name="each",
        number=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        label=FieldDescriptorProto.LABEL_REPEATED,
        type_name=".wide.Wide",
    )
    message = file.message_type.add(name="Wide")
    for number in range(1, fields + 1):
        message.field.add(name=f"f{number}", number=number, type=FieldDescriptorProto.TYPE_INT32, label=1)
    return Descriptors([file.SerializeToString()], name="wide")


def order(**fields: Any) -> Any:
    return GetMessageClass(ORDER)(**fields)


def packed(inner: Any, levels: int = 1) -> Any:
    """The message in an Any, in an Any, ..."""
    any_class = GetMessageClass(ORDERS.message("google.protobuf.Any"))
    for _ in range(levels):
        inner = any_class(type_url=f"x/{inner.DESCRIPTOR.full_name}", value=inner.SerializeToString())
    return inner


def deep(levels: int) -> Any:
    inner = order(id="x")
    for _ in range(levels):
        inner = order(parts=[inner])
    return inner


ORDINARY = order(id="order-1", total_cents=5, item_counts={"apple": 3, "pear": 4}, note="x" * 2000)

DEAR = {
    "empty messages": order(parts=[{}] * 500),
    "a map": order(item_counts={str(number): number for number in range(500)}),
    "levels": deep(60),
    "a Struct": order(extra={"a": list(range(500))}),
    "a FieldMask": order(changed={"paths": ["a_b"] * 500}),
    "an Any": order(attachment=packed(order(parts=[{}] * 500))),
    "Any in Any": packed(order(id="x"), 12),
}


def test_an_ordinary_message_is_cheap() -> None:
    assert COSTS.of_message(ORDINARY, most=1e6) < LITTLE


@pytest.mark.parametrize("shape", DEAR)
def test_dear_messages(shape: str) -> None:
    message = DEAR[shape]

    assert COSTS.of_message(message, most=LITTLE) > LITTLE
    assert COSTS.of_message(message, most=1e12) > LITTLE


def test_scalars_that_are_packed() -> None:
    numbers = ORDERS_WITH_NUMBERS.message("n.Numbers")
    message = GetMessageClass(numbers)(values=range(5000))

    assert JsonCosts(ORDERS_WITH_NUMBERS.pool, defaults=True).of_message(message, most=1e6) > 1000


def test_defaults_count() -> None:
    """An empty message costs what its defaults cost, unless they are left out."""
    described = wide(500)
    root = GetMessageClass(described.message("wide.Root"))(each=[{}])

    assert JsonCosts(described.pool, defaults=True).of_message(root, most=1e6) > LITTLE
    assert JsonCosts(described.pool, defaults=False).of_message(root, most=1e6) < LITTLE


def test_the_widest_type_counts() -> None:
    """Reading an empty object takes time for each field of its type, and so does the memory of a parsed one."""
    narrow, broad = wide(5), wide(500)
    text = b'{"each":[{},{},{},{}]}'
    costs = [JsonCosts(each.pool, defaults=True).of_json(text, each.message("wide.Root")) for each in (narrow, broad)]

    assert costs[1] > 10 * costs[0]
    assert [5, 500] == [
        JsonCosts(each.pool, defaults=True).widest(each.message("wide.Root")) for each in (narrow, broad)
    ]


@pytest.mark.parametrize(
    "text",
    [
        b'{"parts":[' + b"{}," * 200 + b"{}]}",
        b'{"extra":{"a":[' + b"1," * 200 + b"1]}}",
        b'{"extra":' + b'{"a":' * 200,
        b'{"itemCounts":{' + b'"a":1,' * 200 + b'"a":1}}',
        b"[" * 200,
    ],
)
def test_dear_json(text: bytes) -> None:
    assert COSTS.of_json(text, ORDER) > LITTLE


def test_cheap_json() -> None:
    assert COSTS.of_json(b'{"id":"x","note":"%b"}' % (b"y" * 10_000), ORDER) < LITTLE


def test_an_any_that_cannot_be_read_is_cheap() -> None:
    """It will be refused, not printed."""
    any_class = GetMessageClass(ORDERS.message("google.protobuf.Any"))

    for message in (
        any_class(type_url="x/no.Such", value=b"\x42\x00" * 5000),
        any_class(type_url="x/orders.v1.Order", value=b"\xff"),
    ):
        assert COSTS.of_message(message, most=1e6) < LITTLE


def test_an_any_that_would_be_large_is_not_parsed() -> None:
    large = packed(order(parts=[{}] * 100_000))

    assert COSTS.of_message(large, most=TOO_MUCH) > TOO_MUCH


ORDERS_WITH_NUMBERS = Descriptors(
    [
        FileDescriptorProto(
            name="n.proto",
            package="n",
            syntax="proto3",
            message_type=[
                DescriptorProto(
                    name="Numbers",
                    field=[
                        FieldDescriptorProto(
                            name="values",
                            number=1,
                            type=FieldDescriptorProto.TYPE_INT32,
                            label=FieldDescriptorProto.LABEL_REPEATED,
                        )
                    ],
                )
            ],
        ).SerializeToString()
    ],
    name="n",
)


def test_the_densest_type_bounds_any_message() -> None:
    """No message costs more than its bytes can, unless it holds an Any, which can be of any type."""
    described = wide(50)
    costs = JsonCosts(described.pool, defaults=True)
    root = described.message("wide.Root")

    messages: list[dict[str, Any]] = [{}, {"each": [{}] * 100}, {"each": [{"f1": 1, "f50": 2}] * 20}]
    for message in messages:
        built = GetMessageClass(root)(**message)
        most = costs.densest(root) * built.ByteSize()
        assert costs.of_message(built, most=1e9) <= most + 2 + 50  # itself, even if it has no byte

    assert math.isinf(COSTS.densest(ORDER))
