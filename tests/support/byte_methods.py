"""Methods of a grpcio channel that take and give messages as bytes: `channel.unary_unary(path)` with its types."""

from __future__ import annotations

from typing import Any, overload

import grpc
from grpc import aio


@overload
def unary_unary(channel: grpc.Channel, path: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]: ...
@overload
def unary_unary(channel: aio.Channel, path: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]: ...
def unary_unary(
    channel: grpc.Channel | aio.Channel, path: str
) -> grpc.UnaryUnaryMultiCallable[bytes, bytes] | aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(path)


@overload
def unary_stream(channel: grpc.Channel, path: str) -> grpc.UnaryStreamMultiCallable[bytes, bytes]: ...
@overload
def unary_stream(channel: aio.Channel, path: str) -> aio.UnaryStreamMultiCallable[bytes, bytes]: ...
def unary_stream(
    channel: grpc.Channel | aio.Channel, path: str
) -> grpc.UnaryStreamMultiCallable[bytes, bytes] | aio.UnaryStreamMultiCallable[bytes, bytes]:
    return channel.unary_stream(path)


@overload
def stream_unary(channel: grpc.Channel, path: str) -> grpc.StreamUnaryMultiCallable[bytes, bytes]: ...
@overload
def stream_unary(channel: aio.Channel, path: str) -> aio.StreamUnaryMultiCallable[bytes, bytes]: ...
def stream_unary(
    channel: grpc.Channel | aio.Channel, path: str
) -> grpc.StreamUnaryMultiCallable[bytes, bytes] | aio.StreamUnaryMultiCallable[bytes, bytes]:
    return channel.stream_unary(path)


@overload
def stream_stream(channel: grpc.Channel, path: str) -> grpc.StreamStreamMultiCallable[bytes, bytes]: ...
@overload
def stream_stream(channel: aio.Channel, path: str) -> aio.StreamStreamMultiCallable[bytes, bytes]: ...
def stream_stream(
    channel: grpc.Channel | aio.Channel, path: str
) -> grpc.StreamStreamMultiCallable[bytes, bytes] | aio.StreamStreamMultiCallable[bytes, bytes]:
    return channel.stream_stream(path)


def trailers_of(error: Any) -> dict[str, str | bytes]:
    """The trailing metadata of a failed call, by name."""
    return dict(error.trailing_metadata())
