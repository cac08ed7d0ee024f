"""How `call` reads the name of a method, and which service it names when there is none of the name it was given."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from bridge.commands.call_symbols import FileSource, _nearest_service, split_method
from bridge.commands.failure import CommandFailed
from bridge.services.descriptors import Descriptors


def declaring(service: str) -> bytes:
    package, _, name = service.rpartition(".")
    file = FileDescriptorProto(name=f"{service}.proto", package=package, syntax="proto3")
    file.service.add(name=name)
    return file.SerializeToString()


@pytest.mark.parametrize(
    ("services", "symbol", "told"),
    [
        (["grpc.health.v1.Health"], "zzz.Q", "zzz.Q is not described in these files"),
        (["grpc.health.v1.Health"], "grpc.helth.v1.Health", ', did you mean "grpc.health.v1.Health"?'),
        (["grpc.health.v1.Health", "shop.v1.Cart"], "zzz.Q", "; there is shop.v1.Cart"),
        (["grpc.health.v1.Health", "shop.v1.Cart"], "Cart", ', did you mean "shop.v1.Cart"?'),
    ],
)
def test_built_in_services_are_named_only_if_they_are_near(services: list[str], symbol: str, told: str) -> None:
    source = FileSource(Descriptors(map(declaring, services), name="these files"))

    with pytest.raises(CommandFailed) as refused:
        source.describing(symbol)
    assert str(refused.value).endswith(told)


def test_a_service_that_there_is_is_not_suggested_for_itself() -> None:
    """Its function may have failed, so that nothing describes it."""
    assert "" == _nearest_service("shop.v1.Cart", ["shop.v1.Cart", "shop.v1.Card"])


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("shop.v1.Cart/Add", ("shop.v1.Cart", "Add")),
        ("/shop.v1.Cart/Add", ("shop.v1.Cart", "Add")),
        ("shop.v1.Cart.Add", ("shop.v1.Cart", "Add")),
        (".shop.v1.Cart.Add", ("shop.v1.Cart", "Add")),
        ("Cart.Add", ("Cart", "Add")),
        ("Cart", None),
        ("shop.v1.Cart/", None),
        ("shop.v1.Cart.", None),
        ("a/b/c", None),
        ("", None),
    ],
)
def test_a_method_stands_behind_a_slash_or_the_last_dot(text: str, called: tuple[str, str] | None) -> None:
    assert called == split_method(text)
