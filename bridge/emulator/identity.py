"""Makes the request id and the trace id of a request to the local Lambda."""

from __future__ import annotations

import secrets
import time

from aiohttp import web

REQUEST_ID_KEY = web.RequestKey("request_id", str)
MAX_TRACE_ID = 1024


def trace_id_of(request: web.Request) -> str:
    """Return the client's trace id, or a new one that is not sampled."""
    given = request.headers.get("X-Amzn-Trace-Id", "")
    if given.startswith("Root=") and len(given) <= MAX_TRACE_ID and given.isascii() and given.isprintable():
        return given
    # AWS X-Ray's form: the wall clock in hex, then a random number.
    now = int(time.time())  # noqa: TID251 - see above
    return f"Root=1-{now:08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"
