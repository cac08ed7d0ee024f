"""Full duplex with a function: it is invoked with an order to connect, and calls go to it over that connection.

order        the event that asks the function to connect
certificate  the key and the certificate that the function accepts
rendezvous   the listener: takes connections of functions and knows them by their tokens
instances    the attached instances of one function: which takes the next call, and when another is invoked
carrier      calls over them, as to any native gRPC server
"""
