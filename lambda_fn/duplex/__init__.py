"""Full duplex: the function connects to the bridge, and calls come in over that connection as HTTP/2.

The bridge invokes the function with an order to connect. The invocation lasts as long as the connection:

    order       what the event asks for
    connection  opens the connection to the bridge and says who the function is
    copying     copies bytes between that connection and a gRPC server in this function
    facts       what the bridge tells about a call, for the servicer's context
    local       the grpcio server with LambdaServer's servicers
    endpoint    answers the order
"""
