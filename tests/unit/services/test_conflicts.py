from __future__ import annotations

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from bridge.services.conflicts import conflicts
from bridge.services.descriptors import Descriptors
from tests.support.schemas import CART, HELLO, MONEY, proto_file

OLD_MONEY = proto_file("types/money.proto", package="shop", messages={"Money": ["units", "nanos"]})


def test_two_versions_of_a_message_are_told() -> None:
    """The sentence names the symbol and both sources, whatever the files are called."""
    found = conflicts([Descriptors((CART, MONEY), name="new.binpb"), Descriptors((OLD_MONEY,), name="old.binpb")])

    assert found == [
        (
            "old.binpb",
            "shop.Money is not the same in new.binpb and in old.binpb: reflection answers with that of the route",
        )
    ]


def test_the_same_definition_twice_is_no_conflict() -> None:
    """Two functions may share their messages."""
    sources = [Descriptors((MONEY,), name="a"), Descriptors((CART, MONEY), name="b")]

    assert [] == conflicts(sources)


def test_one_source_of_several_routes_is_looked_at_once() -> None:
    """A descriptor file that several entries name does not conflict with itself."""
    source = Descriptors((HELLO,), name="a")

    assert [] == conflicts([source, source])


def test_default_json_names_make_no_difference() -> None:
    """protoc spells out the JSON names that generated code leaves out."""
    file = FileDescriptorProto.FromString(proto_file("m.proto", package="m", messages={"M": ["snake_case_name"]}))
    plain = file.SerializeToString()
    file.message_type[0].field[0].json_name = "snakeCaseName"
    spelt_out = file.SerializeToString()

    assert [] == conflicts([Descriptors((plain,), name="a"), Descriptors((spelt_out,), name="b")])


def test_chosen_json_names_do() -> None:
    """Another JSON name is another message to a client that speaks JSON."""
    file = FileDescriptorProto.FromString(MONEY)
    file.message_type[0].field[0].json_name = "sum"
    sources = [
        Descriptors((MONEY,), name="a"),
        Descriptors((file.SerializeToString(),), name="b"),
    ]

    assert 1 == len(conflicts(sources))
