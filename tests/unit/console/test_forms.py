"""What the page is told of a method, so that it can make a form."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from bridge.console.conversation import FieldShown, RequestForm
from bridge.console.forms import MOST_FIELDS, MOST_METHODS, MOST_TYPES, form_of, methods_of
from bridge.services.descriptors import Descriptors, load_descriptors

ORDERS = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")
ORDER = "orders.v1.Order"
MESSAGE = FieldDescriptorProto.TYPE_MESSAGE


def method(descriptors: Descriptors, service: str, name: str) -> MethodDescriptor:
    found = descriptors.find_method(service, name)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def form() -> RequestForm:
    return form_of(method(ORDERS, "orders.v1.Orders", "Talk"))


def test_methods_have_their_kind_and_types() -> None:
    shown = methods_of(ORDERS, "orders.v1.Orders")

    assert shown is not None
    assert ["Echo", "Get", "Fail", "Ping", "Talk"] == [each.name for each in shown]
    assert ("bidi_stream", ORDER, ORDER) == (shown[-1].kind, shown[-1].input, shown[-1].output)
    assert methods_of(ORDERS, "no.Such") is None


@pytest.mark.parametrize(
    "field",
    [
        FieldShown("id", "id", "string"),
        FieldShown("totalCents", "total_cents", "int64"),
        FieldShown("state", "state", "enum", of="orders.v1.State"),
        FieldShown("signature", "signature", "bytes"),
        FieldShown("createdAt", "created_at", "message", of="google.protobuf.Timestamp", presence=True),
        FieldShown("itemCounts", "item_counts", "int32", key="string"),
        FieldShown("parts", "parts", "message", of=ORDER, repeated=True),
        FieldShown("note", "note", "string", presence=True),
        FieldShown("card", "card", "string", oneof="payment", presence=True),
        FieldShown("voucher", "voucher", "uint64", oneof="payment", presence=True),
        FieldShown("oddOne", "odd_name", "string"),
    ],
    ids=lambda field: field.name,
)
def test_each_kind_of_field_is_told(form: RequestForm, field: FieldShown) -> None:
    assert field in form.messages[ORDER]


def test_enums_are_told_and_types_that_the_page_knows_are_not(form: RequestForm) -> None:
    assert {"orders.v1.State": ["STATE_UNSPECIFIED", "OPEN", "SHIPPED"]} == form.enums
    assert {ORDER} == set(form.messages)
    assert not form.is_cut


def a_file() -> tuple[FileDescriptorProto, Descriptors]:
    """Many types, each with many fields, and many methods."""
    file = FileDescriptorProto(name="wide.proto", package="wide", syntax="proto3")
    first = file.message_type.add(name="First")
    for number in range(1, MOST_TYPES + 50):
        inner = file.message_type.add(name=f"M{number}")
        for at in range(1, 30):
            inner.field.add(name=f"f{at}", number=at, type=FieldDescriptorProto.TYPE_INT32, label=1)
        first.field.add(name=f"m{number}", number=number, type=MESSAGE, type_name=f".wide.M{number}", label=1)
    service = file.service.add(name="S")
    for number in range(MOST_METHODS + 5):
        service.method.add(name=f"Do{number}", input_type=".wide.First", output_type=".wide.First")
    return file, Descriptors([file.SerializeToString()], name="wide")


def test_what_is_told_is_bounded() -> None:
    """The page falls back on JSON for types that it is not told of."""
    _, descriptors = a_file()

    form = form_of(method(descriptors, "wide.S", "Do0"))
    methods = methods_of(descriptors, "wide.S")

    assert form.is_cut
    assert len(form.messages) <= MOST_TYPES
    assert sum(map(len, form.messages.values())) < MOST_FIELDS + MOST_TYPES
    assert methods is not None
    assert MOST_METHODS == len(methods)


def test_proto2_tells_what_is_required_and_its_groups() -> None:
    file = FileDescriptorProto(name="old.proto", package="old")
    message = file.message_type.add(name="Old")
    message.field.add(name="must", number=1, type=FieldDescriptorProto.TYPE_STRING, label=2)
    message.field.add(name="inner", number=2, type=FieldDescriptorProto.TYPE_GROUP, type_name=".old.Old.Inner", label=1)
    message.nested_type.add(name="Inner").field.add(
        name="flag", number=1, type=FieldDescriptorProto.TYPE_BOOL, label=FieldDescriptorProto.LABEL_REPEATED
    )
    file.service.add(name="S").method.add(name="Do", input_type=".old.Old", output_type=".old.Old")
    descriptors = Descriptors([file.SerializeToString()], name="old")

    form = form_of(method(descriptors, "old.S", "Do"))

    assert [
        FieldShown("must", "must", "string", presence=True, required=True),
        FieldShown("inner", "inner", "message", of="old.Old.Inner", presence=True),
    ] == form.messages["old.Old"]
    assert [FieldShown("flag", "flag", "bool", repeated=True)] == form.messages["old.Old.Inner"]
