"""dev.Echo as a LambdaServer, under whatever service name the bridge calls it by."""

from __future__ import annotations

from typing import Any

from lambda_fn import LambdaServer
from lambda_fn.examples import echo_pb2_grpc
from lambda_fn.examples.echo import Echo


def handler_of(server: LambdaServer) -> Any:
    """Calls for `/any.Name/Method` go to `/dev.Echo/Method`."""
    echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)

    def handler(event: dict[str, Any], context: Any) -> Any:
        key = "rawPath" if "rawPath" in event else "path"
        event[key] = "/dev.Echo/" + event[key].rpartition("/")[2]
        return server.handler(event, context)

    return handler


usual = handler_of(LambdaServer())
whole = handler_of(LambdaServer(stream_replies=False))
streamed = handler_of(LambdaServer(stream_replies=True))
