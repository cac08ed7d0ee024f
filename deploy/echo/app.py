"""The function of the example templates whose calls stream in both directions: dev.Echo."""

from lambda_fn import LambdaServer
from lambda_fn.examples import echo_pb2_grpc
from lambda_fn.examples.echo import Echo

server = LambdaServer(stream_replies=True)
echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
handler = server.handler
