"""The HTTP/2 client for native gRPC targets."""
