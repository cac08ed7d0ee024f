"""Which service `call` names when there is none of the name that it was given."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from bridge.commands.call_symbols import FileSource
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
