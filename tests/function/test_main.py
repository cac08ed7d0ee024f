"""`python -m lambda_fn app:server`: gRPC and HTTP side by side, and what is said when that cannot be."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc
from tests.support.byte_methods import unary_stream
from tests.support.lambda_channel import frame

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GREETER = "lambda_fn.examples.greeter:server"
HELLO = frame(helloworld_pb2.HelloRequest(name="you").SerializeToString())
GRPC_WEB = {"content-type": "application/grpc-web+proto"}
STREAM = "/helloworld.Greeter/SayHelloStreamReply"

SLOW = """
import time
from lambda_fn import LambdaServer
from tests.support.behaviours import add

def slow(request, context):
    yield b"1"
    time.sleep(0.5)
    yield b"2"

server = LambdaServer()
add(server, {"Slow": ("unary_stream", slow), "Exits": ("unary_unary", lambda request, context: exit(1))})
other = "text"
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def finished(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lambda_fn", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )


@contextmanager
def served(*arguments: str, folder: Path = ROOT) -> Iterator[tuple[str, int, Any]]:
    """gRPC address, HTTP port and process of the command."""
    ports = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
    process = subprocess.Popen(
        [sys.executable, "-m", "lambda_fn", *arguments, *ports],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found: dict[str, int] = {}
        for line in process.stderr:
            if line.startswith("serving "):
                found[line.split()[1]] = int(line.rpartition("port ")[2].rstrip(")\n"))
            if len(found) == 2:
                break
        assert {"gRPC", "HTTP"} == set(found)
        yield f"127.0.0.1:{found['gRPC']}", found["HTTP"], process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def greeter() -> Iterator[tuple[str, int]]:
    with served(GREETER) as (address, port, _):
        yield address, port


@pytest.fixture
def connection(greeter: tuple[str, int]) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection("127.0.0.1", greeter[1], timeout=10)
    yield opened
    opened.close()


def test_both_ports_serve_one_service(greeter: tuple[str, int], connection: http.client.HTTPConnection) -> None:
    """Native gRPC on the one, gRPC-Web on the other."""
    with grpc.insecure_channel(greeter[0]) as channel:
        stub: Any = helloworld_pb2_grpc.GreeterStub(channel)
        native = stub.SayHello(helloworld_pb2.HelloRequest(name="you"), timeout=10).message
    connection.request("POST", "/helloworld.Greeter/SayHello", HELLO, GRPC_WEB)
    response = connection.getresponse()
    body = response.read()

    expected = frame(helloworld_pb2.HelloReply(message="Hello, you!").SerializeToString())
    assert "Hello, you!" == native
    assert (200, True) == (response.status, body.startswith(expected))
    assert "x-lambda-fn-cold-start" not in response.headers


def test_rest_beside_grpc() -> None:
    """`google.api.http` on the one port, the method itself on the other."""
    with served("lambda_fn.examples.ping:server") as (address, port, _):
        web = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        web.request("GET", "/v1/ping?message=hello%20you")
        response = web.getresponse()
        rest = json.loads(response.read())
        web.request("HEAD", "/v1/ping")
        head = web.getresponse()
        nothing = head.read()
        web.close()
        with grpc.insecure_channel(address) as channel:
            call: Any = channel.unary_unary("/dev.Ping/Send")
            native = call(b"", timeout=10)

    assert {"message": "hello you"} == rest
    assert (200, b"") == (head.status, nothing)
    assert b"pong" in native


def test_streamed_replies_come_in_chunks(connection: http.client.HTTPConnection) -> None:
    """Messages leave one by one; the connection is kept for the next request."""
    connection.request("POST", STREAM, HELLO, GRPC_WEB)
    response = connection.getresponse()
    first = response.read(5)
    rest = response.read()
    connection.request("POST", STREAM, HELLO, GRPC_WEB)

    assert "chunked" == response.headers["transfer-encoding"]
    assert 0 == first[0]
    assert b"grpc-status:0" in rest
    assert 200 == connection.getresponse().status


def test_a_chunked_request_is_read(connection: http.client.HTTPConnection) -> None:
    """As some clients send every body."""
    parts = iter((HELLO[:3], HELLO[3:]))
    connection.request("POST", "/helloworld.Greeter/SayHello", parts, GRPC_WEB, encode_chunked=True)

    assert b"Hello, you!" in connection.getresponse().read()


def test_what_is_not_there_is_404(connection: http.client.HTTPConnection) -> None:
    """As the function URL says it."""
    connection.request("GET", "/nothing?a=b")
    response = connection.getresponse()
    response.read()

    assert 404 == response.status


def test_a_body_over_the_limit_is_413_before_it_is_read(
    connection: http.client.HTTPConnection,
) -> None:
    """Its declared length is enough."""
    connection.putrequest("POST", STREAM)
    connection.putheader("content-length", str(1 << 40))
    connection.endheaders()

    assert 413 == connection.getresponse().status


def test_a_negative_length_is_400(connection: http.client.HTTPConnection) -> None:
    """And nothing else happens."""
    connection.putrequest("POST", STREAM)
    connection.putheader("content-length", "-1")
    connection.endheaders()

    assert 400 == connection.getresponse().status


def test_sigterm_lets_calls_on_both_ports_finish(tmp_path: Path) -> None:
    """Each has its last message and its status, and the exit code is 0."""
    (tmp_path / "slow_app.py").write_text(SLOW)
    with served("slow_app:server", folder=tmp_path) as (address, port, process):
        web = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        web.request("POST", "/test.Test/Slow", frame(b""), GRPC_WEB)
        response = web.getresponse()
        first = response.read(6)
        with grpc.insecure_channel(address) as channel:
            call: Any = unary_stream(channel, "/test.Test/Slow")(b"", timeout=10)
            next(call)
            process.send_signal(signal.SIGTERM)
            rest = list(call)
        web_rest = response.read()
        web.close()
        code = process.wait(15)

    assert frame(b"1") == first
    assert web_rest.startswith(frame(b"2"))
    assert b"grpc-status:0" in web_rest
    assert [b"2"] == rest
    assert 0 == code


def test_a_servicer_that_exits_ends_its_call_only(tmp_path: Path) -> None:
    """Locally one process serves everybody."""
    (tmp_path / "slow_app.py").write_text(SLOW)
    with served("slow_app", folder=tmp_path) as (_, port, _process):
        web = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        statuses = []
        for method in ("Exits", "Slow"):
            web.request("POST", f"/test.Test/{method}", frame(b""), GRPC_WEB)
            response = web.getresponse()
            response.read()
            statuses.append(response.status)
        web.close()

    assert [500, 200] == statuses


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_such_module:server", "there is no module 'no_such_module'"),
        ("lambda_fn.no_such:server", "there is no module 'lambda_fn.no_such'"),
        ("lambda_fn.examples.greeter:app", "has no attribute 'app'"),
        ("lambda_fn.examples.greeter:handler", "is a method, not a LambdaServer"),
        (":server", "is no MODULE:NAME"),
    ],
)
def test_what_cannot_be_served_is_named(name: str, problem: str) -> None:
    """One line, exit code 2."""
    result = finished(name)

    assert 2 == result.returncode
    assert problem in result.stderr
    assert 1 == result.stderr.count("\n")


def test_a_module_that_fails_to_import_another_shows_where(tmp_path: Path) -> None:
    """That is the module's own error, with its traceback."""
    (tmp_path / "broken_app.py").write_text("import not_installed_anywhere\n")
    result = finished("broken_app:server", folder=tmp_path)

    assert 1 == result.returncode
    assert "Traceback" in result.stderr
    assert "No module named 'not_installed_anywhere'" in result.stderr


@pytest.mark.parametrize("flag", ["--grpc", "--http"])
def test_a_port_in_use_is_named(flag: str) -> None:
    """One line, exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ports = {"--grpc": "127.0.0.1:0", "--http": "127.0.0.1:0", flag: address}
        result = finished(GREETER, *(word for pair in ports.items() for word in pair))

    assert 1 == result.returncode
    assert f"lambda_fn: Failed to bind to {address}" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_shows_an_example() -> None:
    """With both addresses."""
    assert "--grpc 0.0.0.0:50051 --http 0.0.0.0:8080" in finished("--help").stdout
