"""Function URLs: plain HTTP in, invocations with AWS's URL event, and what the function gives as an HTTP response.

A URL is reached by name (`Host: NAME.lambda-url.REGION.…`) or by path (`/lambda-url/NAME/…`). This module connects HTTP
with the event, the signature and the reply, whose rules are modules of their own.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.aws.events.prelude import HTTP_CONTENT_TYPE
from bridge.aws.invoke import MAX_REQUEST
from bridge.config.schema import FunctionUrl
from bridge.emulator.api import naming, refusals, url_event, url_reply, url_signature
from bridge.emulator.api.naming import FunctionId
from bridge.emulator.api.url_event import UrlRequest
from bridge.emulator.api.url_reply import Head, InvalidUrlReply, Prelude
from bridge.emulator.api.url_signature import BadSignature
from bridge.emulator.identity import REQUEST_ID_KEY, trace_id_of
from bridge.emulator.instances.function import Function
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.server.hosts import Hosts
from bridge.server.http_port import cut, http_refusal_of

STREAMING_ADVICE = (
    "; the function streams: give its URL invoke_mode: response_stream, or LambdaServer stream_replies=False"
)

URL_PATH_PREFIX = "/lambda-url/"
URL_PATH = URL_PATH_PREFIX + "{name}{path:(?:/.*)?}"

OPEN_TO_PAGES = (URL_PATH_PREFIX, "/lambda-web/")
"""The paths that pages of any origin may ask for, as on AWS."""

BODILESS = (204, 304)
"""HTTP statuses whose responses end with their head (RFC 9110 6.4.1), as those to HEAD do."""

_HOST = re.compile(r"(?P<name>[^.:]+)\.lambda-url\.[^.:]+\.(?P<suffix>[^:]+)(?::\d+)?", re.IGNORECASE)
_PATH = re.compile(r"/lambda-url/[^/?]+(?P<path>[^?]*)")


class FunctionUrls:
    """`functions` is looked at anew for each request; `keys` are secret keys by access key, for URLs with `auth: iam`.

    Pages of any origin may ask, as on AWS. What else this address serves is for `hosts`, and not for pages.
    """

    def __init__(self, functions: Mapping[str, Function], keys: Mapping[str, str], hosts: Hosts) -> None:
        self._functions = functions
        self._keys = keys
        self._hosts = hosts

    @web.middleware
    async def serve_by_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        match = _HOST.fullmatch(host)
        if match is not None and self._hosts.answer_to_url(host, match["suffix"]):
            return await self._serve(request, match["name"], _sent_path(request))
        is_url = request.raw_path.startswith(OPEN_TO_PAGES)
        refusal = http_refusal_of(request, self._hosts, takes_any_origin=is_url)
        if refusal is not None:
            raise refusals.Misdirected(refusal)
        return await handler(request)

    async def serve_by_path(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.match(_sent_path(request))
        path = match["path"] if match is not None else ""
        return await self._serve(request, request.match_info["name"], path or "/")

    async def _serve(self, request: web.Request, name: str, path: str) -> web.StreamResponse:
        function, url = self._find(name)
        if url.auth == "iam" and "Authorization" not in request.headers:
            function.note("URL: refused, the request is not signed")
            raise refusals.Forbidden
        received = await _receive(request, path)
        now = time.time()  # noqa: TID251 - AWS dates events and signatures by the wall clock
        if url.auth == "iam":
            received = self._authenticated(function, received, _sent_path(request), now)
        trace_id = trace_id_of(request)
        event = url_event.encode_url_event(
            received,
            function=function.config.name,
            request_id=request[REQUEST_ID_KEY],
            trace_id=trace_id,
            now=now,
        )
        if len(event) >= MAX_REQUEST:
            raise refusals.UrlRequestTooLarge
        arn = FunctionId(function.config.name).arn
        invocation = Invocation(request[REQUEST_ID_KEY], event, arn, trace_id)
        if url.invoke_mode == "buffered":
            return await _answer_whole(function, invocation)
        return await _answer_streamed(request, function, invocation)

    def _find(self, name: str) -> tuple[Function, FunctionUrl]:
        function = naming.by_host_name(self._functions, name)
        if function is None or function.config.url is None:
            raise refusals.NoUrl
        return function, function.config.url

    def _authenticated(self, function: Function, request: UrlRequest, sent_path: str, now: float) -> UrlRequest:
        try:
            caller = url_signature.verify(request, sent_path, keys=self._keys, now=now)
        except BadSignature as bad:
            function.note(f"URL: refused, {bad}")
            raise refusals.Forbidden from None
        return msgspec.structs.replace(request, caller=caller)


# -- requests


def _sent_path(request: web.Request) -> str:
    """Percent-encoded as it came, without the query."""
    path = request.raw_path.partition("?")[0]
    # RFC 9112 3.2.2: a proxy's client sends the whole URL.
    return path if path.startswith("/") else request.rel_url.raw_path


async def _receive(request: web.Request, path: str) -> UrlRequest:
    return UrlRequest(
        method=request.method,
        path=path,
        query=request.raw_path.partition("?")[2],
        headers=tuple(request.headers.items()),
        body=await _read_body(request),
        protocol=f"HTTP/{request.version.major}.{request.version.minor}",
        source=request.remote or "",
        port=_port(request),
    )


async def _read_body(request: web.Request) -> bytes:
    if (request.content_length or 0) >= MAX_REQUEST:
        raise refusals.UrlRequestTooLarge
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) >= MAX_REQUEST:
            raise refusals.UrlRequestTooLarge
    return bytes(body)


def _port(request: web.Request) -> int:
    own = request.transport.get_extra_info("sockname") if request.transport else None
    return int(own[1]) if own else 80


# -- replies


async def _answer_whole(function: Function, invocation: Invocation) -> web.StreamResponse:
    """`invoke_mode: buffered`."""
    reply = Reply()
    function.begin(invocation, reply)
    payload = await reply.whole()
    if reply.failure is not None:
        raise refusals.NoHttpReply
    try:
        inferred = url_reply.infer(payload)
    except InvalidUrlReply as bad:
        is_http = reply.is_streamed and reply.content_type == HTTP_CONTENT_TYPE
        advice = STREAMING_ADVICE if is_http else ""
        function.note(f"URL: 502, {bad}{advice}")
        raise refusals.NoHttpReply from None
    return web.Response(
        status=inferred.head.http_status,
        headers=_headers(inferred.head, invocation),
        body=inferred.body,
    )


async def _answer_streamed(request: web.Request, function: Function, invocation: Invocation) -> web.StreamResponse:
    """`invoke_mode: response_stream`. Who goes away does not stop the function, as on AWS."""
    reply = function.streamed_reply()
    function.begin(invocation, reply)
    try:
        async with aclosing(reply.chunks()) as chunks:
            try:
                head, begun = await _read_head(reply, chunks)
            except InvalidUrlReply as bad:
                function.note(f"URL: 502, {bad}")
                raise refusals.NoHttpReply from None
            response = web.StreamResponse(status=head.http_status, headers=_headers(head, invocation))
            await _send(request, response, begun, chunks)
    finally:
        reply.abandon()
    if reply.failure is not None:
        cut(request)
    return response


async def _send(request: web.Request, response: web.StreamResponse, begun: bytes, chunks: AsyncIterator[bytes]) -> None:
    """Send all but the body's end, as long as the client is there."""
    try:
        await response.prepare(request)
        if request.method == "HEAD" or response.status in BODILESS:
            return
        if begun:
            await response.write(begun)
        async for chunk in chunks:
            await response.write(chunk)
    except ConnectionError:
        return


async def _read_head(reply: Reply, chunks: AsyncIterator[bytes]) -> tuple[Head, bytes]:
    """Return the head, once there is one, and what of the body came with it. Raises BadReply."""
    prelude = Prelude()
    unstreamed = bytearray()
    async for chunk in chunks:
        if not reply.is_streamed:
            unstreamed += chunk
            continue
        if reply.content_type != HTTP_CONTENT_TYPE:
            return url_reply.plain_head(reply.content_type), chunk
        found = prelude.feed(chunk)
        if found is not None:
            return found
    if reply.failure is not None:
        raise InvalidUrlReply(f"the function failed: {reply.failure.error_type}")
    if reply.content_type == HTTP_CONTENT_TYPE:
        raise InvalidUrlReply("the reply ended before its prelude")
    return url_reply.plain_head(reply.content_type), bytes(unstreamed)


def _headers(head: Head, invocation: Invocation) -> tuple[tuple[str, str], ...]:
    own = (("x-amzn-RequestId", invocation.request_id), ("X-Amzn-Trace-Id", invocation.trace_id))
    return (*head.headers, *own)
