"""The Greeter of the gRPC tutorials, inside Lambda.

On a laptop: `make run`, then call localhost:50051. Without the bridge: `python -m lambda_fn.examples.greeter` serves
plain gRPC there.
"""

from collections.abc import Iterator

import grpc

from lambda_fn import LambdaServer
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def SayHello(
        self, request: helloworld_pb2.HelloRequest, context: grpc.ServicerContext
    ) -> helloworld_pb2.HelloReply:
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

    def SayHelloStreamReply(
        self, request: helloworld_pb2.HelloRequest, context: grpc.ServicerContext
    ) -> Iterator[helloworld_pb2.HelloReply]:
        for number in range(10):
            yield helloworld_pb2.HelloReply(message=f"Hello number {number}, {request.name}!")

    def SayHelloToAll(
        self,
        request_iterator: Iterator[helloworld_pb2.HelloRequest],
        context: grpc.ServicerContext,
    ) -> helloworld_pb2.HelloReply:
        names = ", ".join(request.name for request in request_iterator)
        return helloworld_pb2.HelloReply(message=f"Hello, {names}!")

    def SayHelloBidiStream(
        self,
        request_iterator: Iterator[helloworld_pb2.HelloRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[helloworld_pb2.HelloReply]:
        for request in request_iterator:
            yield helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")


server = LambdaServer()
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = server.handler

if __name__ == "__main__":
    server.serve("0.0.0.0:50051")
