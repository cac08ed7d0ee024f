"""Call a LambdaServer from tests with grpcio's own client. No AWS account, no bridge and no process is needed.

    from lambda_fn.testing import channel

    def test_hello() -> None:
        with channel(app.server) as ch:
            reply = GreeterStub(ch).SayHello(HelloRequest(name="world"), timeout=1)

The channel is a real `grpc.Channel` (`aio_channel`: a real `grpc.aio.Channel`). So stubs, call objects, futures,
metadata, deadlines, cancellation and interceptors are grpcio's. Each call becomes an event of Lambda, as the bridge or
another front end writes it. The server's handler answers the event in this process. The reply becomes the call's
messages, metadata and status.

As on Lambda, a function gets all requests of a call at once. A caller that waits for a reply before it has sent its
last request gets UNIMPLEMENTED. A caller that cancels stops waiting, and the function runs on.

`lambda_fn.testing.pytest` has pytest fixtures. pytest loads that module in every run, so names here are imported when
they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lambda_fn.testing.channels import aio_channel, channel
    from lambda_fn.testing.events import EventName
    from lambda_fn.testing.function import LambdaHandler
    from lambda_fn.testing.protocols import ProtocolName

__all__ = ["EventName", "LambdaHandler", "ProtocolName", "aio_channel", "channel"]

_MODULES = {
    "aio_channel": "channels",
    "channel": "channels",
    "EventName": "events",
    "LambdaHandler": "function",
    "ProtocolName": "protocols",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
