"""Who may use the call console, with raw HTTP: everything that a browser sends for another web page is refused."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from bridge.admin.console import ConsoleAccess, ConsoleLimits, ListenerShown
from bridge.admin.server import AdminServer, Reports
from bridge.admin.snapshot import Snapshot
from bridge.rpc.address import TcpAddress
from bridge.server.hosts import Hosts

HOSTS = Hosts("admin.hosts", ("bridge.example.com",), "box")
TOKEN = re.compile(rb'name="console-token" content="([^"]*)"')
OFF = re.compile(rb'name="console-off" content="([^"]*)"')


class Echo:
    """The process behind the console: it repeats each line until the other end closes."""

    def __init__(self) -> None:
        self.opened = 0
        self.lines: list[bytes] = []
        self.closed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.opened += 1
        task = asyncio.get_running_loop().create_task(self._repeat(theirs))
        self._tasks.add(task)
        return ours

    async def _repeat(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=32 << 20)
        while line := await reader.readline():
            self.lines.append(line)
            writer.write(line)
        writer.close()
        self.closed.set()


async def _no_snapshot(*, recent: bool = False) -> Snapshot:
    del recent
    return Snapshot()


REPORTS = Reports(
    version="1",
    uptime=lambda: 1.0,
    listeners=lambda: ("127.0.0.1:1",),
    unready=tuple,
    routes=tuple,
    snapshot=_no_snapshot,
    wall_clock=lambda: 0.0,
)


class Served:
    """An admin server, and how the page of a browser would speak to it."""

    def __init__(self, port: int, echo: Echo) -> None:
        self.port = port
        self.echo = echo
        self.token = ""
        self.host = f"127.0.0.1:{port}"

    def headers(self, **changed: str | None) -> dict[str, str]:
        """What the page's own requests have; None leaves one out. Names with _ for -."""
        usual = {
            "Host": self.host,
            "Origin": f"http://{self.host}",
            "Content-Type": "application/json",
            "X-Console-Token": self.token,
            "Sec-Fetch-Site": "same-origin",
        }
        changes = {name.replace("_", "-"): value for name, value in changed.items()}
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    async def raw(
        self, request: str, headers: dict[str, str], body: bytes = b"", address: str = "127.0.0.1"
    ) -> tuple[int, bytes]:
        """The status, and all that follows until the server closes."""
        reader, writer = await asyncio.open_connection(address, self.port)
        lines = [f"{request} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "Connection: close"]
        writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        try:
            async with asyncio.timeout(20):
                answer = await reader.read()
        finally:
            writer.close()
        return int(answer.split(b" ", 2)[1]), answer

    async def ask(self, body: bytes = b'{"do":"list"}', *, path: str = "/console/ask", **changed: str | None) -> int:
        status, _ = await self.raw(f"POST {path}", self.headers(**changed), body)
        return status


@asynccontextmanager
async def serving(
    access: ConsoleAccess | None = None, *, host: str = "127.0.0.1", limits: ConsoleLimits | None = None
) -> AsyncIterator[Served]:
    echo = Echo()
    console = access or ConsoleAccess("", echo.open, lambda: (ListenerShown("127.0.0.1:1", tls=False),))
    server = AdminServer(replace(REPORTS, console=console), HOSTS, console_limits=limits)
    try:
        served = Served(await server.start(TcpAddress(host, 0)), echo)
        _, page = await served.raw("GET /", {"Host": "localhost"}, address=host)
        found = TOKEN.search(page)
        assert found is not None
        served.token = found[1].decode()
        yield served
    finally:
        await server.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


async def test_the_page_s_own_request_is_answered(served: Served) -> None:
    status, answer = await served.raw("POST /console/ask", served.headers(), b'{"do":"list"}')

    assert (200, True) == (status, answer.endswith(b'{"do":"list"}\n'))
    assert b"Access-Control-Allow-" not in answer
    assert len(served.token) >= 40


async def test_browsers_without_fetch_metadata_may_use_it(served: Served) -> None:
    assert 200 == await served.ask(Sec_Fetch_Site=None)


@pytest.mark.parametrize(
    ("status", "changed"),
    [
        (403, {"X_Console_Token": None}),
        (403, {"X_Console_Token": ""}),
        (403, {"X_Console_Token": "guess"}),
        (403, {"X_Console_Token": "gu\u00e9ss"}),
        (403, {"Origin": None}),
        (403, {"Origin": "null"}),
        (403, {"Origin": "http://evil.example"}),
        (403, {"Origin": "http://localhost"}),
        (403, {"Origin": "http://127.0.0.1:1"}),
        (403, {"Origin": "http://bridge.example.com"}),
        (403, {"Sec_Fetch_Site": "cross-site"}),
        (403, {"Sec_Fetch_Site": "same-site"}),
        (403, {"Sec_Fetch_Site": "none"}),
        (415, {"Content_Type": None}),
        (415, {"Content_Type": "text/plain"}),
        (415, {"Content_Type": "application/x-www-form-urlencoded"}),
        (415, {"Content_Type": "multipart/form-data; boundary=a"}),
        (415, {"Content_Type": "text/plain; application/json"}),
        (400, {"Host": None}),
        (403, {"Host": "evil.example"}),
        (403, {"Host": "rebound.example:9901", "Origin": "http://rebound.example:9901"}),
        (403, {"Host": "localhost.evil.example", "Origin": "http://localhost.evil.example"}),
        (403, {"Host": "127.0.0.1.evil.example", "Origin": "http://127.0.0.1.evil.example"}),
        (403, {"Host": "printer", "Origin": "http://printer"}),
        (403, {"Host": "10.0.0.1", "Origin": "http://10.0.0.1"}),
        (403, {"Host": "0.0.0.0", "Origin": "http://0.0.0.0"}),
    ],
    ids=str,
)
async def test_other_requests_are_refused(served: Served, status: int, changed: dict[str, str | None]) -> None:
    """Each differs in one thing from the page's own. None reaches the process behind; nothing is granted to a page."""
    for path in ("/console/ask", "/console/calls", "/console/calls/x"):
        assert status == (await served.raw(f"POST {path}", served.headers(**changed), b'{"do":"list"}'))[0]
    assert 0 == served.echo.opened


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused_and_no_preflight_is_granted(served: Served, method: str) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-console-token"}
    status, answer = await served.raw(f"{method} /console/ask", {**served.headers(), **preflight})

    assert 405 == status
    assert b"Allow: POST" in answer
    assert b"Access-Control-Allow" not in answer
    assert 0 == served.echo.opened


async def test_two_hosts_or_two_origins_are_refused(served: Served) -> None:
    twice = [("Host", served.host), ("Host", "127.0.0.1"), ("Origin", "http://evil.example")]
    for name, value in twice:
        headers = {**served.headers(), name.lower(): value}
        status, _ = await served.raw("POST /console/ask", headers, b"{}")
        assert status in {400, 403}
    assert 0 == served.echo.opened


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "fn.localhost", "127.1.2.3", "[::1]", "bridge.example.com"]
)
async def test_names_that_nobody_else_can_have_are_answered(served: Served, host: str) -> None:
    """And those that the operator has configured."""
    named = f"{host}:{served.port}"

    assert 200 == await served.ask(Host=named, Origin=f"http://{named}")


async def test_it_is_answered_over_ipv6_loopback() -> None:
    async with serving(host="::1") as served:
        headers = {**served.headers(), "Host": f"[::1]:{served.port}", "Origin": f"http://[::1]:{served.port}"}
        status, _ = await served.raw("POST /console/ask", headers, b"{}", address="::1")
        evil = {**headers, "Origin": "http://[::2]"}
        refused, _ = await served.raw("POST /console/ask", evil, b"{}", address="::1")

    assert (200, 403) == (status, refused)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "printer"},
        {"Host": "10.0.0.1:9901"},
        {"Host": "localhost", "Sec-Fetch-Dest": "script", "Sec-Fetch-Site": "cross-site"},
        {"Host": "localhost", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_the_token_is_in_pages_of_this_machine_only(served: Served, headers: dict[str, str]) -> None:
    status, page = await served.raw("GET /", headers)

    assert 200 == status
    assert served.token.encode() not in page
    found = OFF.search(page)
    assert found is not None
    assert found[1]


async def test_a_page_that_is_visited_from_elsewhere_has_its_token(served: Served) -> None:
    """A link to it may be anywhere; the page that has the link cannot read it."""
    visited = {"Host": "localhost", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}
    _, page = await served.raw("GET /", visited)

    assert served.token.encode() in page
    assert b"frame-ancestors 'none'" in page
    assert b"Cross-Origin-Resource-Policy: same-origin" in page
    assert b"Access-Control-Allow" not in page


async def test_each_process_has_a_token_of_its_own(served: Served) -> None:
    async with serving() as other:
        assert served.token != other.token
        assert 403 == await other.ask(X_Console_Token=served.token)


async def test_a_console_that_is_off_says_why() -> None:
    """On the page, and for each request. The reason is text, not HTML."""
    off = "the admin port listens on <b>0.0.0.0</b>"
    async with serving(ConsoleAccess(off, Echo().open)) as served:
        assert not served.token
        status, answer = await served.raw("POST /console/ask", served.headers(X_Console_Token=""), b"{}")
        _, page = await served.raw("GET /", {"Host": "localhost"})

    assert (403, True) == (status, off.encode() in answer)
    assert b"the admin port listens on &lt;b&gt;0.0.0.0&lt;/b&gt;" in page


async def test_other_hosts_get_nothing_of_it() -> None:
    """Not even with the token."""
    echo, is_here = Echo(), [True]
    server = AdminServer(replace(REPORTS, console=ConsoleAccess("", echo.open)), HOSTS, is_local=lambda _: is_here[0])
    try:
        served = Served(await server.start(TcpAddress("127.0.0.1", 0)), echo)
        _, page = await served.raw("GET /", {"Host": "localhost"})
        found = TOKEN.search(page)
        assert found is not None
        served.token = found[1].decode()
        assert 200 == await served.ask()
        is_here[0] = False
        for path in ("/console/ask", "/console/calls", "/"):
            assert 403 == await served.ask(path=path)
    finally:
        await server.close()
    assert 1 == echo.opened


# -- what it holds -----------------------------------------------------------------------------------------------------


async def test_requests_are_bounded_and_one_line() -> None:
    async with serving(limits=ConsoleLimits(line=1000)) as served:
        assert 200 == await served.ask(b"x" * 1000)
        assert 413 == await served.ask(b"x" * 1001)
        assert 400 == await served.ask(b"{}\n{}")
        assert 404 == await served.ask(path="/console/calls/none-of-that-id")
        assert 404 == await served.ask(path="/console/other")


async def test_a_body_without_length_is_bounded_too() -> None:
    """Its chunks are not held beyond the limit."""
    async with serving(limits=ConsoleLimits(line=1000)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        headers = "\r\n".join(f"{name}: {value}" for name, value in served.headers().items())
        writer.write(f"POST /console/ask HTTP/1.1\r\n{headers}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(b"800\r\n" + b"x" * 0x800 + b"\r\n0\r\n\r\n")
        async with asyncio.timeout(20):
            assert b"413" in await reader.readline()
        writer.close()


async def call(served: Served) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin a call; return its id and the connection on which its lines come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    body = b'{"do":"call"}'
    headers = {**served.headers(), "Content-Length": str(len(body))}
    head = "\r\n".join(f"{name}: {value}" for name, value in headers.items())
    writer.write(f"POST /console/calls HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
    async with asyncio.timeout(20):
        head_in = await reader.readuntil(b"\r\n\r\n")
        assert b"200" in head_in.splitlines()[0], head_in
        begun = await reader.readuntil(b"}\n")
    return json.loads(begun.partition(b"{")[1] + begun.partition(b"{")[2])["id"], reader, writer


async def test_lines_of_a_call_pass_in_both_directions(served: Served) -> None:
    """It is cancelled when its page goes."""
    number, reader, writer = await call(served)
    assert 204 == await served.ask(b'{"do":"send"}', path=f"/console/calls/{number}")
    async with asyncio.timeout(20):
        while b"send" not in await reader.readline():
            pass
    writer.close()
    async with asyncio.timeout(20):
        await served.echo.closed.wait()

    assert [b'{"do":"call"}\n', b'{"do":"send"}\n'] == served.echo.lines
    assert 404 == await served.ask(path=f"/console/calls/{number}")


async def test_the_number_of_calls_is_bounded() -> None:
    async with serving(limits=ConsoleLimits(calls=2)) as served:
        writers = [(await call(served))[2] for _ in range(2)]
        assert 429 == await served.ask(path="/console/calls")
        for writer in writers:
            writer.close()
        async with asyncio.timeout(20):
            await served.echo.closed.wait()


async def test_calls_that_begin_at_the_same_time_are_bounded_too() -> None:
    async with serving(limits=ConsoleLimits(calls=2)) as served:
        pages = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(6)]
        head = "\r\n".join(f"{name}: {value}" for name, value in served.headers().items())
        for _, writer in pages:
            writer.write(f"POST /console/calls HTTP/1.1\r\n{head}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        async with asyncio.timeout(20):
            answers = [await _first_lines(reader) for reader, _ in pages]
        for _, writer in pages:
            writer.close()

    assert 2 == sum(b"begun" in answer for answer in answers), answers
    assert 4 == sum(b"are under way" in answer for answer in answers), answers
    assert 2 == served.echo.opened


async def _first_lines(reader: asyncio.StreamReader) -> bytes:
    """Read as far as the words that say whether the call has begun."""
    lines = b""
    while b"begun" not in lines and b"are under way" not in lines:
        line = await reader.readline()
        assert line, lines
        lines += line
    return lines


async def test_a_line_that_the_call_does_not_take_is_not_sent_after_all() -> None:
    """Its process reads nothing: what waits is bounded, however often the page tries again."""
    kept: list[socket.socket] = []

    def opened() -> socket.socket:
        ours, theirs = socket.socketpair()
        kept.append(theirs)
        return ours

    async with serving(ConsoleAccess("", opened), limits=ConsoleLimits(body=0.2)) as served:
        number, _, writer = await call(served)
        path, line = f"/console/calls/{number}", b'{"do":"send","message":"%b"}' % (b"1" * (1 << 20))
        statuses = [await served.ask(line, path=path) for _ in range(3)]
        writer.close()
        (theirs,) = kept
        with theirs:
            received = await asyncio.to_thread(_all_of, theirs)

    assert [204, 503, 503] == statuses
    assert received.count(b"send") <= 1


def _all_of(sock: socket.socket) -> bytes:
    sock.settimeout(20)
    found = bytearray()
    while chunk := sock.recv(1 << 16):
        found += chunk
    return bytes(found)


async def test_a_process_that_cannot_be_reached_is_told() -> None:
    def nobody() -> socket.socket:
        raise OSError("no worker takes calls of the console now")

    async with serving(ConsoleAccess("", nobody)) as served:
        status, answer = await served.raw("POST /console/ask", served.headers(), b"{}")
        called, lines = await served.raw("POST /console/calls", served.headers(), b"{}")

    assert (503, True) == (status, b"no worker takes calls" in answer)
    assert (200, True) == (called, b"no worker takes calls" in lines)


def is_closed_at_once() -> socket.socket:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


async def test_a_process_that_is_busy_is_told() -> None:
    async with serving(ConsoleAccess("", is_closed_at_once)) as served:
        answers: list[Any] = [
            await served.raw(f"POST /console/{path}", served.headers(), b"{}") for path in ("ask", "calls")
        ]

    for _, answer in answers:
        assert b'"is":"refused"' in answer or b"cannot be reached" in answer
