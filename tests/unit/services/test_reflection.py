from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from bridge.rpc.errors import FunctionFailed, MalformedRequest, NoRoute
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS
from bridge.rpc.status import StatusCode
from bridge.services import builtin
from bridge.services.descriptors import Descriptors
from bridge.services.reflected_target import ReflectedTarget
from bridge.services.reflection import ReflectionService
from bridge.services.sources import Source, Sources
from tests.support.reflecting import ReflectingFunction
from tests.support.schemas import CART, HELLO, MONEY
from tests.support.served import StreamedCall, answers

PATH = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

HELLO_FILE = Descriptors((HELLO,), name="hello.binpb")
SHOP_FILE = Descriptors((CART, MONEY), name="shop.binpb")

CRASHING = ReflectingFunction([], {})
CRASHING.failure = FunctionFailed("the function crashed")

SERVICE = ReflectionService(
    lambda: Sources(
        {
            "helloworld.Greeter": Source(HELLO_FILE),
            "shop.*": Source(SHOP_FILE),
            "dark.Horse": Source(target=ReflectedTarget(CRASHING, name="dark.Horse", now=lambda: 0.0)),
        }
    )
)


async def ask(*requests: ServerReflectionRequest, path: str = PATH) -> list[Any]:
    call = await answers(SERVICE.handler, path, *requests)
    return [ServerReflectionResponse.FromString(message) for message in await call.messages(len(requests))]


def files_in(response: Any) -> list[str]:
    return [
        FileDescriptorProto.FromString(file).name for file in response.file_descriptor_response.file_descriptor_proto
    ]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_services_are_listed(version: str) -> None:
    """Both versions list what routes lead to, and the built-in services."""
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    (response,) = await ask(ServerReflectionRequest(list_services=""), path=path)

    expected = sorted([*builtin.METHODS, "dark.Horse", "helloworld.Greeter", "shop.Cart"])
    assert expected == [service.name for service in response.list_services_response.service]


async def test_a_symbol_is_answered_with_its_file_and_imports() -> None:
    """The file comes first, then all that it needs, so that one answer is enough."""
    (response,) = await ask(ServerReflectionRequest(file_containing_symbol="shop.Cart.Pay"))

    assert ["cart.proto", "money.proto", "google/protobuf/empty.proto"] == files_in(response)


async def test_a_leading_dot_is_allowed() -> None:
    """Fully qualified names are understood in either spelling."""
    (response,) = await ask(ServerReflectionRequest(file_containing_symbol=".shop.Money"))

    assert ["money.proto"] == files_in(response)


async def test_a_file_is_found_by_its_name() -> None:
    """What one answer imports may be asked for by name."""
    (response,) = await ask(ServerReflectionRequest(file_by_filename="money.proto"))

    assert ["money.proto"] == files_in(response)


async def test_the_request_and_host_are_echoed() -> None:
    """Each response carries the request it belongs to."""
    request = ServerReflectionRequest(host="example.com", file_by_filename="money.proto")
    (response,) = await ask(request)

    assert request == response.original_request
    assert "example.com" == response.valid_host


async def test_extensions_are_answered() -> None:
    """The extensions of a type are listed, and the file of each is given."""
    numbers, file = await ask(
        ServerReflectionRequest(all_extension_numbers_of_type="shop.Money"),
        ServerReflectionRequest(file_containing_extension={"containing_type": "shop.Money", "extension_number": 7}),
    )

    assert "shop.Money" == numbers.all_extension_numbers_response.base_type_name
    assert [] == list(numbers.all_extension_numbers_response.extension_number)
    assert StatusCode.NOT_FOUND == file.error_response.error_code


@pytest.mark.parametrize(
    ("request_message", "code"),
    [
        (ServerReflectionRequest(file_containing_symbol="no.Body"), StatusCode.NOT_FOUND),
        (ServerReflectionRequest(file_by_filename="nobody.proto"), StatusCode.NOT_FOUND),
        (ServerReflectionRequest(all_extension_numbers_of_type="no.Body"), StatusCode.NOT_FOUND),
        (
            ServerReflectionRequest(all_extension_numbers_of_type="shop.Cart"),
            StatusCode.NOT_FOUND,
        ),
        (ServerReflectionRequest(), StatusCode.INVALID_ARGUMENT),
        (ServerReflectionRequest(file_containing_symbol="dark.Horse"), StatusCode.INTERNAL),
    ],
    ids=lambda value: str(value).strip(),
)
async def test_a_question_without_an_answer_does_not_end_the_stream(
    request_message: ServerReflectionRequest, code: StatusCode
) -> None:
    """An ErrorResponse says what is missing, and the next question is answered."""
    failed, listed = await ask(request_message, ServerReflectionRequest(list_services="*"))

    assert code == failed.error_response.error_code
    assert failed.error_response.error_message
    assert request_message == failed.original_request
    assert listed.list_services_response.service


async def test_each_request_is_answered_when_it_comes() -> None:
    """The stream goes both ways: a client may wait for an answer before it asks on."""
    call = StreamedCall(PATH)
    done = call.serve(SERVICE.handler)
    for count in (1, 2):
        await call.push(ServerReflectionRequest(list_services="").SerializeToString())

        assert count == len(await call.messages(count))
    await call.end()
    await done

    assert OK_TRAILERS == call.events[-1]


async def test_a_stream_without_questions_is_fine() -> None:
    """A client that asks nothing gets OK."""
    call = StreamedCall(PATH)
    await call.end()
    await SERVICE.handler(call)

    assert [EMPTY_HEADERS, OK_TRAILERS] == call.events


async def test_an_unknown_method_has_no_route() -> None:
    """Reflection has one method."""
    with pytest.raises(NoRoute):
        await SERVICE.handler(StreamedCall("/grpc.reflection.v1.ServerReflection/Other", b""))


async def test_bytes_that_are_no_request_are_malformed() -> None:
    """What does not decode is no question: the call ends."""
    with pytest.raises(MalformedRequest):
        await SERVICE.handler(StreamedCall(PATH, b"\xff\xff"))


class HandlerChannel:
    """As much of a grpc.Channel as the descriptor database uses, in front of a handler."""

    def stream_stream(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> Callable[[Iterator[Any]], Iterator[Any]]:
        def call(requests: Iterator[Any]) -> Iterator[Any]:
            sent = [request_serializer(request) for request in requests]
            return map(response_deserializer, asyncio.run(self._serve(path, sent)))

        return call

    async def _serve(self, path: str, sent: list[bytes]) -> list[bytes]:
        call = StreamedCall(path, *sent)
        await SERVICE.handler(call)
        return await call.messages(len(sent))


def test_grpcs_own_client_learns_a_service() -> None:
    """grpcio's descriptor database fills a pool with a service, its messages and what they import."""
    database = ProtoReflectionDescriptorDatabase(HandlerChannel())
    method = DescriptorPool(database).FindServiceByName("shop.Cart").methods_by_name["Pay"]

    assert "shop.Cart" in database.get_services()
    assert ("shop.Money", "google.protobuf.Empty") == (
        method.input_type.full_name,
        method.output_type.full_name,
    )


def test_grpcs_own_client_learns_that_a_symbol_is_unknown() -> None:
    """An unknown symbol is a KeyError there, as with gRPC's own server."""
    with pytest.raises(KeyError):
        ProtoReflectionDescriptorDatabase(HandlerChannel()).FindFileContainingSymbol("no.Body")
