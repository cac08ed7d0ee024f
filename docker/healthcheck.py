"""Whether the bridge of this container is alive: exit code 0 if its /healthz answers 200, else 1 and the reason.

The image's HEALTHCHECK. BRIDGE_ADMIN says where to ask; an address that stands for all of them is asked on loopback. A
bridge without an admin port cannot be asked and counts as alive.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
TIMEOUT = 3.0
"""Seconds; below the timeout of the HEALTHCHECK, so that there is a reason to read."""


def trouble(address: str) -> str | None:
    """Return what is wrong with the bridge whose admin port is at `address`, or None if nothing is."""
    if address == "null":
        return None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    # Not urllib: it would ask by way of HTTP_PROXY.
    connection = HTTPConnection(LOOPBACK.get(host, host), int(port), timeout=TIMEOUT)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"nobody answers on {address}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"/healthz on {address} answers {status}"


if __name__ == "__main__":
    sys.exit(trouble(os.environ.get("BRIDGE_ADMIN") or "127.0.0.1:9901"))
