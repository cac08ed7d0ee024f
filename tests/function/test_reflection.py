"""Server reflection, beside grpcio-reflection's answers to the same questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from lambda_fn import LambdaServer
from lambda_fn.examples import echo, echo_pb2, echo_pb2_grpc
from tests.support.lambda_channel import LambdaChannel, Outcome, grpcio_outcome, sync_server

Request: Any = reflection_pb2.ServerReflectionRequest
Response: Any = reflection_pb2.ServerReflectionResponse

V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
V1ALPHA = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

QUESTIONS = {
    "services": Request(host="here", list_services="*"),
    "service": Request(file_containing_symbol="dev.Echo"),
    "method": Request(file_containing_symbol="dev.Echo.Unary"),
    "message": Request(file_containing_symbol="dev.EchoReply"),
    "file with dependencies": Request(file_by_filename="google/protobuf/compiler/plugin.proto"),
    "extension": Request(
        file_containing_extension={
            "containing_type": "google.protobuf.FeatureSet",
            "extension_number": 99999,
        }
    ),
    "extension numbers": Request(all_extension_numbers_of_type="google.protobuf.FileOptions"),
    "no such symbol": Request(file_containing_symbol="dev.Nowhere"),
    "no such file": Request(file_by_filename="nowhere.proto"),
    "no such type": Request(all_extension_numbers_of_type="dev.Nowhere"),
    "nothing": Request(host="here"),
}


@pytest.fixture(scope="module")
def channel() -> Iterator[LambdaChannel]:
    server = LambdaServer()
    echo_pb2_grpc.add_EchoServicer_to_server(echo.Echo(), server)
    yield LambdaChannel(server)
    server.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    def add(server: Any) -> None:
        echo_pb2_grpc.add_EchoServicer_to_server(echo.Echo(), server)
        reflection.enable_server_reflection(("dev.Echo",), server)

    with sync_server(add) as served:
        yield served


def comparable(data: bytes) -> Any:
    """The response, without the wording of errors and the order of files after the first."""
    response = Response.FromString(data)
    response.ClearField("valid_host")
    if response.HasField("error_response"):
        response.error_response.ClearField("error_message")
    files = response.file_descriptor_response.file_descriptor_proto
    files[1:] = sorted(files[1:])
    return response


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_a_question_is_answered_as_by_grpcio_reflection(channel: LambdaChannel, address: str, question: Any) -> None:
    """The same content in v1 and v1alpha."""
    raw = question.SerializeToString()
    (expected,) = grpcio_outcome(address, V1ALPHA, (raw,)).messages

    for method in (V1, V1ALPHA):
        (answer,) = channel.call(method, (raw,)).messages
        assert comparable(expected) == comparable(answer)


def test_several_questions_are_answered_in_order(channel: LambdaChannel) -> None:
    """The bridge gathers them into one event."""
    questions = [QUESTIONS["services"], QUESTIONS["no such file"], QUESTIONS["service"]]
    outcome = channel.call(V1, [question.SerializeToString() for question in questions])
    answers = [Response.FromString(message) for message in outcome.messages]

    assert questions == [answer.original_request for answer in answers]
    assert "here" == answers[0].valid_host
    assert (5, "not found: nowhere.proto") == (
        answers[1].error_response.error_code,
        answers[1].error_response.error_message,
    )
    file = descriptor_pb2.FileDescriptorProto.FromString(answers[2].file_descriptor_response.file_descriptor_proto[0])
    assert echo_pb2.DESCRIPTOR.name == file.name


@pytest.mark.parametrize("raw", [b"\xff", b"\x1a\x05ab", b"\x0b", b"\xff" * 20])
def test_a_question_that_is_no_message_fails_the_call(channel: LambdaChannel, raw: bytes) -> None:
    """As with any request that does not decode."""
    assert Outcome(grpc.StatusCode.INTERNAL, "Exception deserializing request!") == channel.call(V1, (raw,))


def test_a_name_that_is_no_text_is_not_found(channel: LambdaChannel) -> None:
    """Whatever bytes stand there."""
    (answer,) = channel.call(V1, (b"\x22\x01\xff",)).messages

    assert b"\x3a" in answer  # field 7, error_response: the rest is no valid text for a parser


def test_unknown_fields_are_skipped(channel: LambdaChannel) -> None:
    """Of every wire type: a later version may have them."""
    unknown = b"\x50\x01" + b"\x59" + bytes(8) + b"\x65" + bytes(4) + b"\x6a\x01a"
    (answer,) = channel.call(V1, (unknown + b"\x3a\x01*",)).messages

    assert ["dev.Echo"] == [service.name for service in Response.FromString(answer).list_services_response.service]


def test_reflection_can_be_off() -> None:
    """Then it is a method like any other that is not there."""
    server = LambdaServer(reflection=False)
    outcome = LambdaChannel(server).call(V1, ())
    server.close()

    assert grpc.StatusCode.UNIMPLEMENTED is outcome.code


def test_a_reflection_servicer_of_the_users_wins() -> None:
    """grpcio-reflection, registered by the user, answers for v1alpha; ours still for v1."""
    server = LambdaServer()
    reflection.enable_server_reflection(("mine.Only",), server)
    channel = LambdaChannel(server)
    raw = QUESTIONS["services"].SerializeToString()
    names = [
        [service.name for service in Response.FromString(message).list_services_response.service]
        for method in (V1ALPHA, V1)
        for message in channel.call(method, (raw,)).messages
    ]
    server.close()

    assert [["mine.Only"], ["grpc.reflection.v1alpha.ServerReflection"]] == names
