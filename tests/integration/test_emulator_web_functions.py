"""Web Functions of the local Lambda: what their server gets, what callers get, and what happens when it fails."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.config.schema import FunctionConfig, WebFunctionConfig
from tests.support.emulator import Caller, local_lambda

SERVER = """
import json, os, socket, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

host, port = os.environ["AWS_LAMBDA_HTTP_ENDPOINT"].split(":")

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\\r\\n%b\\r\\n" % (len(data), data))

    def show(self):
        told = {"method": self.command, "path": self.path, "body": len(self.body()), "fields": self.headers.items()}
        self.reply(json.dumps(told).encode(), content_type="application/json", x_app="1", lambda_web_x="app")

def serve(action):
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"):
        setattr(Handler, "do_" + method, action)
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""
SHOW = "serve(Handler.show)"


def web_function(folder: Path, source: str, **options: Any) -> FunctionConfig:
    (folder / "server.py").write_text(SERVER + textwrap.dedent(source))
    settings = {"timeout": 30.0, "instance_concurrency": 64, **options}
    return FunctionConfig(
        name="fn", code=folder, web=WebFunctionConfig((sys.executable, "-S", "server.py")), **settings
    )


@asynccontextmanager
async def serving(
    folder: Path, source: str, *, lambda_options: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, str, Caller]]:
    """A client, the function's URL by path, and the local Lambda."""
    async with local_lambda(web_function(folder, source, **options), **(lambda_options or {})) as caller:
        timeout = aiohttp.ClientTimeout(20)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            yield session, caller.local.path_url("fn"), caller


async def seen(session: aiohttp.ClientSession, method: str, url: str, **options: Any) -> dict[str, Any]:
    """What the server says that it got. Names of fields in lower case."""
    async with session.request(method, url, **options) as response:
        told = await response.json()
    told["fields"] = {name.lower(): value for name, value in told["fields"]}
    return dict(told)


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"])
async def test_requests_reach_the_server(tmp_path: Path, method: str) -> None:
    """With path and query as they were sent."""
    async with serving(tmp_path, SHOW) as (session, url, _):
        told = await seen(session, method, f"{url}a%2Fb/c?x=%26", data=b"hello")

    assert (method, "/a%2Fb/c?x=%26", 5) == (told["method"], told["path"], told["body"])


async def test_headers_of_the_front(tmp_path: Path) -> None:
    sent = {
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Trailer": "x",
        "Proxy-Authorization": "x",
        "X-Real-IP": "10.0.0.1",
        "X-HTTP-Method-Override": "DELETE",
        "lambda-web-request-id": "forged",
        "lambda-web-anything": "forged",
        "X-Forwarded-For": "10.0.0.2",
        "X-Forwarded-Host": "example.com",
        "Authorization": "Bearer x",
        "X-Own": "ü",
    }
    async with serving(tmp_path, SHOW) as (session, url, _):
        fields = (await seen(session, "POST", url, data=b"x", headers=sent))["fields"]

    expected = {
        "host": "fn.lambda-web.us-east-1.localhost",
        "x-forwarded-for": "10.0.0.2, 127.0.0.1",
        "x-forwarded-host": "example.com",
        "authorization": "Bearer x",
        "lambda-web-endpoint-name": "default",
        "content-length": "1",
    }
    assert expected == {name: fields.get(name) for name in expected}
    assert "forged" != fields["lambda-web-request-id"]
    removed = {"connection", "x-hop", "keep-alive", "te", "trailer", "proxy-authorization", "x-real-ip"}
    assert not removed & set(fields)
    assert not {"x-http-method-override", "lambda-web-anything", "x-amzn-requestid"} & set(fields)


async def test_the_function_is_reached_by_host(tmp_path: Path) -> None:
    """Host names have no case. Paths that are the API's elsewhere are the function's here."""
    async with serving(tmp_path, SHOW) as (session, _, caller):
        host = "FN.lambda-web.us-east-1.localhost"
        url = f"{caller.local.endpoint_url}/2015-03-31/functions/"
        told = await seen(session, "GET", url, headers={"Host": host, "Origin": "https://elsewhere.example"})
        async with session.get(url, headers={"Host": "fn.lambda-web.us-east-1.example.com"}) as strange:
            assert 403 == strange.status
        assert {
            "fn": f"http://fn.lambda-web.us-east-1.localhost:{url.split(':')[2].split('/', maxsplit=1)[0]}/"
        } == dict(caller.local.urls)

    assert "/2015-03-31/functions/" == told["path"]
    assert host.lower() == told["fields"]["host"]


async def test_a_body_without_a_length_is_forwarded_in_chunks(tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(100_000)
            await asyncio.sleep(0)

    async with serving(tmp_path, SHOW) as (session, url, _):
        told = await seen(session, "POST", url, data=parts())

    assert 300_000 == told["body"]
    assert "chunked" == told["fields"]["transfer-encoding"]


async def test_websockets_become_a_get(tmp_path: Path) -> None:
    sent = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    async with serving(tmp_path, SHOW) as (session, url, _):
        told = await seen(session, "GET", url, headers=sent)

    assert "upgrade" not in told["fields"]


@pytest.mark.parametrize(
    ("status", "request_head"),
    [
        (417, "POST /lambda-web/fn/ HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"),
        (
            417,
            (
                "POST /a HTTP/1.1\r\nHost: fn.lambda-web.us-east-1.localhost\r\nExpect: 100-continue\r\n"
                "Content-Length: 1\r\n\r\n"
            ),
        ),
        (505, "GET /lambda-web/fn/ HTTP/1.0\r\nHost: localhost\r\n\r\n"),
        (405, "TRACE /lambda-web/fn/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, "GET /lambda-web/other/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ],
)
async def test_what_the_front_refuses(tmp_path: Path, status: int, request_head: str) -> None:
    async with serving(tmp_path, SHOW) as (_, _, caller):
        host, port = caller.local.endpoint_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_head.encode())
        line = await reader.readline()
        writer.close()

    assert str(status).encode() == line.split(b" ")[1]


async def test_a_web_function_cannot_be_invoked(tmp_path: Path) -> None:
    async with serving(tmp_path, SHOW) as (_, _, caller):
        refusal = await caller.refusal()

    assert "ResourceNotFoundException" == refusal["Error"]["Code"]


# -- responses ---------------------------------------------------------------------------------------------------------


async def test_headers_of_a_response(tmp_path: Path) -> None:
    async with serving(tmp_path, SHOW) as (session, url, _), session.get(url) as response:
        fields = response.headers
        told = dict(await response.json())

    request_id = dict(told["fields"])["lambda-web-request-id"]
    assert (request_id, "1") == (fields["lambda-web-request-id"], fields["x-app"])
    assert fields["lambda-web-logstream"]
    assert "lambda-web-x" not in fields
    assert "lambda-web-error-type" not in fields


STREAM = """
def action(self):
    self.body()
    self.send_response(200)
    self.send_header("Transfer-Encoding", "chunked")
    self.send_header("Trailer", "x-late")
    self.send_header("Keep-Alive", "timeout=5")
    self.end_headers()
    self.chunk(b"one")
    while not os.path.exists("go"):
        time.sleep(0.01)
    self.chunk(b"two")
    self.wfile.write(b"0\\r\\nx-late: 1\\r\\n\\r\\n")
serve(action)
"""


async def test_responses_stream_without_trailers(tmp_path: Path) -> None:
    async with serving(tmp_path, STREAM) as (session, url, _), session.get(url) as response:
        first = await response.content.readany()
        (tmp_path / "go").touch()
        rest = await response.read()
        fields = response.headers

    assert (b"one", b"two") == (first, rest)
    assert not {"trailer", "keep-alive", "x-late"} & {name.lower() for name in fields}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 404])
async def test_responses_without_a_body(tmp_path: Path, method: str, status: int) -> None:
    """The next request on the connection is answered, so nothing was left over or missing."""
    head = f"HTTP/1.1 {status} X\\r\\ncontent-length: 0\\r\\n\\r\\n"
    source = f"serve(lambda self: self.wfile.write(b'{head}'))"
    async with serving(tmp_path, source) as (session, url, _):
        for _ in range(2):
            async with session.request(method, url) as response:
                assert (status, b"") == (response.status, await response.read())


async def test_interim_responses_are_passed_over(tmp_path: Path) -> None:
    source = """
    def action(self):
        self.wfile.write(b"HTTP/1.1 103 Early Hints\\r\\nx-hint: 1\\r\\n\\r\\n")
        self.reply(b"whole")
    serve(action)
    """
    async with serving(tmp_path, source) as (session, url, _), session.get(url) as response:
        assert (200, b"whole") == (response.status, await response.read())
        assert "x-hint" not in response.headers


async def test_a_response_may_end_with_its_connection(tmp_path: Path) -> None:
    source = """
    def action(self):
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\n\\r\\nwhole")
        self.close_connection = True
    serve(action)
    """
    async with serving(tmp_path, source) as (session, url, _):
        assert (200, b"whole") == await _ask(session, url)


async def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    """In the middle of its request."""
    async with serving(tmp_path, SHOW, concurrency=1, instance_concurrency=1) as (session, url, caller):
        assert 200 == (await _ask(session, url))[0]
        host, port = caller.local.endpoint_url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /lambda-web/fn/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        while (await _ask(session, url))[0] != 429:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while (await _ask(session, url))[0] == 429:
            await asyncio.sleep(0.01)


HALF_DUPLEX = """
def action(self):
    self.send_response(200)
    self.send_header("Content-Length", "32000000")
    self.end_headers()
    self.wfile.write(bytes(32000000))
    self.body()
serve(action)
"""


async def test_the_request_is_forwarded_whole_before_the_response_is_read(tmp_path: Path) -> None:
    """A server that answers first, without reading, waits for the front, and the front for it."""
    async with serving(tmp_path, HALF_DUPLEX, timeout=3.0) as (session, url, _):
        async with session.post(url, data=BytesIO(bytes(16_000_000))) as stuck:
            assert (504, "Runtime.RequestTimeout") == (stuck.status, stuck.headers["lambda-web-error-type"])
        async with session.post(url, data=b"small") as response:
            assert 32_000_000 == len(await response.read())


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_a_request_that_takes_too_long(tmp_path: Path) -> None:
    """The process goes on with the others."""
    source = """
    def action(self):
        if self.path == "/slow":
            time.sleep(60)
        self.reply(b"pid %d" % os.getpid())
    serve(action)
    """
    async with serving(tmp_path, source, timeout=0.5) as (session, url, caller):
        async with session.get(url) as response:
            before = await response.read()
        async with session.get(f"{url}slow") as response:
            assert (504, "Runtime.RequestTimeout") == (response.status, response.headers["lambda-web-error-type"])
            assert response.headers["lambda-web-request-id"]
        async with session.get(url) as response:
            assert before == await response.read()

    assert "longer than 0.5 s" in caller.log


async def test_a_stream_that_takes_too_long_is_cut(tmp_path: Path) -> None:
    """Its status was sent already, and no header says why."""
    async with serving(tmp_path, STREAM, timeout=0.5) as (session, url, _), session.get(url) as response:
        assert 200 == response.status
        assert "lambda-web-error-type" not in response.headers
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize(
    ("status", "source", "told"),
    [
        (500, "sys.exit(3)", "ended before it listened: exit status 3"),
        (502, "serve(lambda self: os._exit(1))", "closed the connection without a response"),
        (502, "serve(lambda self: self.connection.shutdown(socket.SHUT_RDWR))", "without a response"),
        (502, "serve(lambda self: self.wfile.write(b'SSH-2.0\\r\\n\\r\\n'))", "no HTTP"),
        (
            502,
            "serve(lambda self: self.wfile.write(b'HTTP/1.1 200 OK\\r\\na: ' + bytes([97]) * 200000))",
            "head of the",
        ),
    ],
)
async def test_failures_of_the_server(tmp_path: Path, status: int, source: str, told: str) -> None:
    async with serving(tmp_path, source) as (session, url, caller), session.get(url) as response:
        assert status == response.status
        assert response.headers["lambda-web-error-type"].startswith("Runtime.")

    assert told in caller.log


async def test_a_server_that_does_not_listen(tmp_path: Path) -> None:
    source = "time.sleep(60)"
    async with serving(tmp_path, source, lambda_options={"init_timeout": 0.5}) as (session, url, caller):
        assert 500 == (await _ask(session, url))[0]

    assert "nothing listens on AWS_LAMBDA_HTTP_ENDPOINT" in caller.log


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    config = FunctionConfig(name="fn", code=tmp_path, web=WebFunctionConfig(("./nothing",)), timeout=30.0)
    async with local_lambda(config) as caller, aiohttp.ClientSession() as session:
        assert 500 == (await _ask(session, caller.local.path_url("fn")))[0]

    assert "no such file" in caller.log


async def test_the_next_request_starts_a_new_process(tmp_path: Path) -> None:
    source = """
    def action(self):
        if self.path == "/die":
            os._exit(1)
        self.reply(b"pid %d" % os.getpid())
    serve(action)
    """
    async with serving(tmp_path, source) as (session, url, _):
        pids = []
        for _ in range(2):
            async with session.get(url) as response:
                pids.append(await response.read())
            with suppress(aiohttp.ClientError):
                async with session.get(f"{url}die") as response:
                    assert 502 == response.status
                    assert "Runtime.ExitError" == response.headers["lambda-web-error-type"]

    assert 2 == len(set(pids))


# -- environments ------------------------------------------------------------------------------------------------------

MEET = """
arrived = threading.Semaphore(0)
def action(self):
    open(f"here-{os.getpid()}-{threading.get_ident()}", "w").close()
    while len([name for name in os.listdir(".") if name.startswith("here-")]) < int(self.path[1:]):
        time.sleep(0.01)
    self.reply(b"%d" % os.getpid())
serve(action)
"""


async def _ask(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with session.get(url) as response:
        return response.status, await response.read()


async def test_one_process_serves_several_requests_at_once(tmp_path: Path) -> None:
    """They wait for each other, so they are served at the same time. All wait for the cold start."""
    async with serving(tmp_path, MEET, concurrency=1) as (session, url, _):
        answers = await asyncio.gather(*(_ask(session, f"{url}8") for _ in range(8)))

    assert [200] * 8 == [status for status, _ in answers]
    assert 1 == len({pid for _, pid in answers})


async def test_a_full_environment_lets_another_start(tmp_path: Path) -> None:
    async with serving(tmp_path, MEET, concurrency=2, instance_concurrency=2) as (session, url, _):
        answers = await asyncio.gather(*(_ask(session, f"{url}4") for _ in range(4)))

    assert 2 == len({pid for _, pid in answers})


async def test_without_an_environment_requests_are_throttled(tmp_path: Path) -> None:
    async with serving(tmp_path, MEET, concurrency=1, instance_concurrency=1) as (session, url, caller):
        first = asyncio.get_running_loop().create_task(_ask(session, f"{url}2"))
        while not list(tmp_path.glob("here-*")):
            await asyncio.sleep(0.01)
        status, _ = await _ask(session, f"{url}2")
        (tmp_path / "here-2").touch()
        assert 200 == (await first)[0]

    assert 429 == status
    assert "throttled" in caller.log


async def test_idle_processes_end(tmp_path: Path) -> None:
    source = "serve(lambda self: self.reply(b'%d' % os.getpid()))"
    async with serving(tmp_path, source, lambda_options={"idle_timeout": 0.1}) as (session, url, _):
        _, pid = await _ask(session, url)
        while Path(f"/proc/{int(pid)}").exists():
            await asyncio.sleep(0.02)
        assert pid != (await _ask(session, url))[1]


async def test_temporary_files_go_with_their_process(tmp_path: Path) -> None:
    """As an environment on Lambda has a /tmp of its own."""
    source = """
    import tempfile
    def answer(self):
        handle, path = tempfile.mkstemp()
        os.close(handle)
        self.reply(path.encode())
    serve(answer)
    """
    async with serving(tmp_path, source) as (session, url, _):
        _, made = await _ask(session, url)
        path = Path(made.decode())
        was_there = path.exists()

    assert was_there
    assert not path.parent.exists()


async def test_a_change_lets_requests_in_flight_end(tmp_path: Path) -> None:
    """New requests get a new process. A function that is gone ends when its last request has."""
    async with serving(tmp_path, MEET, concurrency=5) as (session, url, caller):
        local = caller.local
        first = asyncio.get_running_loop().create_task(_ask(session, f"{url}2"))
        while not list(tmp_path.glob("here-*")):
            await asyncio.sleep(0.01)
        await local.update({"fn": web_function(tmp_path, MEET, concurrency=5, env={"NEW": "1"})})
        second = await _ask(session, f"{url}2")
        assert (200, 200) == ((await first)[0], second[0])
        assert second[1] != (await first)[1]
        await local.update({})
        assert 404 == (await _ask(session, url))[0]
