"""A proxy that lets unmodified gRPC clients call AWS Lambda functions. ARCHITECTURE.md has the picture."""
