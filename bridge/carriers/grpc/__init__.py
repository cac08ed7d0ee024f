"""Native gRPC: the carrier to one server, its calls, and how their responses are read."""
