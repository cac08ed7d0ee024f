"""The gRPC vocabulary: the values and rules everything else speaks in. Pure: no I/O, no clock, no logging."""
