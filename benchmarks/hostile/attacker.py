"""Runs one attack as a process of its own, and prints the bytes that it sent."""

from __future__ import annotations

import argparse
import asyncio
import ssl
from importlib import import_module


def main() -> None:
    """Prints a number."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile.attacker", description=__doc__)
    parser.add_argument("attack", help="a module of this folder")
    parser.add_argument("address", help="HOST:PORT, on this machine")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--authority", help="a PEM; the connection is TLS")
    chosen = parser.parse_args()
    host, _, port = chosen.address.rpartition(":")
    tls = None
    if chosen.authority:
        tls = ssl.create_default_context(cafile=chosen.authority)
        tls.set_alpn_protocols(["h2"])
    attack = import_module(f"benchmarks.hostile.{chosen.attack}").attack
    print(asyncio.run(attack(host, int(port), chosen.seconds, tls)))


if __name__ == "__main__":
    main()
