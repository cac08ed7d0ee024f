"""A well-behaved client on a connection of its own: one small call at a time, at a steady pace, each timed.

It runs as a process of its own, so that the attacker's work does not count as the proxy's delay. Its clock starts when
a call is due, not when it is sent: a call that waits for the one before it has waited, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass, field

import grpc
import grpc.aio

PACE = 50.0
"""Calls a second."""
PATIENCE = 10.0
"""Seconds after which a call has failed."""
MESSAGE = b"\n\x05world"


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the calls took, in seconds; those that failed count with the time until they did."""

    seconds: list[float]
    failed: int
    ended_at: list[float] = field(default_factory=list)
    """When each of them ended, on the machine's monotonic clock."""

    def ended_within(self, begin: float, end: float) -> int:
        """How many calls ended in this time."""
        return sum(begin <= at < end for at in self.ended_at)

    def percentile(self, part: float) -> float:
        """In seconds; infinite where nothing was called."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("inf")


async def call_steadily(address: str, path: str, seconds: float, *, authority: bytes | None = None) -> Waits:
    """`authority`: the PEM that signed the server's certificate; None: plain TCP."""
    waits: list[float] = []
    ended_at: list[float] = []
    failed = 0
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    if authority is None:
        channel = grpc.aio.insecure_channel(address, options)
    else:
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority), options)
    async with channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        await call(MESSAGE, timeout=PATIENCE, wait_for_ready=True)
        began = time.monotonic()
        due = began
        while due < began + seconds:
            await asyncio.sleep(due - time.monotonic())
            try:
                await call(MESSAGE, timeout=PATIENCE)
            except grpc.RpcError:
                failed += 1
            now = time.monotonic()
            waits.append(now - due)
            ended_at.append(now)
            due = max(due + 1 / PACE, now - 1.0)  # after a long stall it does not make up for all of it
    return Waits(waits, failed, ended_at)


def main() -> None:
    """Prints the waits as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile.neighbour", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("path")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--authority", type=argparse.FileType("rb"))
    chosen = parser.parse_args()
    pem = chosen.authority.read() if chosen.authority else None
    waits = asyncio.run(call_steadily(chosen.address, chosen.path, chosen.seconds, authority=pem))
    print(json.dumps(asdict(waits)))


if __name__ == "__main__":
    main()
