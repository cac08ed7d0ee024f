"""Full duplex with a function: it is invoked with an order to connect, and calls go to it over that connection.

order        the event that asks the function to connect
certificate  the key and the certificate that the function accepts
rendezvous   the listener: takes connections of functions and knows them by their tokens
attaching    invokes the function and waits for its connection
attached     the instances that have connected: the room of each for calls, and its end
instances    gives each call an instance, and decides when another one is invoked
carrier      calls over them, as to any native gRPC server
"""
