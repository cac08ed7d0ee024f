"""The function of the example templates: the Greeter, whose replies leave while they are made.

Its URL has `InvokeMode: RESPONSE_STREAM`, which reads the streamed form only; the bridge reads either.
"""

from lambda_fn import LambdaServer
from lambda_fn.examples import helloworld_pb2_grpc
from lambda_fn.examples.greeter import Greeter

server = LambdaServer(stream_replies=True)
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = server.handler
