"""What a bridge that serves does not load: each costs memory and time to start."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("grpc", "grpc_tools", "h2", "botocore", "aiohttp", "opentelemetry")

SERVING = (
    "bridge.commands.serve",
    "bridge.commands.worker",
    "bridge.app",
    "bridge.targets.builder",
    "bridge.carriers.grpc.carrier",
)


def test_serving_loads_no_heavy_library() -> None:
    """Native targets among it: grpcio is for the command `call`."""
    program = f"import sys, {', '.join(SERVING)}; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == found.stdout.strip()
