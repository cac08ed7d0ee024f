"""The program that the suite starts as a server under test: one of WAYS stands up, its port is told, and it falls with
SIGTERM.

python -m tests.conformance.connectrpc.server WAY '{"the bridge\'s": "configuration"}'
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.connectrpc.framing import read_message, write_message
from tests.conformance.connectrpc.servicer import MAX_MESSAGE
from tests.support.bridge_process import running_bridge
from tests.support.clients import ROOT
from tests.support.protos import conformance_pb2 as pb

SUITE = ROOT / ".cache" / "tools" / "conformance"
"""Where .ci/tools puts the suite's own programs."""

SERVICE = "connectrpc.conformance.v1.ConformanceService"
FUNCTION = "conformance"
SERVICER = "tests.conformance.connectrpc.servicer"

Asked = pb.ServerCompatRequest
Config = dict[str, Any]


# -- through a bridge --------------------------------------------------------------------------------------------------


@contextmanager
def bridge(asked: Asked, config: Config) -> Iterator[int]:
    """`config` is the bridge's, its target among it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        listen: dict[str, Any] = {"address": "127.0.0.1:0"}
        if asked.use_tls:
            listen["tls"] = _credentials(folder, asked)
        whole = {"listen": [listen], "admin": None, **config}
        whole["defaults"] = {"max_request": f"{MAX_MESSAGE}B", **config.get("defaults", {})}
        with running_bridge(folder, whole) as running:
            yield int(running.address.rpartition(":")[2])


def _credentials(folder: Path, asked: Asked) -> dict[str, str]:
    files = {"cert": asked.server_creds.cert, "key": asked.server_creds.key}
    if asked.client_tls_cert:
        files["client_ca"] = asked.client_tls_cert
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in files}


@contextmanager
def bridge_to_grpc(asked: Asked, config: Config) -> Iterator[int]:
    """The server behind it is the suite's own, written with grpc-go."""
    command = [str(SUITE / "grpcserver")]
    plain = pb.ServerCompatRequest(
        protocol=pb.PROTOCOL_GRPC, http_version=pb.HTTP_VERSION_2, message_receive_limit=MAX_MESSAGE
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            write_message(server.stdin, plain)
            listening = read_message(server.stdout, pb.ServerCompatResponse)
            assert listening is not None, "the suite's gRPC server did not start"
            services = {SERVICE: f"grpc://127.0.0.1:{listening.port}"}
            with bridge(asked, {**config, "services": services}) as port:
                yield port
        finally:
            server.terminate()


# -- lambda_fn itself --------------------------------------------------------------------------------------------------


@contextmanager
def function_url(_asked: Asked, config: Config) -> Iterator[int]:
    """The function's URL in the local Lambda at `emulator`. The suite knows ports only: a stream_reply in front gives
    the URL its name.
    """
    port: Queue[int] = Queue()
    stream_reply = _relay_to_url(config["emulator"], port)
    Thread(target=lambda: asyncio.run(stream_reply), daemon=True).start()
    yield port.get(timeout=30)


async def _relay_to_url(emulator: str, port: Queue[int]) -> None:
    """Bytes pass as they are, but for the Host line: a Go client writes it near the start of each request's first
    write.
    """
    there = urlsplit(emulator)
    name = f"Host: {FUNCTION}.lambda-url.us-east-1.localhost\r\n".encode()

    async def pass_on(source: StreamReader, sink: StreamWriter, host: bytes = b"") -> None:
        with suppress(ConnectionError):
            while read := await source.read(1 << 16):
                sink.write(read.replace(host, name, 1) if host else read)
                await sink.drain()
        sink.close()

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        host = "Host: {}:{}\r\n".format(*writer.get_extra_info("sockname")).encode()
        upstream_reader, upstream_writer = await asyncio.open_connection(there.hostname, there.port)
        async with asyncio.TaskGroup() as both:
            both.create_task(pass_on(reader, upstream_writer, host))
            both.create_task(pass_on(upstream_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


@contextmanager
def serve(_asked: Asked, _config: Config) -> Iterator[int]:
    """The same service as `LambdaServer.serve` answers HTTP/1.1."""
    program = f"from {SERVICER} import server; server.serve('127.0.0.1:0', http='127.0.0.1:0')"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            line = next(line for line in server.stderr if "serving HTTP" in line)
            Thread(target=server.stderr.read, daemon=True).start()
            yield int(line.rpartition("(port ")[2].rstrip(")\n"))
        finally:
            server.terminate()


WAYS: dict[str, Callable[[Asked, Config], AbstractContextManager[int]]] = {
    "bridge": bridge,
    "bridge-to-grpc": bridge_to_grpc,
    "function-url": function_url,
    "serve": serve,
}
"""What can stand up, by name."""


def main(way: str, config: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asked = read_message(sys.stdin.buffer, pb.ServerCompatRequest)
    assert asked is not None
    with WAYS[way](asked, json.loads(config)) as port:
        listening = pb.ServerCompatResponse(host="127.0.0.1", port=port, pem_cert=asked.server_creds.cert)
        write_message(sys.stdout.buffer, listening)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
