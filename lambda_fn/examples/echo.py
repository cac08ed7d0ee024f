"""dev.Echo: metadata, trailers, deadlines, rich errors, streams, large replies and crashes, each on demand (see
echo.proto).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import grpc
from google.protobuf import any_pb2, wrappers_pb2

from lambda_fn import LambdaServer
from lambda_fn.examples import echo_pb2, echo_pb2_grpc

_INITIAL = ("echo-initial-", "x-grpc-test-echo-initial")
_TRAILING = ("echo-trailing-", "x-grpc-test-echo-trailing-bin")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RichStatus(NamedTuple):
    """What `context.abort_with_status` takes; with grpcio-status, `rpc_status.to_status` makes one."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


class Echo(echo_pb2_grpc.EchoServicer):
    def Unary(self, request: echo_pb2.EchoRequest, context: grpc.ServicerContext) -> echo_pb2.EchoReply:
        _give_metadata_back(context)
        return _reply(request, context)

    def ServerStream(
        self, request: echo_pb2.EchoRequest, context: grpc.ServicerContext
    ) -> Iterator[echo_pb2.EchoReply]:
        _give_metadata_back(context)
        for index in range(request.count or 3):
            if request.fail_after and index == request.fail_after:
                context.abort(grpc.StatusCode.ABORTED, f"failed after {index}, as asked")
            time.sleep(request.delay)
            if not context.is_active():
                return
            yield _reply(request, context, index=index)

    def ClientStream(
        self, request_iterator: Iterator[echo_pb2.EchoRequest], context: grpc.ServicerContext
    ) -> echo_pb2.EchoReply:
        _give_metadata_back(context)
        texts = [request.text for request in request_iterator]
        return echo_pb2.EchoReply(text=" ".join(texts), index=len(texts))

    async def BidiStream(
        self,
        request_iterator: AsyncIterator[echo_pb2.EchoRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[echo_pb2.EchoReply]:
        initial, trailing = _asked_back(context)
        if initial:
            await context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailing)
        index = 0
        async for request in request_iterator:
            yield _reply(request, context, index=index)
            index += 1

    def Fail(self, request: echo_pb2.FailRequest, context: grpc.ServicerContext) -> echo_pb2.EchoReply:
        code = _CODES.get(request.code, grpc.StatusCode.UNKNOWN)
        details = _status_details(request.code, request.message, request.details)
        _, trailing = _asked_back(context)
        context.abort_with_status(RichStatus(code, request.message, (("grpc-status-details-bin", details), *trailing)))

    def Raise(self, request: echo_pb2.RaiseRequest, context: grpc.ServicerContext) -> echo_pb2.EchoReply:
        raise RuntimeError(request.message)

    def Exit(self, request: echo_pb2.ExitRequest, context: grpc.ServicerContext) -> echo_pb2.EchoReply:
        os._exit(request.code)

    def Sleep(self, request: echo_pb2.SleepRequest, context: grpc.ServicerContext) -> echo_pb2.SleepReply:
        before = context.time_remaining()
        time.sleep(request.seconds)
        return echo_pb2.SleepReply(remaining_before=before, remaining_after=context.time_remaining())

    async def SleepAsync(
        self, request: echo_pb2.SleepRequest, context: grpc.aio.ServicerContext
    ) -> echo_pb2.SleepReply:
        before = context.time_remaining()
        await asyncio.sleep(request.seconds)
        return echo_pb2.SleepReply(remaining_before=before, remaining_after=context.time_remaining())

    def Big(self, request: echo_pb2.BigRequest, context: grpc.ServicerContext) -> echo_pb2.BigReply:
        return echo_pb2.BigReply(data=bytes(request.size))


def _give_metadata_back(context: grpc.ServicerContext) -> None:
    initial, trailing = _asked_back(context)
    if initial:
        context.send_initial_metadata(initial)
    context.set_trailing_metadata(trailing)


def _asked_back(
    context: grpc.ServicerContext | grpc.aio.ServicerContext,
) -> tuple[list[tuple[str, str | bytes]], list[tuple[str, str | bytes]]]:
    """Return what shall come back as initial and as trailing metadata."""
    metadata = [(name, value) for name, value in context.invocation_metadata()]
    initial = [pair for pair in metadata if pair[0].startswith(_INITIAL)]
    return initial, [pair for pair in metadata if pair[0].startswith(_TRAILING)]


def _reply(
    request: echo_pb2.EchoRequest,
    context: grpc.ServicerContext | grpc.aio.ServicerContext,
    *,
    index: int = 0,
) -> echo_pb2.EchoReply:
    return echo_pb2.EchoReply(
        text=request.text,
        index=index,
        metadata=[_metadatum(name, value) for name, value in context.invocation_metadata()],
        peer=context.peer(),
        time_remaining=context.time_remaining(),
        # Lambda's own context; absent when the service runs as a plain gRPC server.
        request_id=getattr(getattr(context, "lambda_context", None), "aws_request_id", ""),
    )


def _metadatum(name: str, value: str | bytes) -> echo_pb2.Metadatum:
    if isinstance(value, bytes):
        return echo_pb2.Metadatum(name=name, binary=value)
    return echo_pb2.Metadatum(name=name, text=value)


def _status_details(code: int, message: str, details: list[str]) -> bytes:
    """Return a serialized google.rpc.Status: code = 1, message = 2, repeated google.protobuf.Any details = 3.

    With googleapis-common-protos this would be `status_pb2.Status(...)`; a function's zip can do without.
    """
    packed = b"\x08" + _varint(code) + _field(2, message.encode())
    for detail in details:
        wrapped = any_pb2.Any()
        wrapped.Pack(wrappers_pb2.StringValue(value=detail))
        packed += _field(3, wrapped.SerializeToString())
    return packed


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


server = LambdaServer()
echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
handler = server.handler

if __name__ == "__main__":
    server.serve("0.0.0.0:50051")
