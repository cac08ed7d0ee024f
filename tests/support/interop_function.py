"""gRPC's interop service as a Lambda function: what its clients ask of a server (grpc
doc/interop-test-descriptions.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from lambda_fn import LambdaServer
from tests.support.protos import interop_pb2 as pb
from tests.support.protos import interop_pb2_grpc

_INITIAL = "x-grpc-test-echo-initial"
_TRAILING = "x-grpc-test-echo-trailing-bin"


class TestService(interop_pb2_grpc.TestServiceServicer):  # type: ignore[misc]  # generated code has no types
    def EmptyCall(self, request: pb.Empty, context: Any) -> pb.Empty:
        return pb.Empty()

    def UnaryCall(self, request: pb.SimpleRequest, context: Any) -> pb.SimpleResponse:
        _echo_metadata(context)
        _fail_if_asked(request, context)
        return pb.SimpleResponse(payload=_payload(request.response_size))

    def StreamingOutputCall(
        self, request: pb.StreamingOutputCallRequest, context: Any
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        _echo_metadata(context)
        yield from _responses(request, context)

    def StreamingInputCall(
        self, requests: Iterable[pb.StreamingInputCallRequest], context: Any
    ) -> pb.StreamingInputCallResponse:
        size = sum(len(request.payload.body) for request in requests)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    def FullDuplexCall(
        self, requests: Iterable[pb.StreamingOutputCallRequest], context: Any
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        _echo_metadata(context)
        for request in requests:
            yield from _responses(request, context)


def _responses(request: pb.StreamingOutputCallRequest, context: Any) -> Iterator[pb.StreamingOutputCallResponse]:
    _fail_if_asked(request, context)
    for parameters in request.response_parameters:
        if parameters.interval_us:
            time.sleep(parameters.interval_us / 1e6)
        yield pb.StreamingOutputCallResponse(payload=_payload(parameters.size))


def _payload(size: int) -> pb.Payload:
    return pb.Payload(body=bytes(size))


def _echo_metadata(context: Any) -> None:
    received = dict(context.invocation_metadata())
    if _INITIAL in received:
        context.send_initial_metadata(((_INITIAL, received[_INITIAL]),))
    if _TRAILING in received:
        context.set_trailing_metadata(((_TRAILING, received[_TRAILING]),))


def _fail_if_asked(request: Any, context: Any) -> None:
    wanted = request.response_status
    if wanted.code:
        codes = {code.value[0]: code for code in grpc.StatusCode}
        context.abort(codes[wanted.code], wanted.message)


server = LambdaServer()
interop_pb2_grpc.add_TestServiceServicer_to_server(TestService(), server)
handler = server.handler
