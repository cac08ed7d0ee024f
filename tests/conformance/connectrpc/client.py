"""The program that the suite starts as a client under test: its own gRPC client, written with grpc-go, calls through a
bridge.

    python -m tests.conformance.connectrpc.client grpc '{"the bridge\'s": "configuration"}'

The suite's server, which answers what each case wants, is the bridge's target; the first argument is the scheme of that
target.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.conformance.connectrpc.framing import read_message, write_message
from tests.conformance.connectrpc.server import SERVICE, SUITE
from tests.support.bridge_process import running_bridge
from tests.support.protos import conformance_pb2 as pb


def main(scheme: str, config: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    command = [str(SUITE / "grpcclient")]
    with ExitStack() as stack, subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        bridges = _Bridges(stack, scheme, json.loads(config))
        assert client.stdin is not None
        while (asked := read_message(sys.stdin.buffer, pb.ClientCompatRequest)) is not None:
            port = bridges.port_before(f"{asked.host}:{asked.port}")
            asked.host, asked.port = "127.0.0.1", port
            asked.protocol, asked.http_version = pb.PROTOCOL_GRPC, pb.HTTP_VERSION_2
            write_message(client.stdin, asked)
        client.stdin.close()
        client.wait()


class _Bridges:
    """One before each server that the suite starts."""

    def __init__(self, stack: ExitStack, scheme: str, config: dict[str, Any]) -> None:
        self._stack = stack
        self._scheme = scheme
        self._config = config
        self._ports: dict[str, int] = {}

    def port_before(self, server: str) -> int:
        """Of the bridge whose target is this `host:port`."""
        if server not in self._ports:
            folder = self._stack.enter_context(TemporaryDirectory())
            config = {
                "admin": None,
                "services": {SERVICE: f"{self._scheme}://{server}"},
                **self._config,
            }
            running = self._stack.enter_context(running_bridge(Path(folder), config))
            self._ports[server] = int(running.address.rpartition(":")[2])
        return self._ports[server]


if __name__ == "__main__":
    main(*sys.argv[1:])
