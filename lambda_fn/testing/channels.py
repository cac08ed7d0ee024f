"""Channels to a function: the context managers of `lambda_fn.testing`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import grpc

from lambda_fn.server import LambdaServer
from lambda_fn.testing.events import EventName
from lambda_fn.testing.front import Front
from lambda_fn.testing.function import Function, LambdaHandler
from lambda_fn.testing.protocols import ProtocolName

_LOCAL: tuple[tuple[str, Any], ...] = (
    # Channels to one address would share a connection, and so a closed one would live on.
    ("grpc.use_local_subchannel_pool", 1),
)


@contextmanager
def channel(
    server: LambdaServer | LambdaHandler,
    *,
    event: EventName = "http-v2",
    protocol: ProtocolName = "grpc-web",
    time_limit: float = 30.0,
    streams_replies: bool = True,
    half_close: float = 10.0,
    options: Sequence[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
) -> Iterator[grpc.Channel]:
    """Open a channel whose calls the server answers through Lambda's events. It is closed when the block ends.

    server: a LambdaServer, or any handler `(event, context)` that answers one of the protocols, such as that of
        `lambda_fn.forward`. The server itself stays open: a module keeps one for all tests.
    event: the shape of the events: `http-v2` (the bridge, function URLs, HTTP APIs), `http-v1` (REST APIs) or `alb`
        (load balancers).
    protocol: what the event's body speaks. `grpc-web`, `grpc-web-text` (base64), `grpc-web+json`, `connect` and
        `connect+json`. JSON needs generated code that has been imported.
    time_limit: the function's timeout on Lambda, in seconds. LambdaServer ends a call with DEADLINE_EXCEEDED half a
        second before.
    streams_replies: whether the runtime can stream replies. `lambda_fn.runtime` can, and AWS's Python runtime cannot.
    half_close: seconds. A caller that sends a request and then nothing for so long ends UNIMPLEMENTED, because it
        waits for a reply that a function cannot give yet. The bridge's key of this name does the same.
    options, compression: those of `grpc.insecure_channel`.

    Raises ValueError for an unknown event or protocol.
    """
    function = Function.of(server, event, protocol, time_limit=time_limit, streams_replies=streams_replies)
    with (
        closing(Front(function, half_close=half_close)) as front,
        grpc.insecure_channel(front.address, (*_LOCAL, *options), compression) as opened,
    ):
        yield opened


@asynccontextmanager
async def aio_channel(  # noqa: PLR0913 - options by keyword, each with its default
    server: LambdaServer | LambdaHandler,
    *,
    event: EventName = "http-v2",
    protocol: ProtocolName = "grpc-web",
    time_limit: float = 30.0,
    streams_replies: bool = True,
    half_close: float = 10.0,
    options: Sequence[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> AsyncIterator[grpc.aio.Channel]:
    """Open the same for asyncio. `interceptors` are those of `grpc.aio.insecure_channel`; see `channel` for the
    others.

    Raises ValueError for an unknown event or protocol.
    """
    with unclosed_aio_channel(
        server,
        event=event,
        protocol=protocol,
        time_limit=time_limit,
        streams_replies=streams_replies,
        half_close=half_close,
        options=options,
        compression=compression,
        interceptors=interceptors,
    ) as opened:
        async with opened:
            yield opened


@contextmanager
def unclosed_aio_channel(  # noqa: PLR0913 - see aio_channel
    server: LambdaServer | LambdaHandler,
    *,
    event: EventName = "http-v2",
    protocol: ProtocolName = "grpc-web",
    time_limit: float = 30.0,
    streams_replies: bool = True,
    half_close: float = 10.0,
    options: Sequence[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> Iterator[grpc.aio.Channel]:
    """Open the same, and leave its closing to the caller: only a coroutine can close a channel of grpc.aio. Its calls
    end with the block.
    """
    function = Function.of(server, event, protocol, time_limit=time_limit, streams_replies=streams_replies)
    with closing(Front(function, half_close=half_close)) as front:
        yield grpc.aio.insecure_channel(front.address, (*_LOCAL, *options), compression, interceptors)
