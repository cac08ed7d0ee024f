from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from bridge.services.descriptors import Descriptors, kind_of, load_descriptors
from bridge.services.errors import BadDescriptors
from tests.support.schemas import CART, HELLO, MONEY, descriptor_set, proto_file


def names(files: list[bytes]) -> list[str]:
    return [FileDescriptorProto.FromString(file).name for file in files]


def extending_file() -> bytes:
    file = FileDescriptorProto(name="ext.proto", package="ext", syntax="proto2")
    base = file.message_type.add(name="Base")
    base.extension_range.add(start=100, end=200)
    for number in (150, 101):
        file.extension.add(
            name=f"note_{number}",
            number=number,
            extendee=".ext.Base",
            type=FieldDescriptorProto.TYPE_STRING,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
    return file.SerializeToString()


def test_files_may_come_in_any_order() -> None:
    """A file is understood although what it imports follows later."""
    assert ("shop.Cart",) == Descriptors((CART, MONEY), name="set").services


def test_protobufs_own_files_need_not_be_sent() -> None:
    """A set made without the well-known types is completed with them."""
    files = Descriptors((CART, MONEY), name="set").with_imports("cart.proto")

    assert ["cart.proto", "money.proto", "google/protobuf/empty.proto"] == names(files)


def test_imports_come_once_and_near_ones_first() -> None:
    """A file that two others import is given once."""
    base = proto_file("base.proto")
    left, right = (proto_file(f"{name}.proto", imports=["base.proto"]) for name in ("l", "r"))
    top = proto_file("top.proto", imports=["l.proto", "r.proto"])
    files = Descriptors((base, left, right, top), name="set").with_imports("top.proto")

    assert ["top.proto", "l.proto", "r.proto", "base.proto"] == names(files)


@pytest.mark.parametrize(
    "symbol",
    [
        "helloworld.Greeter",
        "helloworld.Greeter.SayHello",
        "helloworld.HelloRequest",
        "helloworld.HelloRequest.name",
    ],
)
def test_symbols_lead_to_their_file(symbol: str) -> None:
    """Services, methods, messages and fields are found."""
    assert "hello.proto" == Descriptors((HELLO,), name="set").file_of(symbol)


@pytest.mark.parametrize("symbol", ["", "helloworld", "helloworld.Nobody", "helloworld.Greeter.No"])
def test_unknown_symbols_have_no_file(symbol: str) -> None:
    """What is not defined leads nowhere."""
    assert None is Descriptors((HELLO,), name="set").file_of(symbol)


def test_extensions_are_found_by_number() -> None:
    """The extensions of a message are listed in order, and each leads to its file."""
    extended = Descriptors((extending_file(),), name="set")

    assert [101, 150] == extended.extension_numbers("ext.Base")
    assert "ext.proto" == extended.file_of_extension("ext.Base", 150)


def test_unknown_extensions_are_told_from_unknown_messages() -> None:
    """A message without extensions has an empty list, an unknown one has none."""
    described = Descriptors((HELLO,), name="set")

    assert [] == described.extension_numbers("helloworld.HelloRequest")
    assert None is described.extension_numbers("helloworld.Nobody")
    assert None is described.file_of_extension("helloworld.HelloRequest", 7)
    assert None is described.file_of_extension("helloworld.Nobody", 7)


@pytest.mark.parametrize(
    ("request_type", "response_type", "kind"),
    [
        ("m.M", "m.M", "unary"),
        ("stream m.M", "m.M", "client_stream"),
        ("m.M", "stream m.M", "server_stream"),
        ("stream m.M", "stream m.M", "bidi_stream"),
    ],
)
def test_kinds(request_type: str, response_type: str, kind: str) -> None:
    """A method's kind follows from which sides stream."""
    file = proto_file(
        "m.proto",
        package="m",
        messages={"M": []},
        services={"S": {"Do": (request_type, response_type)}},
    )

    assert kind == kind_of(Descriptors((file,), name="set").find_method("m.S", "Do"))


def test_a_method_leads_to_its_messages() -> None:
    """Message classes can be made from what find_method gives."""
    method = Descriptors((HELLO,), name="set").find_method("helloworld.Greeter", "SayHello")
    assert method is not None
    message = GetMessageClass(method.input_type)(name="you")

    assert b"\n\x03you" == message.SerializeToString()


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ((CART,), "set lacks money.proto, which cart.proto imports"),
        ((b"\xff",), "does not decode"),
        ((proto_file("a.proto", imports=["a.proto"]),), "a.proto imports itself"),
        (
            (proto_file("a.proto"), proto_file("a.proto", package="other")),
            "two versions of a.proto",
        ),
        (
            (
                proto_file("a.proto", messages={"M": []}),
                proto_file("b.proto", messages={"M": ["x"]}),
            ),
            "set: b.proto: ",
        ),
        (
            (proto_file("a.proto", services={"S": {"Do": ("Lost", "Lost")}}),),
            "set: a.proto: ",
        ),
    ],
)
def test_unusable_files_are_named(files: tuple[bytes, ...], complaint: str) -> None:
    """The error says which file of which source is wrong, and how."""
    with pytest.raises(BadDescriptors, match=complaint):
        Descriptors(files, name="set")


def test_long_import_chains_are_no_problem() -> None:
    """Depth is bounded by memory, not by the stack."""
    chain = [proto_file(f"{depth}.proto", imports=[f"{depth - 1}.proto"] if depth else []) for depth in range(2000)]

    assert 2000 == len(Descriptors(chain[::-1], name="set").with_imports("1999.proto"))


def test_a_file_descriptor_set_is_read(tmp_path: Path) -> None:
    """`descriptors: set.binpb` names a serialized FileDescriptorSet."""
    path = tmp_path / "set.binpb"
    path.write_bytes(descriptor_set(MONEY, CART))

    assert ("shop.Cart",) == load_descriptors(path).services


@pytest.mark.parametrize(("content", "complaint"), [(b"hello, world", "not a FileDescriptorSet"), (b"", "no file")])
def test_other_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    """What is no FileDescriptorSet, or an empty one, is refused."""
    path = tmp_path / "set.binpb"
    path.write_bytes(content)

    with pytest.raises(BadDescriptors, match=complaint):
        load_descriptors(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The error says that there is no such file."""
    with pytest.raises(BadDescriptors, match="No such file"):
        load_descriptors(tmp_path / "set.binpb")


def test_one_proto_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """A .proto is not compiled alone: its folder says where imports are."""
    path = tmp_path / "hello.proto"
    path.write_text('syntax = "proto3";')

    with pytest.raises(BadDescriptors, match="name the folder"):
        load_descriptors(path)


def test_files_above_the_limit_are_not_read(tmp_path: Path) -> None:
    """A descriptor file has a largest size."""
    path = tmp_path / "set.binpb"
    path.write_bytes(descriptor_set(HELLO))

    with pytest.raises(BadDescriptors, match="more than 20 bytes"):
        load_descriptors(path, max_size=20)
