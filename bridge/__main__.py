"""`python -m bridge` is `grpc-lambda-bridge`."""

from bridge.cli import main

raise SystemExit(main())
