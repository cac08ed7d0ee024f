"""Invocations in the test's own loop, for a simulated clock: each connects as lambda_fn does, and a gRPC server of the
bridge's own kind answers each message.
"""

from __future__ import annotations

import asyncio
import json
import socket

from bridge.aws.events.duplex_order import KEY, NamedCertificate, PinnedCertificate
from bridge.aws.invoke import InvokeReply
from bridge.carriers.duplex.rendezvous import Arrived, InstanceArrival
from bridge.rpc.address import TcpAddress
from bridge.rpc.call import Handler
from bridge.server.connection import Connection
from tests.support.serving import echo_each, serving

OURS_TO_RETURN = 0.5
"""Seconds before its end in which a function has closed its connection, as lambda_fn does."""


class SimulatedInvocations:
    """The place where the functions connect, and what invokes them."""

    address = TcpAddress("127.0.0.1", 1)
    certificate: PinnedCertificate | NamedCertificate | None = None

    def __init__(self, handler: Handler = echo_each, *, seconds: float = 900.0, start: float = 0.3) -> None:
        """`handler` serves the calls inside. An invocation may take so many `seconds`, and needs `start` to connect."""
        self.began: list[float] = []
        """When each invocation began (loop time)."""
        self.ended: list[float] = []
        self.servers: list[Connection] = []
        """The server's end of each connection."""
        self._handler = handler
        self._seconds = seconds
        self._start = start
        self._expected: dict[str, Arrived] = {}

    def expect(self, arrived: Arrived) -> str:
        token = f"token {len(self._expected)}"
        self._expected[token] = arrived
        return token

    def forget(self, token: str) -> None:
        self._expected.pop(token, None)

    async def invoke(self, payload: bytes) -> InvokeReply:
        loop = asyncio.get_running_loop()
        self.began.append(loop.time())
        number = len(self.began)
        await asyncio.sleep(self._start)
        remaining = self._seconds - self._start
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        connection = Connection(serving(self._handler, streams=True), set())
        self.servers.append(connection)
        await loop.create_connection(lambda: connection, sock=theirs)
        self._expected.pop(json.loads(payload)[KEY]["token"])(
            InstanceArrival(transport, f"request-{number}", remaining, b"")
        )
        try:
            await asyncio.wait((connection.closed,), timeout=remaining - OURS_TO_RETURN)
        finally:
            connection.kill()
            self.ended.append(loop.time())
        return InvokeReply(b'{"statusCode": 200, "headers": {"grpc-lambda-bridge-duplex": ""}}', f"request-{number}")

    async def dry_run(self) -> None: ...
