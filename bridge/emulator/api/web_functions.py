"""Web Functions: HTTP in, and HTTP/1.1 to the function's own server, with the rules of AWS's front for headers.

A Web Function is reached by name (`Host: NAME.lambda-web.REGION.…`) or by path (`/lambda-web/NAME/…`). This module
connects the two sides. It does not know processes.

https://docs.aws.amazon.com/lambda/latest/dg/web-functions-http.html
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.config.schema import LOOPBACK
from bridge.emulator.api import naming
from bridge.emulator.api.function_urls import BODILESS
from bridge.emulator.api.web_exchange import BadResponse, WebExchange
from bridge.emulator.identity import REQUEST_ID_KEY
from bridge.emulator.instances.web_function import NoEnvironment, WebFunction
from bridge.emulator.instances.web_instance import NotServing, WebInstance
from bridge.server.hosts import Hosts
from bridge.server.http_port import cut

WEB_PATH_PREFIX = "/lambda-web/"
WEB_PATH = WEB_PATH_PREFIX + "{name}{path:(?:/.*)?}"

HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"})
ENDPOINT_NAME = "default"
"""The name of the endpoint. On AWS a function may have several."""

REQUEST_TIMED_OUT = "Runtime.RequestTimeout"
"""The one error type of these that AWS documents."""
EXITED = "Runtime.ExitError"
NO_RESPONSE = "Runtime.InvalidResponse"

_EXIT_SECONDS = 0.5
"""Seconds that the end of a process may take to be known, after its connection has ended."""

_OF_CONNECTION = frozenset(
    {"connection", "keep-alive", "upgrade", "te", "trailer", "transfer-encoding", "proxy-connection"}
)
_REMOVED = _OF_CONNECTION | {"expect", "host", "x-real-ip", "x-forwarded-for"}
_REMOVED_PREFIXES = ("proxy-", "x-http-method", "lambda-web-")
_HOST = re.compile(r"(?P<name>[^.:]+)\.lambda-web\.[^.:]+\.(?P<suffix>[^:]+)(?::\d+)?", re.IGNORECASE)
_PATH = re.compile(r"/lambda-web/[^/?]+(?P<path>.*)", re.DOTALL)


class WebFunctions:
    """`functions` is looked at anew for each request. Pages of any origin may ask, as on AWS."""

    def __init__(self, functions: Mapping[str, WebFunction], hosts: Hosts) -> None:
        self._functions = functions
        self._hosts = hosts

    @web.middleware
    async def serve_by_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = self._name_in_host(request)
        if name is None:
            return await handler(request)
        return await self._serve(request, name, _sent(request))

    async def serve_by_path(self, request: web.Request) -> web.StreamResponse:
        found = _PATH.match(_sent(request))
        path = found["path"] if found is not None else ""
        return await self._serve(request, request.match_info["name"], path if path.startswith("/") else f"/{path}")

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`: AWS's front does not know it (417). Elsewhere it is answered as usual."""
        if self._name_in_host(request) is not None or request.raw_path.startswith(WEB_PATH_PREFIX):
            return web.Response(status=417)
        if request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _name_in_host(self, request: web.Request) -> str | None:
        host = request.headers.get("Host", "")
        found = _HOST.fullmatch(host)
        if found is None or not self._hosts.answer_to_url(host, found["suffix"]):
            return None
        return found["name"]

    async def _serve(self, request: web.Request, name: str, target: str) -> web.StreamResponse:
        function = naming.by_host_name(self._functions, name)
        if function is None:
            return web.Response(status=404)
        if request.version < (1, 1):
            return web.Response(status=505)
        if request.method not in HTTP_METHODS:
            return web.Response(status=405)
        try:
            async with function.place() as instance:
                return await _forward(request, function, instance, target)
        except NoEnvironment:
            function.note("Web Function: throttled, all environments are full")
            return _failed(request, 429, "")
        except NotServing as failure:
            function.note(f"Web Function: 500, {failure}")
            return _failed(request, 500, EXITED)


async def _forward(
    request: web.Request, function: WebFunction, instance: WebInstance, target: str
) -> web.StreamResponse:
    response: web.StreamResponse | None = None
    try:
        async with asyncio.timeout(function.config.timeout):
            exchange = await WebExchange.open(LOOPBACK, instance.port, has_body=request.method != "HEAD")
            try:
                await exchange.send(_head_of(request, function.config.name, target), _body_of(request))
                await exchange.read_head()
                response = _response_to(request, exchange, instance)
                await _send(request, response, exchange)
            finally:
                exchange.close()
    except TimeoutError:
        function.note(f"Web Function: the request took longer than {function.config.timeout:g} s")
        if response is None or not response.prepared:
            return _failed(request, 504, REQUEST_TIMED_OUT)
        cut(request)
    except (BadResponse, OSError) as failure:
        if response is None or not response.prepared:
            why = failure if isinstance(failure, BadResponse) else "its server does not accept connections"
            function.note(f"Web Function: 502, {why}")
            has_ended = await instance.has_ended(within=_EXIT_SECONDS)
            return _failed(request, 502, EXITED if has_ended else NO_RESPONSE)
        function.note(f"Web Function: {failure}")
        cut(request)
    return response


# -- requests


def _sent(request: web.Request) -> str:
    """Path and query, percent-encoded as they came."""
    # RFC 9112 3.2.2: a proxy's client sends the whole URL.
    return request.raw_path if request.raw_path.startswith("/") else request.rel_url.raw_path_qs


def _head_of(request: web.Request, name: str, target: str) -> bytes:
    fields = [("host", naming.web_domain(name)), *_passed(request.headers.items(), _REMOVED, _REMOVED_PREFIXES)]
    came_for = [*request.headers.getall("X-Forwarded-For", []), request.remote or LOOPBACK]
    fields.append(("x-forwarded-for", ", ".join(came_for)))
    fields.append(("lambda-web-request-id", request[REQUEST_ID_KEY]))
    fields.append(("lambda-web-endpoint-name", ENDPOINT_NAME))
    if _is_chunked(request):
        fields.append(("transfer-encoding", "chunked"))
    lines = "".join(f"{field}: {value}\r\n" for field, value in fields)
    return f"{request.method} {target} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogateescape")


def _passed(
    fields: Iterable[tuple[str, str]], removed: frozenset[str], prefixes: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Return the fields that go on. Those that `Connection` names belong to the connection (RFC 9110 7.6.1)."""
    kept = [(name, value) for name, value in fields]
    named = {each.strip().lower() for name, value in kept if name.lower() == "connection" for each in value.split(",")}
    dropped = removed | named
    return [(n, value) for n, value in kept if n.lower() not in dropped and not n.lower().startswith(prefixes)]


def _is_chunked(request: web.Request) -> bool:
    return request.content_length is None and request.body_exists


async def _body_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes, framed as the head says. Raises RequestPayloadError if it ends too early."""
    is_chunked = _is_chunked(request)
    try:
        while part := await request.content.readany():
            yield b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part
    except ConnectionError as error:
        raise web.RequestPayloadError("the client has gone") from error
    if is_chunked:
        yield b"0\r\n\r\n"


# -- responses


def _response_to(request: web.Request, exchange: WebExchange, instance: WebInstance) -> web.StreamResponse:
    response = web.StreamResponse(status=exchange.status)
    for name, value in _passed(exchange.fields, _OF_CONNECTION, ("lambda-web-",)):
        response.headers.add(name, value)
    response.headers["lambda-web-request-id"] = request[REQUEST_ID_KEY]
    response.headers["lambda-web-logstream"] = instance.log_stream
    return response


async def _send(request: web.Request, response: web.StreamResponse, exchange: WebExchange) -> None:
    """Send the response as it comes. A client that leaves ends the exchange."""
    try:
        await response.prepare(request)
        if request.method == "HEAD" or response.status in BODILESS:
            return
        async with aclosing(exchange.body()) as parts:
            async for part in parts:
                await response.write(part)
        await response.write_eof()
    except ConnectionError:
        return


def _failed(request: web.Request, status: int, error_type: str) -> web.Response:
    """Return an error of the platform. An empty `error_type`: AWS does not document one."""
    response = web.Response(status=status)
    response.headers["lambda-web-request-id"] = request[REQUEST_ID_KEY]
    if error_type:
        response.headers["lambda-web-error-type"] = error_type
    return response
