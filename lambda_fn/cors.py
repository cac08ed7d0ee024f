"""CORS (fetch.spec.whatwg.org, "HTTP CORS protocol"): the headers that a browser needs before a page of another origin
may call.

Nothing is allowed beyond what any other HTTP client can do: no cookies, no client certificates
(`Access-Control-Allow-Credentials` is never sent). A page has to bring its own token in a header.
"""

from __future__ import annotations

from collections.abc import Sequence

from lambda_fn.http import Headers, HttpReply, HttpRequest, plain_reply

_MAX_AGE = "7200"
"""Seconds that a browser keeps a preflight's answer: what Chromium keeps at most. Each preflight is an invocation."""

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"

# A page's script reads only the headers named to it.
_ALWAYS_EXPOSED = ("grpc-status", "grpc-message", "grpc-status-details-bin")


class Cors:
    """The origins whose pages may call."""

    def __init__(self, origins: str | Sequence[str]) -> None:
        """`*`: any; else origins as browsers write them, `https://app.example.com`. Raises ValueError for what is no
        origin.
        """
        listed = (origins,) if isinstance(origins, str) else tuple(origins)
        for origin in listed:
            scheme, separator, host = origin.partition("://")
            if origin != "*" and (not scheme or not separator or not host or "/" in host):
                raise ValueError(f'{origin!r} is no origin; say "*" or "https://app.example.com"')
        self._takes_any = "*" in listed
        self._origins = frozenset(listed)

    def preflight(self, request: HttpRequest) -> HttpReply | None:
        """Return the answer to a browser's preflight request, or None for any other request."""
        if request.method != "OPTIONS" or not request.header("access-control-request-method"):
            return None
        origin = request.header("origin")
        if origin is None:
            return None
        if not self._allows(origin):
            return plain_reply(403, "pages of this origin may not call this function")
        # Echoed: with metadata any name may be among them.
        asked = request.header("access-control-request-headers")
        allowed = (("access-control-allow-headers", asked),) if asked else ()
        return HttpReply(
            204,
            (
                *self._allowing(origin),
                ("access-control-allow-methods", _METHODS),
                *allowed,
                ("access-control-max-age", _MAX_AGE),
            ),
        )

    def headers(self, request: HttpRequest, reply: HttpReply) -> Headers:
        """Return what to add to the reply to a call."""
        origin = request.header("origin")
        if origin is None or not self._allows(origin):
            return ()
        exposed = dict.fromkeys((*_ALWAYS_EXPOSED, *(name for name, _ in reply.headers)))
        return (
            *self._allowing(origin),
            ("access-control-expose-headers", ", ".join(exposed)),
        )

    def _allowing(self, origin: str) -> Headers:
        if self._takes_any:
            return (("access-control-allow-origin", "*"),)
        # A cache must not give one origin's answer to another.
        return (("access-control-allow-origin", origin), ("vary", "origin"))

    def _allows(self, origin: str) -> bool:
        return self._takes_any or origin in self._origins
