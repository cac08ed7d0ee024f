"""The connection of one call of the console: an ordinary connection of the server, over a pair of sockets.

So the call passes all that a client's call passes: the engine and its limits, routes, layers, deadlines, drain. It is
known by its peer, and it tells at the end what its time was spent on.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from bridge.console.conversation import Stages
from bridge.rpc.call import CONSOLE, Peer
from bridge.server.connection import Connection, ServerContext
from bridge.server.response import ResponseFields


class ConsoleConnection(Connection):
    """Takes one call."""

    def __init__(self, serving: ServerContext, connections: set[Connection]) -> None:
        super().__init__(serving, connections)
        self.stages: asyncio.Future[Stages] = self.loop.create_future()
        """Done when the call is over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = Peer(CONSOLE)
        self.fields = ResponseFields(self.engine, self.figures, CONSOLE)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.stages.cancel()

    def forget(self, stream_id: int) -> None:
        call = self.calls[stream_id]
        if not self.stages.done():
            self.stages.set_result(
                Stages(
                    monotonic() - call.started,
                    call.queued_seconds,
                    call.upstream_seconds,
                    call.is_cold_start,
                    call.attempts,
                    call.route.target,
                    call.request_id,
                    call.tenant,
                )
            )
        super().forget(stream_id)
