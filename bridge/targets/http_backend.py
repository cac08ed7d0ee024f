"""The backend that is a server for HTTP/1.1: function URL, API Gateway, load balancer and others.

A request is one POST to `/Service/Method`. Only connections that were never established are tried again: once an HTTP
server answers, the function may have run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from bridge.aws.errors import web_failure_of
from bridge.aws.events.event_body import BodyKind
from bridge.carriers.aws_answer import parse_retry_after
from bridge.carriers.http1.exchange import StreamedResponse
from bridge.rpc.buffers import Account
from bridge.rpc.call import Call
from bridge.rpc.errors import HttpRefusal, HttpThrottled, RpcError
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import StatusCode
from bridge.targets.gathering_target import BackendReply
from bridge.targets.http_fields import request_fields, request_path

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CONTENT_TOO_LARGE = 413
_TOO_MANY_REQUESTS = 429
_REQUEST_IDS = (b"x-amzn-requestid", b"apigw-requestid", b"lambda-web-request-id")
"""Where Lambda's URLs, API Gateway and Web Functions put the id of a request."""


class HttpSender(Protocol):
    """Takes a request to the server."""

    name: str
    """The target's name in messages."""
    is_signed: bool
    """Whether it sets `authorization`."""

    async def open(self, path: str, fields: Metadata, body: bytes, account: Account | None = None) -> StreamedResponse:
        """Send the request and return the response when it begins. Raises RpcError. Cancellation aborts the request."""
        ...


class HttpBackend:
    """Calls one server, or one path prefix of it."""

    __slots__ = ("_carrier", "_headers", "_kind", "_wall_clock")

    def __init__(
        self,
        carrier: HttpSender,
        *,
        kind: BodyKind,
        headers: Mapping[str, str],
        wall_clock: Callable[[], float],
    ) -> None:
        """`headers` are the configured ones, with names in lower case. `wall_clock` reads Unix seconds."""
        self._carrier = carrier
        self._kind = kind
        self._headers = headers
        self._wall_clock = wall_clock

    async def send(self, call: Call, metadata: Metadata, body: bytes, seconds_left: float | None) -> BackendReply:
        """See Backend.send."""
        path = request_path(call.path)
        fields = request_fields(
            call,
            metadata,
            kind=self._kind,
            timeout=seconds_left,
            own=self._headers,
            is_signed=self._carrier.is_signed,
        )
        response = await self._carrier.open(path, fields, body, call)
        request_id = next(filter(None, map(response.field, _REQUEST_IDS)), "")
        if response.status in _REDIRECTS:
            response.close()
            error = self._redirect(response)
            error.request_id = request_id
            raise error
        explain = partial(self._explained, response, len(body))
        return BackendReply(response.status, _metadata(response), b"", request_id, rest=response, explain=explain)

    def _redirect(self, response: StreamedResponse) -> HttpRefusal:
        return HttpRefusal(
            f"{self._carrier.name} answered HTTP {response.status}, a redirect{_place_in(response)};"
            " the bridge does not follow it: configure the address that answers itself",
            code=StatusCode.UNKNOWN,
        )

    def _explained(self, response: StreamedResponse, sent: int, error: HttpRefusal) -> RpcError:
        """Return an error that says more, for HTTP statuses that mean more. `sent` is the size of the request's body
        (bytes).
        """
        if response.status == _TOO_MANY_REQUESTS:
            retry_after = response.field(b"retry-after")
            seconds = parse_retry_after(retry_after, now=self._wall_clock())
            return HttpThrottled(str(error), retry_after=seconds)
        error_type = response.field(b"lambda-web-error-type")
        if error_type:
            return web_failure_of(response.status, error_type, function=self._carrier.name) or error
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
