"""What the body of a call looks like to a backend: payload formats in and out of response events. Pure: no I/O, no
clock.

gRPC says "codec" for the message format; here it is the format of the whole body around the messages.
"""
