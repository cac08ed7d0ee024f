"""The target for any server that speaks gRPC-Web over HTTP/1.1: function URL, API Gateway, load balancer and others.

A whole request becomes one POST to `/Service/Method`. The reply is passed on as it arrives. Only connections that were
never established are tried again: once an HTTP server answers, the function may have run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Protocol
from urllib.parse import urlsplit

from bridge.aws.events.event_body import message_format_of
from bridge.carriers.aws_answer import parse_retry_after
from bridge.carriers.http1.exchange import StreamedResponse
from bridge.codecs.codec import ReplyOptions
from bridge.codecs.content_coding import content_codings
from bridge.rpc.buffers import SMALL, Account
from bridge.rpc.call import Call
from bridge.rpc.errors import HttpRefusal, HttpThrottled, RpcError
from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import StatusCode
from bridge.targets.http_fields import request_fields, request_path
from bridge.targets.payload import GRPC_WEB_PAYLOAD, Payload
from bridge.targets.reply import decoded, largest_message, stream_reply, strip_cold_start_mark
from bridge.targets.request import CompressionMode, read_whole_request

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CONTENT_TOO_LARGE = 413
_TOO_MANY_REQUESTS = 429


class Carrier(Protocol):
    """Takes a request to the server."""

    name: str
    """The target's name in messages."""

    async def open(self, path: str, fields: Metadata, body: bytes, account: Account | None = None) -> StreamedResponse:
        """Send the request and return the response when it begins. Raises RpcError. Cancellation aborts the request."""
        ...


class HttpTarget:
    """Calls any payload format over HTTP."""

    __slots__ = (
        "_carrier",
        "_clock",
        "_codec",
        "_compression",
        "_convert",
        "_fields",
        "_figures",
        "_is_signed",
        "_kind",
        "_large",
        "_wall_clock",
    )

    def __init__(  # noqa: PLR0913 - what all targets take, and what HTTP needs
        self,
        carrier: Carrier,
        *,
        figures: TargetFigures,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        fields: Mapping[str, str],
        is_signed: bool = False,
        compression: CompressionMode = "pass",
        large: asyncio.Lock | None = None,
        payload: Payload = GRPC_WEB_PAYLOAD,
    ) -> None:
        """`fields` are the configured headers, with names in lower case. `is_signed` says that the carrier sets
        `authorization`.
        """
        self._carrier = carrier
        self._large = large or asyncio.Lock()
        self._figures = figures
        self._clock = clock
        self._wall_clock = wall_clock
        self._fields = fields
        self._is_signed = is_signed
        self._codec, self._kind = payload.codec, payload.kind
        self._convert = payload.codec.convert
        self._compression = payload.compression(compression)

    async def handle(self, call: Call) -> None:
        """Handle the call. Raises RpcError."""
        path = request_path(call.path)
        metadata, body = await read_whole_request(call, self._compression, self._large)
        encoded = self._codec.encode(call.path, message_format_of(call.content_type), body)
        if encoded is not body and len(encoded) > SMALL:
            call.hold(len(encoded))
        body = encoded
        if self._convert is not None:
            body = await self._convert(call.path, body, call)
        started = self._clock()
        fields = request_fields(
            call,
            metadata,
            kind=self._kind,
            timeout=None if call.deadline is None else call.deadline - started,
            own=self._fields,
            is_signed=self._is_signed,
        )
        try:
            async with await self._carrier.open(path, fields, body, call) as response:
                await self._relay(call, metadata, response, sent=len(body))
        finally:
            call.upstream_seconds += self._clock() - started

    async def _relay(self, call: Call, metadata: Metadata, response: StreamedResponse, *, sent: int) -> None:
        request_id = response.field(b"x-amzn-requestid") or response.field(b"apigw-requestid")
        call.request_id = request_id
        try:
            self._refuse(response)
            headers = _metadata(response)
            reader = self._codec.reader(
                response.status,
                strip_cold_start_mark(headers, self._figures),
                ReplyOptions(
                    path=call.path,
                    metadata=metadata,
                    max_response=largest_message(call.route.limits.max_response),
                    message_format=message_format_of(call.content_type),
                    account=call,
                ),
            )
            codings = content_codings(headers)
            if not codings:
                await stream_reply(call, reader, response, request_id=request_id)
                return
            async with aclosing(decoded(codings, response, http_status=response.status)) as parts:
                await stream_reply(call, reader, parts, request_id=request_id)
        except RpcError as error:
            cause = self._named(error, response, sent) if isinstance(error, HttpRefusal) else error
            cause.request_id = request_id
            if cause is error:
                raise
            raise cause from error

    def _refuse(self, response: StreamedResponse) -> None:
        """Raise an RpcError for HTTP statuses that are not a reply, whatever their body."""
        if response.status in _REDIRECTS:
            raise HttpRefusal(
                f"{self._carrier.name} answered HTTP {response.status}, a redirect{_place_in(response)};"
                " the bridge does not follow it: configure the address that answers itself",
                code=StatusCode.UNKNOWN,
            )

    def _named(self, error: HttpRefusal, response: StreamedResponse, sent: int) -> RpcError:
        """Raise for HTTP errors that say more than their status. `sent` is the size of the request's body in bytes."""
        if response.status == _TOO_MANY_REQUESTS:
            retry_after = response.field(b"retry-after")
            seconds = parse_retry_after(retry_after, now=self._wall_clock())
            return HttpThrottled(str(error), retry_after=seconds)
        if response.status == _CONTENT_TOO_LARGE:
            return HttpRefusal(f"{error}; the request has {sent} bytes", code=error.code)
        return error


def _metadata(response: StreamedResponse) -> Metadata:
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.fields])


def _place_in(response: StreamedResponse) -> str:
    """Return the scheme and host of a redirect. Its path is left out, because it may be secret."""
    try:
        parts = urlsplit(response.field(b"location"))
        host = parts.hostname
    except ValueError:
        return ""
    is_plain = host is not None and host.isascii() and host.isprintable()
    return f" to {parts.scheme}://{host[:200]}" if host is not None and is_plain else ""
