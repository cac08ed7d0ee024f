"""Ordinary generated gRPC servicers inside AWS Lambda.

    from lambda_fn import LambdaServer

    server = LambdaServer()                                        # in place of grpc.server(...)
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    handler = server.handler                                       # the Lambda handler

Names are imported when they are asked for: `python -m lambda_fn.runtime` passes through here and must not pay for grpc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lambda_fn.forwarding import forward
    from lambda_fn.server import LambdaServer
    from lambda_fn.streaming import StreamingReply

__all__ = ["LambdaServer", "StreamingReply", "forward"]

_LAST_RELEASE = "0.1.0"
"""The version where no installed package says it, as in a function's zip. A release changes it before its tag."""


def __getattr__(name: str) -> object:
    if name == "LambdaServer":
        from lambda_fn.server import LambdaServer

        return LambdaServer
    if name == "StreamingReply":
        from lambda_fn.streaming import StreamingReply

        return StreamingReply
    if name == "forward":
        from lambda_fn.forwarding import forward

        return forward
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("grpc-lambda-fn")
        except PackageNotFoundError:
            return f"{_LAST_RELEASE}+local"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
