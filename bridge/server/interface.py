"""What a call, and the body of its request, see of their connection."""

from __future__ import annotations

import asyncio
from typing import Protocol

from bridge.http2.interface import Engine
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Peer
from bridge.server.outflow import Outflow
from bridge.server.response import ResponseFields
from bridge.server.uploads import Uploads


class CallConnection(Protocol):
    """The connection of a call. Equal for all calls of one client."""

    engine: Engine
    loop: asyncio.AbstractEventLoop
    peer: Peer
    buffers: Buffers
    uploads: Uploads
    fields: ResponseFields
    outflow: Outflow
    stream_idle: float | None
    """Seconds that a call may take until the first byte of a message."""
    is_choked: bool
    """Whether the socket accepts no more bytes."""

    def __hash__(self) -> int: ...

    def forget(self, stream_id: int) -> None:
        """Forget the call: its handler has returned."""
        ...
