"""Small file descriptors, written as the .proto they stand for would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

Method = tuple[str, str]
"""Request and response type, with a leading `stream ` where the .proto would have it."""


def proto_file(
    name: str,
    *,
    package: str = "",
    imports: Sequence[str] = (),
    messages: Mapping[str, Sequence[str]] | None = None,
    services: Mapping[str, Mapping[str, Method]] | None = None,
) -> bytes:
    """A serialized FileDescriptorProto. A message is given by the names of its fields, all strings."""
    file = FileDescriptorProto(name=name, package=package, syntax="proto3", dependency=imports)
    for message, fields in (messages or {}).items():
        added = file.message_type.add(name=message)
        for number, field in enumerate(fields, start=1):
            added.field.add(
                name=field,
                number=number,
                type=FieldDescriptorProto.TYPE_STRING,
                label=FieldDescriptorProto.LABEL_OPTIONAL,
            )
    for service, methods in (services or {}).items():
        added_service = file.service.add(name=service)
        for method, (request, response) in methods.items():
            added_service.method.add(
                name=method,
                input_type=f".{request.removeprefix('stream ')}",
                output_type=f".{response.removeprefix('stream ')}",
                client_streaming=request.startswith("stream "),
                server_streaming=response.startswith("stream "),
            )
    return file.SerializeToString()


def descriptor_set(*files: bytes) -> bytes:
    return FileDescriptorSet(file=[FileDescriptorProto.FromString(file) for file in files]).SerializeToString()


HELLO = proto_file(
    "hello.proto",
    package="helloworld",
    messages={"HelloRequest": ["name"], "HelloReply": ["message"]},
    services={
        "Greeter": {
            "SayHello": ("helloworld.HelloRequest", "helloworld.HelloReply"),
            "Chat": ("stream helloworld.HelloRequest", "stream helloworld.HelloReply"),
        }
    },
)
MONEY = proto_file("money.proto", package="shop", messages={"Money": ["amount"]})
CART = proto_file(
    "cart.proto",
    package="shop",
    imports=["money.proto", "google/protobuf/empty.proto"],
    services={"Cart": {"Pay": ("shop.Money", "google.protobuf.Empty")}},
)
