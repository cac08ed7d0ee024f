"""The admin server. Other hosts may GET /healthz /readyz /metrics. People on the same host may also GET /routes, the
status page at /, and what its script asks for: /events /status /functions /configuration.

What it tells comes in as callables and is asked for when a request comes. It changes nothing by itself: only the call
console, below /console/, takes another method than GET and HEAD, and has a guard of its own. aiohttp is imported when a
server is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, json

from bridge.admin.console import ConsoleAccess, ConsoleGate, ConsoleLimits
from bridge.admin.dashboard import Filter, dashboard
from bridge.admin.overview import RouteLine, routes_as_json, routes_as_text
from bridge.admin.snapshot import Snapshot
from bridge.rpc.address import TcpAddress
from bridge.server.hosts import Hosts

if TYPE_CHECKING:
    from aiohttp import web

_CLOSE_TIMEOUT = 1.0
"""Seconds that answers in flight get when the server closes."""

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_HTML = "text/html; charset=utf-8"

_FOR_THIS_HOST = b"only /healthz, /readyz and /metrics are answered to other hosts\n"

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", _HTML),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    **{
        f"/page/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("page", "console", "console_copy", "console_form", "console_history", "console_json")
    },
}
"""The status page, by path."""

_HEADERS = {
    "Server": "grpc-lambda-bridge",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class AdminLimits:
    """What a client of the admin server may take."""

    connections: int = 20
    """Above it the oldest connection makes room for the newest, so that nobody can lock out a probe. Connections of
    clients and to targets leave so many file descriptors free.
    """
    idle: float = 75.0
    """Seconds without a whole request after which a connection ends; scrapes usually come every 15 to 60."""
    answer: float = 10.0
    """Seconds that an answer may take, or one event of /events, a slow reader included."""
    pause: float = 2.0
    """Seconds between two events."""


class TakeSnapshot(Protocol):
    """Returns all figures, those of every worker included. `recent`: with the last minutes."""

    def __call__(self, *, recent: bool = False) -> Awaitable[Snapshot]: ...


class FunctionReport(Struct, frozen=True):
    """A local function."""

    name: str
    running: int
    """Invocations."""
    concurrency: int
    instances: int
    lines: Sequence[tuple[float, str]]
    """The last ones that it has written, each with its Unix time."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Where the admin server's answers come from."""

    version: str
    uptime: Callable[[], float]
    """Seconds."""
    listeners: Callable[[], Sequence[str]]
    """The addresses that take calls."""
    unready: Callable[[], Sequence[str]]
    """Why the bridge should get no calls, in a few words each; empty: it should."""
    routes: Callable[[], Sequence[RouteLine]]
    snapshot: TakeSnapshot
    wall_clock: Callable[[], float]
    """Unix time."""
    functions: Callable[[], Sequence[FunctionReport]] = tuple
    """The local functions."""
    configuration: Callable[[], str] = str
    """As it was loaded, without secrets."""
    console: ConsoleAccess = field(default_factory=ConsoleAccess)


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    content_type: str
    status: int = 200
    events: AsyncIterator[bytes] | None = None
    """What follows, as it comes."""
    allowed: str = "GET, HEAD"
    """The methods of a path that does not take the request's."""


class AdminServer:
    """Serves one address from `start` to `close`."""

    def __init__(
        self,
        reports: Reports,
        hosts: Hosts | None = None,
        *,
        limits: AdminLimits | None = None,
        console_limits: ConsoleLimits | None = None,
        is_local: Callable[[asyncio.BaseTransport | None], bool] | None = None,
    ) -> None:
        """`hosts`: the names under which it answers; None: those that nobody else can have. `is_local`: whether a peer
        may see everything; by default one on this host may.
        """
        self._limits = limits or AdminLimits()
        self._is_local = is_local or is_loopback
        self._reports = reports
        self._hosts = hosts or Hosts("admin.hosts")
        self._console = ConsoleGate(reports.console, self._hosts, limits=console_limits)
        self._runner: web.ServerRunner | None = None
        self._rendering = asyncio.Lock()
        self._closing = asyncio.Event()
        self._public: dict[str, Callable[[web.BaseRequest], Awaitable[_Answer]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }
        self._local: dict[str, Callable[[web.BaseRequest], Awaitable[_Answer]]] = {
            **dict.fromkeys(_FILES, self._file),
            "/routes": self._routes,
            "/status": self._status,
            "/events": self._events,
            "/functions": self._functions,
            "/configuration": self._configuration,
        }

    async def start(self, address: TcpAddress) -> int:
        """Listen, and return the port: the one chosen if the address says 0. Raises OSError."""
        from aiohttp import web

        runner = web.ServerRunner(_server(self._serve, self._limits), shutdown_timeout=_CLOSE_TIMEOUT)
        try:
            await runner.setup()
            await web.TCPSite(runner, address.host, address.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        port: int = runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Stop listening and end all connections."""
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web

        response: web.StreamResponse = web.Response(status=503, headers=_HEADERS)
        try:
            # The console keeps times of its own: what it asks may start a function.
            async with asyncio.timeout(None if request.path.startswith("/console/") else self._limits.answer):
                answer = await self._answer(request)
                headers = {**_HEADERS, "Content-Type": answer.content_type}
            if answer.events is not None:
                return await self._send_events(request, headers, answer.events)
            async with asyncio.timeout(self._limits.answer):
                response = web.Response(body=answer.body, status=answer.status, headers=headers)
                if answer.status == 405:
                    response.headers["Allow"] = answer.allowed
                # Written here, not by aiohttp, so that the time limit holds for a client that doesn't read.
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionError):  # too slow, or gone
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _answer(self, request: web.BaseRequest) -> _Answer:
        from bridge.server.http_port import http_refusal_of

        refusal = http_refusal_of(request, self._hosts)
        if refusal is not None:
            return _Answer(f"{refusal}\n".encode(), _TEXT, status=403)
        answer = self._public.get(request.path)
        if answer is None:
            if not self._is_local(request.transport):
                return _Answer(_FOR_THIS_HOST, _TEXT, status=403)
            if request.path.startswith("/console/"):
                return await self._console_answer(request)
            answer = self._local.get(request.path)
        if answer is None:
            return _Answer(b"nothing here\n", _TEXT, status=404)
        if request.method not in {"GET", "HEAD"}:
            return _Answer(b"only GET and HEAD are answered\n", _TEXT, status=405)
        return await answer(request)

    async def _healthz(self, _: web.BaseRequest) -> _Answer:
        return _Answer(b"ok\n", _TEXT)

    async def _readyz(self, _: web.BaseRequest) -> _Answer:
        reasons = list(self._reports.unready())
        if not reasons:
            return _Answer(b'{"ready":true}\n', _JSON)
        body = json.encode({"ready": False, "reasons": reasons}) + b"\n"
        return _Answer(body, _JSON, status=503)

    async def _metrics(self, request: web.BaseRequest) -> _Answer:
        snapshot = await self._reports.snapshot()
        async with self._rendering:  # one at a time: it takes the processor from the calls
            body, content_type = await asyncio.to_thread(
                _render,
                snapshot,
                self._reports.version,
                request.headers.get("Accept", ""),
            )
        return _Answer(body, content_type)

    async def _routes(self, request: web.BaseRequest) -> _Answer:
        routes = self._reports.routes()
        accept = request.headers.get("Accept", "")
        if "text/" in accept and "json" not in accept:
            return _Answer(routes_as_text(routes).encode(), _TEXT)
        return _Answer(routes_as_json(routes), _JSON)

    async def _file(self, request: web.BaseRequest) -> _Answer:
        name, content_type = _FILES[request.path]
        content = await asyncio.to_thread((_PAGE / name).read_bytes)
        return _Answer(self._console.fill(content, request) if request.path == "/" else content, content_type)

    async def _console_answer(self, request: web.BaseRequest) -> _Answer:
        found = await self._console.answer(request)
        return _Answer(found.body, found.content_type, found.status, found.lines, allowed="POST")

    async def _status(self, request: web.BaseRequest) -> _Answer:
        return _Answer(await self._dashboard(_filter_in(request)), _JSON)

    async def _functions(self, _: web.BaseRequest) -> _Answer:
        return _Answer(json.encode(self._reports.functions()), _JSON)

    async def _configuration(self, _: web.BaseRequest) -> _Answer:
        return _Answer(self._reports.configuration().encode(), _TEXT)

    async def _events(self, request: web.BaseRequest) -> _Answer:
        events = None if request.method == "HEAD" else self._dashboards(_filter_in(request))
        return _Answer(b"", "text/event-stream", events=events)

    async def _dashboards(self, selected: Filter) -> AsyncIterator[bytes]:
        """Yield the dashboard again and again, as server-sent events."""
        while not self._closing.is_set():
            yield b"data: %b\n\n" % await self._dashboard(selected)
            try:
                async with asyncio.timeout(self._limits.pause):
                    await self._closing.wait()
            except TimeoutError:
                pass

    async def _dashboard(self, selected: Filter) -> bytes:
        reports = self._reports
        snapshot = await reports.snapshot(recent=True)
        now, uptime, listeners, unready = (
            reports.wall_clock(),
            reports.uptime(),
            reports.listeners(),
            reports.unready(),
        )

        def rendered() -> bytes:
            return json.encode(
                dashboard(
                    snapshot,
                    selected=selected,
                    now=now,
                    version=reports.version,
                    uptime=uptime,
                    listeners=listeners,
                    unready=unready,
                )
            )

        async with self._rendering:
            return await asyncio.to_thread(rendered)

    async def _send_events(
        self, request: web.BaseRequest, headers: dict[str, str], events: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        """Send events until the client has gone or the server closes. Raises TimeoutError for a slow client."""
        from aiohttp import web

        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        async with aclosing(events):  # type: ignore[type-var]  # it is a generator
            async for event in events:
                async with asyncio.timeout(self._limits.answer):
                    await response.write(event)
        return response


def _filter_in(request: web.BaseRequest) -> Filter:
    return Filter(request.query.get("method", ""), request.query.get("target", ""))


def _render(snapshot: Snapshot, version: str, accept: str) -> tuple[bytes, str]:
    from bridge.admin.metrics import (
        render,
    )  # here, so that the first scrape's import is not on the event loop either

    return render(snapshot, version=version, accept=accept)


def _server(
    serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    limits: AdminLimits,
) -> web.Server:
    """Return an aiohttp server whose connections are bounded in number, time and size."""
    from aiohttp import web

    from bridge.server.http_port import HttpServerLog

    class BoundedServer(web.Server):
        def __call__(self) -> web.RequestHandler:
            for oldest in self.connections[: 1 - limits.connections]:
                oldest.force_close()
            return super().__call__()

    return BoundedServer(
        serve,
        handler_cancellation=True,  # a call of the console is cancelled when its page has gone
        keepalive_timeout=limits.idle,
        lingering_time=0,
        max_line_size=4096,
        max_field_size=4096,
        max_headers=64,
        access_log=None,
        logger=HttpServerLog(),
    )


def is_loopback(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the peer is on this host. What headers say of other clients is not looked at."""
    peer = None if transport is None else transport.get_extra_info("peername")
    if not peer:
        return False
    address = ip_address(peer[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
