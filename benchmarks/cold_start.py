"""What a cold start costs: from a fresh process to its first answer, for three ways to serve the same unary method.

    python -m benchmarks.cold_start --runs 15 --connect-python VENV/bin/python

Each run is a process of its own, the ways taken in turn. The functions run under `lambda_fn.runtime` against a Runtime
API played by this program; the plain server is called by this program's grpcio. The figures are of a warm disk and of
this machine's processor: on Lambda a function of 1769 MB has one processor, a smaller one a share of it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
METHOD = "/helloworld.Greeter/SayHello"
REQUEST = b"\n\x03you"

LAMBDA_SERVER = """
from lambda_fn import LambdaServer
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc

class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def SayHello(self, request, context):
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

server = LambdaServer()
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = server.handler
"""

PLAIN = """
import os
from concurrent.futures import ThreadPoolExecutor
import grpc
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc

class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def SayHello(self, request, context):
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

server = grpc.server(ThreadPoolExecutor(4))
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
os.write(1, b"%d\\n" % port)
server.wait_for_termination()
"""

CONNECT = """
from connectrpc.compat import google_protobuf_codecs
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint
from mangum import Mangum
from lambda_fn.examples import helloworld_pb2

async def say_hello(request, context):
    return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

METHOD = MethodInfo(
    name="SayHello", service_name="helloworld.Greeter",
    input=helloworld_pb2.HelloRequest, output=helloworld_pb2.HelloReply,
    idempotency_level=IdempotencyLevel.UNKNOWN, stream_type=StreamType.UNARY,
)

class Greeter(ConnectASGIApplication):
    path = "/helloworld.Greeter"

    def __init__(self):
        endpoints = lambda service: {"/helloworld.Greeter/SayHello": Endpoint.unary(METHOD, say_hello)}
        super().__init__(service=object(), endpoints=endpoints, codecs=google_protobuf_codecs())

handler = Mangum(Greeter(), lifespan="off")
"""


class Start(NamedTuple):
    """Seconds."""

    ready: float
    """Until the function asks for work, or the server listens: interpreter, imports, set-up. Lambda's init phase."""
    first: float
    """From then until the first answer."""

    @property
    def whole(self) -> float:
        return self.ready + self.first


@contextmanager
def started(python: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [python, *arguments],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def start_function(python: str, program: str, content_type: str, body: bytes) -> Start:
    """A function under lambda_fn.runtime, given one event."""
    event = json.dumps(http_event(content_type, body)).encode()
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as api:
        Path(folder, "app.py").write_text(program)
        api.settimeout(60)
        address = f"127.0.0.1:{api.getsockname()[1]}"
        begun = time.perf_counter()
        with started(
            python,
            "-m",
            "lambda_fn.runtime",
            "app.handler",
            AWS_LAMBDA_RUNTIME_API=address,
            LAMBDA_TASK_ROOT=folder,
        ):
            connection, _ = api.accept()
            with connection, connection.makefile("rb") as reader:
                connection.settimeout(60)
                line, _ = received(reader)
                assert line.startswith(b"GET "), f"the function did not load: {line!r}"
                asked = time.perf_counter()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\n"
                    b"Lambda-Runtime-Deadline-Ms: 4102444800000\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(event) + event
                )
                line, reply = received(reader)
                answered = time.perf_counter()
    assert line.split()[1].endswith(b"/response"), reply
    assert json.loads(reply)["statusCode"] == 200, reply
    return Start(asked - begun, answered - asked)


def received(reader: Any) -> tuple[bytes, bytes]:
    """First line and body of one HTTP request."""
    line, size = reader.readline(), 0
    while (header := reader.readline()) not in (b"\r\n", b""):
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    return line, reader.read(size)


def http_event(content_type: str, body: bytes) -> dict[str, Any]:
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": METHOD,
        "rawQueryString": "",
        "headers": {"content-type": content_type, "host": "localhost"},
        "requestContext": {
            "http": {
                "method": "POST",
                "path": METHOD,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "bench",
            },
            "domainName": "localhost",
            "stage": "$default",
            "timeEpoch": int(time.time() * 1000),  # noqa: TID251 - the event tells wall time
        },
        "body": b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def start_plain(python: str) -> Start:
    """A grpcio server, called by a client that has just connected."""
    import grpc

    begun = time.perf_counter()
    with started(python, "-c", PLAIN) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        listening = time.perf_counter()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(METHOD)
            reply = call(REQUEST, timeout=30)
        answered = time.perf_counter()
    assert b"Hello, you!" in reply
    return Start(listening - begun, answered - listening)


def start_interpreter(python: str) -> Start:
    begun = time.perf_counter()
    with started(python, "-c", "import os, signal; os.write(1, b'1\\n'); signal.pause()") as process:
        assert process.stdout is not None
        process.stdout.readline()
        return Start(time.perf_counter() - begun, 0.0)


def table(found: dict[str, list[Start]]) -> str:
    lines = ["| | until ready | first call | together | range |", "|---|--:|--:|--:|---|"]
    for name, starts in found.items():
        ready, first, whole = (
            statistics.median(values) * 1e3
            for values in zip(*((s.ready, s.first, s.whole) for s in starts), strict=True)
        )
        low, high = (pick(start.whole for start in starts) * 1e3 for pick in (min, max))
        lines.append(f"| {name} | {ready:.0f} ms | {first:.1f} ms | {whole:.0f} ms | {low:.0f}-{high:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--connect-python", help="an interpreter that has connectrpc, mangum and protobuf")
    chosen = parser.parse_args()
    framed = b"\x00" + len(REQUEST).to_bytes(4, "big") + REQUEST
    ways: dict[str, Callable[[], Start]] = {
        "the interpreter alone": lambda: start_interpreter(sys.executable),
        "LambdaServer": lambda: start_function(sys.executable, LAMBDA_SERVER, "application/grpc-web+proto", framed),
        "grpcio server": lambda: start_plain(sys.executable),
    }
    if chosen.connect_python:
        ways["mangum + connectrpc"] = lambda: start_function(
            chosen.connect_python, CONNECT, "application/proto", REQUEST
        )
    for way in ways.values():  # bytecode and the disk's cache
        way()
    found: dict[str, list[Start]] = {name: [] for name in ways}
    for _ in range(chosen.runs):
        for name, way in ways.items():
            found[name].append(way())
    print(table(found))


if __name__ == "__main__":
    main()
