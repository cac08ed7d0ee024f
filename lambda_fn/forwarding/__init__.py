"""forward: a Lambda handler that sends what arrives to a gRPC server, in the same function or elsewhere.

    handler = forward("orders.internal:50051")                              # a server elsewhere
    handler = forward("unix:/tmp/app.sock", server=grpc_server)             # grpcio's, in this process
    handler = forward("unix:/tmp/app.sock", command=["./server", "{socket}"])  # any program, in this function

Events, protocols, deadlines and streamed replies are LambdaServer's: the servicer that it calls is `proxy`, which takes
and gives bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from lambda_fn.duplex.endpoint import Endpoint
from lambda_fn.duplex.order import Allowed, is_order
from lambda_fn.events.shape import Event
from lambda_fn.forwarding.channel import KeptChannel
from lambda_fn.forwarding.process import ServerProcess
from lambda_fn.forwarding.proxy import Upstream, forwarding_handlers
from lambda_fn.forwarding.raw import connect_to
from lambda_fn.forwarding.target import PID, Target, parse
from lambda_fn.server import LambdaServer, Reply

_START_TIMEOUT = 10.0

_MAX_REQUEST = 64 << 20
"""Bytes of one request message, inflated. The server behind has its own limit; this one bounds what a compressed
message can become.
"""


class Forwarder:
    """A Lambda handler; what `forward` returns."""

    def __init__(
        self,
        upstream: Upstream,
        close: Sequence[Callable[[], None]],
        *,
        stream_replies: bool | None,
        cors: str | Sequence[str] | None,
        services: Sequence[str],
        base_path: str,
        duplex: Allowed,
    ) -> None:
        self._close = close
        self._endpoint = Endpoint(duplex, lambda order: connect_to(upstream, order.attach_seconds))
        self._server = LambdaServer(
            handlers=forwarding_handlers(upstream, services),
            options=[("grpc.max_receive_message_length", _MAX_REQUEST)],
            reflection=False,  # the server behind answers it, if it does
            stream_replies=stream_replies,
            cors=cors,
            base_path=base_path,
            duplex=False,  # orders never reach it
        )

    def __call__(self, event: Event, context: Any) -> Reply:
        """Answer one event, as `LambdaServer.handler` does."""
        if is_order(event):
            return self._endpoint.answer(event, context)
        return self._server.handler(event, context)

    def close(self) -> None:
        """Close the channel and stop the server that was started here. Lambda never needs it; a test may."""
        for close in self._close:
            close()
        self._server.close()


def forward(  # noqa: PLR0913 - options by keyword, each with its default
    target: str,
    *,
    server: Any = None,
    command: Sequence[str] | None = None,
    tls: bool | grpc.ChannelCredentials = False,
    options: Sequence[tuple[str, Any]] = (),
    start_timeout: float = _START_TIMEOUT,
    stream_replies: bool | None = None,
    cors: str | Sequence[str] | None = "*",
    services: Sequence[str] = (),
    base_path: str = "",
    duplex: Allowed = True,
) -> Forwarder:
    """Return a Lambda handler that sends calls to the gRPC server at `target`, and their replies back: messages,
    metadata, status and all.

    target: `HOST:PORT`, `grpcs://HOST:PORT` for TLS, or `unix:PATH`. `{pid}` in a path becomes the number of this
        process.
    server: a `grpc.server` or `grpc.aio.server` with its services added and not yet started. It is started at the
        target. The process's number joins the name of a Unix socket, because instances may share /tmp.
    command: a program to start there. `{socket}`, `{port}` and `{address}` in its arguments are filled in. Such a
        socket has the process's number in its name, and port 0 in the target becomes a free one. Its environment has
        GRPC_SERVER_ADDRESS, GRPC_SERVER_SOCKET and PORT. It is started at once. The first call waits until it accepts
        connections. If it has ended, the next call starts it again. What it writes goes to the function's log.
    tls: True, or credentials that say more (an authority, a client certificate).
    options: channel arguments of grpcio for the connection to the target.
    start_timeout: seconds that a started program may take until it accepts.
    stream_replies: as LambdaServer's. This module cannot know which methods stream, so None streams every reply if
        the runtime can. Use False for API Gateway and for a function URL with `BUFFERED`.
    cors: as LambdaServer's.
    services: names of services whose generated modules the function imports. JSON callers (Connect, REST by
        google.api.http) need their descriptors. gRPC, gRPC-Web and Connect in protobuf reach every service there is.
    base_path: as LambdaServer's.
    duplex: as LambdaServer's. The bytes of a call then pass unchanged between the bridge and the server. A target with
        TLS cannot be reached in that way.

    A connection that cannot be made is UNAVAILABLE, saying why. Raises ValueError for a target or a combination that
    makes no sense, OSError for a command that cannot be run, RuntimeError if `server` cannot listen at the target.
    """
    if server is not None and command is not None:
        raise ValueError("forward takes a server or a command, not both")
    where = parse(target, tls=tls)
    process = None
    closing: list[Callable[[], None]] = []
    if server is not None:
        from lambda_fn.forwarding.server import start
        from lambda_fn.forwarding.sockets import remove_leftovers

        remove_leftovers(where)
        where, stop = start(server, where.of_process(os.getpid()))
        closing.append(stop)
    elif command is not None:
        process = ServerProcess(command, where, start_timeout=start_timeout)
        where = process.target
        closing.append(process.close)
    else:
        where = _filled(where)
    channel = KeptChannel(where, options)
    return Forwarder(
        Upstream(channel, process),
        (channel.close, *closing),
        stream_replies=stream_replies,
        cors=cors,
        services=services,
        base_path=base_path,
        duplex=duplex,
    )


def _filled(where: Target) -> Target:
    return where.of_process(os.getpid()) if PID in where.address else where
