from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from bridge.admin.overview import RouteLine, RouteTarget
from bridge.admin.server import AdminLimits, AdminServer, FunctionReport, Reports
from bridge.admin.snapshot import Snapshot
from bridge.rpc.address import TcpAddress
from bridge.server.hosts import Hosts
from tests.support.figures import full_snapshot

SIZE = 32 << 20
ANY_PORT = TcpAddress("127.0.0.1", 0)
HOSTS = Hosts("admin.hosts", ("bridge.example.com",), "box.example.com")


class Bridge:
    """What an admin server reports about."""

    def __init__(self) -> None:
        self.unready: list[str] = []
        self.gate: asyncio.Event | None = None
        self.was_recent = False

    async def snapshot(self, *, recent: bool = False) -> Snapshot:
        self.was_recent = recent
        if self.gate is not None:
            await self.gate.wait()
        return full_snapshot()

    @property
    def reports(self) -> Reports:
        return Reports(
            version="1.2.3",
            uptime=lambda: 5.0,
            listeners=lambda: ("127.0.0.1:50051",),
            unready=lambda: self.unready,
            routes=lambda: (RouteLine("a.B", (RouteTarget("function:b"),)),),
            snapshot=self.snapshot,
            wall_clock=lambda: 1_000_000.0,
            functions=lambda: (FunctionReport("f", 1, 4, 2, ((1_000_000.0, "<b>hello</b>"),)),),
            configuration=lambda: "workers: 1\n",
        )


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


@asynccontextmanager
async def serving(bridge: Bridge, **options: Any) -> AsyncIterator[int]:
    server = AdminServer(bridge.reports, HOSTS, **options)
    try:
        yield await server.start(ANY_PORT)
    finally:
        await server.close()


@pytest.fixture
async def port(bridge: Bridge) -> AsyncIterator[int]:
    async with serving(bridge) as port:
        yield port


@pytest.fixture
async def admin(port: int) -> AsyncIterator[ClientSession]:
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


async def raw(port: int, request: str) -> bytes:
    """All that the server sends for these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_healthz_answers_while_the_process_lives(admin: ClientSession, bridge: Bridge) -> None:
    """Liveness has nothing to do with readiness."""
    bridge.unready = ["draining"]
    async with admin.get("/healthz") as response:
        assert (200, "ok\n") == (response.status, await response.text())


async def test_readyz_says_yes(admin: ClientSession) -> None:
    """A bridge that takes calls is ready, in one line of JSON."""
    async with admin.get("/readyz") as response:
        assert (200, '{"ready":true}\n') == (response.status, await response.text())
        assert "application/json" == response.content_type


async def test_readyz_says_why_not(admin: ClientSession, bridge: Bridge) -> None:
    """503 and the reasons, in one line of JSON."""
    bridge.unready = ["draining", "credentials are missing"]
    async with admin.get("/readyz") as response:
        body = await response.text()

    assert 503 == response.status
    assert {"ready": False, "reasons": bridge.unready} == json.loads(body)
    assert 1 == len(body.splitlines())


async def test_metrics_are_prometheus_text(admin: ClientSession) -> None:
    """A plain scrape parses and holds the figures."""
    async with admin.get("/metrics") as response:
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}

    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert 3.0 == families["grpc_server_started"].samples[0].value


async def test_metrics_are_openmetrics_on_request(admin: ClientSession) -> None:
    """Accept decides the format."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}
    async with admin.get("/metrics", headers=accept) as response:
        assert (await response.text()).endswith("# EOF\n")
        assert "application/openmetrics-text" == response.content_type


async def test_routes_are_json_for_programs(admin: ClientSession) -> None:
    """Without a wish for text the routes come as JSON."""
    async with admin.get("/routes") as response:
        assert "a.B" == (await response.json())["routes"][0]["service"]


async def test_routes_are_text_for_people(admin: ClientSession) -> None:
    """A browser, or whoever accepts text, gets columns."""
    async with admin.get("/routes", headers={"Accept": "text/html,*/*;q=0.8"}) as response:
        assert "a.B  function:b\n" == await response.text()
        assert "text/plain" == response.content_type


PAGE_FILES = ["/", "/page/page.js", "/page/page.css"]


@pytest.mark.parametrize("path", PAGE_FILES)
async def test_the_status_page(admin: ClientSession, path: str) -> None:
    """The page may load nothing from elsewhere, have no scripts in its text, and be framed by nobody."""
    async with admin.get(path) as response:
        text = await response.text()

    assert 200 == response.status
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "nosniff" == response.headers["X-Content-Type-Options"]
    assert not re.search(r"(src|href)=\"(https?:)?//|url\(|@import|innerHTML|insertAdjacentHTML|eval\(", text)


async def test_the_page_gets_its_figures(admin: ClientSession, bridge: Bridge) -> None:
    """Those of one method, if it asks for one."""
    async with admin.get("/status", params={"method": "/a.B/C"}) as response:
        status = await response.json()

    assert bridge.was_recent
    assert ("1.2.3", ["127.0.0.1:50051"], 9) == (status["version"], status["listeners"], status["totals"]["in_flight"])
    assert ["/helloworld.Greeter/SayHello"] == [row["method"] for row in status["methods"]]
    assert {"method": "/a.B/C", "target": ""} == status["selected"]


async def test_scrapes_do_not_gather_the_last_minutes(admin: ClientSession, bridge: Bridge) -> None:
    """Workers would send megabytes for nothing."""
    async with admin.get("/metrics") as response:
        await response.read()

    assert not bridge.was_recent


async def test_functions_and_configuration_are_told(admin: ClientSession) -> None:
    """Lines of a function are data, not HTML."""
    async with admin.get("/functions") as response:
        (function,) = await response.json()
        assert "application/json" == response.content_type
    async with admin.get("/configuration") as response:
        assert ("text/plain", "workers: 1\n") == (response.content_type, await response.text())

    assert ("f", 1, 4, 2) == tuple(function[key] for key in ("name", "running", "concurrency", "instances"))
    assert [[1_000_000.0, "<b>hello</b>"]] == function["lines"]


async def test_events_come_again_and_again(bridge: Bridge) -> None:
    """Each is the whole state, as it is then (HTML, 9.2: server-sent events)."""
    async with (
        serving(bridge, limits=AdminLimits(pause=0.01)) as port,
        ClientSession(f"http://127.0.0.1:{port}") as session,
        session.get("/events") as response,
    ):
        assert "text/event-stream" == response.content_type
        first = await response.content.readuntil(b"\n\n")
        bridge.unready = ["draining"]
        while b'"draining"' not in (later := await response.content.readuntil(b"\n\n")):
            pass

    for event in (first, later):
        assert event.startswith(b"data: {")
        assert 1 == event.strip().count(b"data:")
    assert [] == json.loads(first.removeprefix(b"data: "))["unready"]
    assert ["draining"] == json.loads(later.removeprefix(b"data: "))["unready"]


async def test_a_page_that_does_not_read_its_events_is_given_up(bridge: Bridge) -> None:
    """It holds no memory, and its connection ends."""
    bridge.unready = ["x" * (1 << 20)]
    async with serving(bridge, limits=AdminLimits(pause=0.0, answer=0.2)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.0)  # as above
        async with asyncio.timeout(10):
            try:
                while await reader.read(1 << 20):
                    pass
            except ConnectionError:
                pass  # cut off
        writer.close()


async def test_events_end_with_the_server(bridge: Bridge) -> None:
    """An open page does not hold up the end of the bridge."""
    server = AdminServer(bridge.reports, HOSTS, limits=AdminLimits(pause=3600))
    port = await server.start(ANY_PORT)
    async with ClientSession(f"http://127.0.0.1:{port}") as session, session.get("/events") as response:
        await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(5):
            await server.close()
            assert b"" == await response.content.read()


async def test_what_is_not_there_is_not_found(admin: ClientSession) -> None:
    """Other paths are 404."""
    async with admin.get("/quitquitquit") as response:
        assert 404 == response.status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(admin: ClientSession, method: str) -> None:
    """Methods other than GET and HEAD are refused, a body unread."""
    async with admin.request(method, "/metrics", data=b"x" * 100) as response:
        assert (405, "GET, HEAD") == (response.status, response.headers["Allow"])


async def test_head_is_get_without_a_body(admin: ClientSession) -> None:
    """HEAD tells the length and sends nothing."""
    async with admin.head("/healthz") as response:
        assert (200, "3", b"") == (
            response.status,
            response.headers["Content-Length"],
            await response.read(),
        )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/", 403),
        ("/routes", 403),
        ("/page/page.js", 403),
        ("/status", 403),
        ("/events", 403),
        ("/functions", 403),
        ("/configuration", 403),
        ("/else", 403),
    ],
)
async def test_other_hosts_see_health_and_metrics_only(bridge: Bridge, path: str, status: int) -> None:
    """How the bridge is configured is told on its own host, whatever a header claims."""
    claim = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
    async with (
        serving(bridge, is_local=lambda _: False) as port,
        ClientSession(f"http://127.0.0.1:{port}") as stranger,
        stranger.get(path, headers=claim) as response,
    ):
        assert status == response.status


@pytest.mark.parametrize("path", ["/", "/routes", "/events", "/configuration"])
async def test_names_of_others_are_refused(admin: ClientSession, path: str) -> None:
    """A page that has rebound its name to this host cannot read the configuration."""
    async with admin.get(path, headers={"Host": "evil.example"}) as response:
        assert 403 == response.status


async def test_probes_may_not_use_any_name(admin: ClientSession) -> None:
    """Metrics tell account ids: they are not for pages. The answer says what to configure."""
    async with admin.get("/healthz", headers={"Host": "bridge.prod.svc"}) as response:
        assert 403 == response.status
        assert "`admin.hosts`" in await response.text()


async def test_long_requests_are_refused(port: int) -> None:
    """A head above the limits is 400, and the connection ends."""
    head = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 10_000}\r\n\r\n"

    assert (await raw(port, head)).startswith(b"HTTP/1.0 400 ")


async def test_a_silent_connection_is_closed(bridge: Bridge) -> None:
    """Half a request head does not hold a connection for ever."""
    async with serving(bridge, limits=AdminLimits(idle=0.05)) as port:
        assert b"" == await raw(port, "GET /healthz HTTP/1.1\r\nHost: loc")


async def test_an_answer_that_takes_too_long_is_given_up(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    """Where the figures don't come, the connection is dropped rather than kept, and nothing is logged as a bug."""
    bridge.gate = asyncio.Event()
    async with serving(bridge, limits=AdminLimits(answer=0.05)) as port:
        assert b"" == await raw(port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert [] == caplog.records


async def test_a_client_that_does_not_read_is_given_up(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that stays in the buffers does not keep its connection."""
    bridge.unready = ["x" * SIZE]
    async with serving(bridge, limits=AdminLimits(answer=1.0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        # Nothing reaches this end that could be waited for: what is in the sockets' buffers hides the end behind it.
        await asyncio.sleep(1.1)
        arrived = len(await reader.read())
        writer.close()

    assert 0 < arrived < SIZE
    assert [] == caplog.records


ALL_PATHS = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/routes",
    "/",
    "/status",
    "/events",
    "/functions",
    "/configuration",
    "/nothing",
]


@pytest.mark.parametrize("path", ALL_PATHS)
@pytest.mark.parametrize(
    "request_head",
    [
        "GET {path} HTTP/1.1\r\nHost: evil.example:9901\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost.evil.example\r\n",
        "GET {path} HTTP/1.0\r\nHost: EVIL.example.\r\n",
        "GET http://evil.example{path} HTTP/1.1\r\nHost: localhost\r\n",
        "GET http://localhost{path} HTTP/1.1\r\nHost: evil.example\r\n",
        "POST {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n",
    ],
)
async def test_web_pages_of_others_are_refused(port: int, path: str, request_head: str) -> None:
    """A page that gives its own name our address (DNS rebinding), and one that asks from another origin."""
    answer = await raw(port, request_head.format(path=path) + "Connection: close\r\n\r\n")

    assert answer.split()[1] == b"403"
    assert b"grpc_server" not in answer


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/routes", "/"])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9901",
        "[::1]:9901",
        "LocalHost",
        "x.localhost",
        "bridge",
        "host.docker.internal",
        "bridge.example.com",
        "box.example.com",
        "10.1.2.3:9901",
    ],
)
async def test_names_of_this_machine_are_answered(port: int, path: str, host: str) -> None:
    """Also those that the configuration names, and a page of our own."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: close\r\n\r\n"

    assert (await raw(port, head)).startswith(b"HTTP/1.1 200 ")


async def test_a_probe_without_a_host_is_answered(port: int) -> None:
    """Load balancers that speak HTTP/1.0. No browser does."""
    assert (await raw(port, "GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("path", ["/metrics", "/status", "/events"])
async def test_a_client_that_hangs_up_is_no_error(bridge: Bridge, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """It goes while its answer is made: nothing is logged."""
    bridge.gate = asyncio.Event()
    async with serving(bridge) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        bridge.gate.set()
        await asyncio.sleep(0.1)
        await raw(port, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert [] == caplog.records


@pytest.mark.parametrize(
    "sent",
    [
        "GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET /he\0althz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_refused_without_an_error_in_the_log(
    port: int, sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400 and the end of the connection: strangers cannot fill the log."""
    assert b" 400 " in (await raw(port, sent)).partition(b"\r\n")[0]
    assert [] == caplog.records


async def test_the_newest_connection_is_served(bridge: Bridge) -> None:
    """Idle connections cannot lock out a probe: the oldest gives way."""
    probe = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with serving(bridge, limits=AdminLimits(connections=2)) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        answer = await raw(port, probe)

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"" == await idle[0][0].read()
        for _, writer in idle:
            writer.close()


async def test_a_port_in_use_is_told(port: int, bridge: Bridge) -> None:
    """start raises what the system said."""
    with pytest.raises(OSError, match="address already in use"):
        await AdminServer(bridge.reports, HOSTS).start(replace(ANY_PORT, port=port))


async def test_close_ends_open_connections(bridge: Bridge) -> None:
    """A scraper that keeps its connection does not hold up the end of the bridge."""
    server = AdminServer(bridge.reports, HOSTS)
    port = await server.start(ANY_PORT)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"ok\n")
    await server.close()

    assert b"" == await reader.read()
    writer.close()


def test_aiohttp_is_imported_only_by_a_server_that_starts() -> None:
    """A bridge without an admin server pays neither for aiohttp nor for prometheus_client."""
    script = "import sys, bridge.admin.server; print({'aiohttp', 'prometheus_client'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "set()\n" == run.stdout
