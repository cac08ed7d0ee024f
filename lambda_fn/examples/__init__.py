"""Two services to try the bridge with: greeter, the one of the gRPC tutorials, and echo, which shows what a call can
carry.
"""
