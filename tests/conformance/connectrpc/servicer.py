"""The suite's service as a Lambda function: each request says what to answer, each answer tells what arrived.

What a server must do stands in the suite's service.proto and docs/testing_servers.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status

from bridge.rpc.metadata import decode_binary, encode_binary
from lambda_fn import LambdaServer
from tests.support.protos import conformance_pb2 as pb
from tests.support.protos import conformance_pb2_grpc

MAX_MESSAGE = 200 << 10
"""Bytes of a request message: the limit that the suite sets for each server."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_TIMEOUTS = frozenset(("grpc-timeout", "connect-timeout-ms"))


class ConformanceService(conformance_pb2_grpc.ConformanceServiceServicer):  # type: ignore[misc]  # generated code has no types
    """`Unimplemented` stays as the generated code has it."""

    def Unary(self, request: pb.UnaryRequest, context: Any) -> pb.UnaryResponse:
        payload = _single_response(request, [request], context)
        return pb.UnaryResponse(payload=payload)

    def IdempotentUnary(self, request: pb.IdempotentUnaryRequest, context: Any) -> pb.IdempotentUnaryResponse:
        payload = _single_response(request, [request], context)
        return pb.IdempotentUnaryResponse(payload=payload)

    def ClientStream(self, requests: Iterable[pb.ClientStreamRequest], context: Any) -> pb.ClientStreamResponse:
        received = list(requests)
        first = received[0] if received else pb.ClientStreamRequest()
        return pb.ClientStreamResponse(payload=_single_response(first, received, context))

    def ServerStream(self, request: pb.ServerStreamRequest, context: Any) -> Iterator[pb.ServerStreamResponse]:
        for payload in _responses(request.response_definition, [request], context):
            yield pb.ServerStreamResponse(payload=payload)

    def BidiStream(self, requests: Iterable[pb.BidiStreamRequest], context: Any) -> Iterator[pb.BidiStreamResponse]:
        pending = iter(requests)
        first = next(pending, pb.BidiStreamRequest())
        if first.full_duplex:
            payloads = _alternating(first, pending, context)
        else:
            payloads = _responses(first.response_definition, [first, *pending], context)
        for payload in payloads:
            yield pb.BidiStreamResponse(payload=payload)


def _single_response(first: Any, received: list[Any], context: Any) -> pb.ConformancePayload:
    wanted = first.response_definition
    _send_metadata(wanted, context)
    time.sleep(wanted.response_delay_ms / 1000)
    if wanted.HasField("error"):
        _fail(wanted, context, _request_info(received, context))
    return pb.ConformancePayload(data=wanted.response_data, request_info=_request_info(received, context))


def _responses(
    wanted: pb.StreamResponseDefinition, received: list[Any], context: Any
) -> Iterator[pb.ConformancePayload]:
    """What a stream answers once it has all requests: only the first response tells of them."""
    _send_metadata(wanted, context)
    for index, data in enumerate(wanted.response_data):
        time.sleep(wanted.response_delay_ms / 1000)
        info = None if index else _request_info(received, context)
        yield pb.ConformancePayload(data=data, request_info=info)
    if wanted.HasField("error"):
        untold = None if wanted.response_data else _request_info(received, context)
        _fail(wanted, context, untold)


def _alternating(
    first: pb.BidiStreamRequest, requests: Iterator[pb.BidiStreamRequest], context: Any
) -> Iterator[pb.ConformancePayload]:
    """A response to each request; those that are left over follow the last request."""
    wanted = first.response_definition
    _send_metadata(wanted, context)
    request: pb.BidiStreamRequest | None = first
    for index, data in enumerate(wanted.response_data):
        received = [] if request is None else [request]
        info = pb.ConformancePayload.RequestInfo(requests=map(_packed, received))
        if index == 0:
            info = _request_info(received, context)
        time.sleep(wanted.response_delay_ms / 1000)
        yield pb.ConformancePayload(data=data, request_info=info)
        request = next(requests, None)
    if wanted.HasField("error"):
        untold = None if wanted.response_data else _request_info([first], context)
        _fail(wanted, context, untold)


def _fail(wanted: Any, context: Any, info: pb.ConformancePayload.RequestInfo | None) -> NoReturn:
    error = wanted.error
    details = [*error.details, *([] if info is None else [_packed(info)])]
    rich = Status(code=error.code, message=error.message, details=details)
    trailers = _metadata(wanted.response_trailers)
    context.set_trailing_metadata((*trailers, ("grpc-status-details-bin", rich.SerializeToString())))
    context.abort(_CODES[error.code], error.message)
    raise AssertionError("abort raises")


def _packed(message: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


# -- metadata ----------------------------------------------------------------------------------------------------------


def _send_metadata(wanted: Any, context: Any) -> None:
    context.set_trailing_metadata(_metadata(wanted.response_trailers))
    context.send_initial_metadata(_metadata(wanted.response_headers))


def _metadata(headers: Iterable[pb.Header]) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(
        (header.name.lower(), decode_binary(value) if header.name.endswith("-bin") else value)
        for header in headers
        for value in header.value
    )


def _request_info(received: Iterable[Any], context: Any) -> pb.ConformancePayload.RequestInfo:
    headers: dict[str, pb.Header] = {}
    for name, value in context.invocation_metadata():
        text = encode_binary(value) if isinstance(value, bytes) else value
        headers.setdefault(name, pb.Header(name=name)).value.append(text)
    event = getattr(context, "lambda_event", None)
    return pb.ConformancePayload.RequestInfo(
        request_headers=headers.values(),
        timeout_ms=_timeout(event, context),
        requests=map(_packed, received),
        connect_get_info=_query(event),
    )


def _timeout(event: Any, context: Any) -> int | None:
    """The caller's, in milliseconds. Without one, Lambda's own time limit stands in `time_remaining`."""
    is_limited = event is None or not _TIMEOUTS.isdisjoint(map(str.lower, event["headers"]))
    remaining = context.time_remaining() if is_limited else None
    return None if remaining is None else int(remaining * 1000)


def _query(event: Any) -> pb.ConformancePayload.ConnectGetInfo | None:
    """The parameters of a call that came as a GET."""
    http = (event or {}).get("requestContext", {}).get("http", {})
    if http.get("method") != "GET":
        return None
    fields = parse_qsl(event["rawQueryString"], keep_blank_values=True)
    return pb.ConformancePayload.ConnectGetInfo(
        query_params=[pb.Header(name=name, value=[value]) for name, value in fields]
    )


server = LambdaServer(options=(("grpc.max_receive_message_length", MAX_MESSAGE),))
conformance_pb2_grpc.add_ConformanceServiceServicer_to_server(ConformanceService(), server)
handler = server.handler
