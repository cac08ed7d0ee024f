"""dev.Ping: the same method by gRPC and by `GET /v1/ping`, with an interceptor that logs both (see ping.proto).

curl https://….lambda-url.eu-west-1.on.aws/v1/ping
grpcurl -plaintext localhost:50051 dev.Ping/Send
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import grpc

from lambda_fn import LambdaServer
from lambda_fn.examples import ping_pb2, ping_pb2_grpc

_logger = logging.getLogger("ping")
if not _logger.handlers:
    # To stderr, which Lambda keeps as the function's log, whatever the runtime set up before.
    _logger.addHandler(logging.StreamHandler(sys.stderr))
    _logger.setLevel(logging.INFO)
    _logger.propagate = False


class LoggingInterceptor(grpc.ServerInterceptor):
    """One line a call: its method, whoever called and however."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        caller = dict(handler_call_details.invocation_metadata).get("user-agent", "-")
        _logger.info("call of %s by %s", handler_call_details.method, caller)
        return continuation(handler_call_details)


class Ping(ping_pb2_grpc.PingServicer):
    def Send(self, request: ping_pb2.PingRequest, context: grpc.ServicerContext) -> ping_pb2.PingReply:
        return ping_pb2.PingReply(message=request.message or "pong")


server = LambdaServer(interceptors=[LoggingInterceptor()])
ping_pb2_grpc.add_PingServicer_to_server(Ping(), server)
handler = server.handler

if __name__ == "__main__":
    server.serve("0.0.0.0:50051")
