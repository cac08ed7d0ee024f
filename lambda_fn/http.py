"""HTTP as Lambda's events carry it: one request, one reply, whatever the shape of the event."""

from __future__ import annotations

from typing import NamedTuple

Headers = tuple[tuple[str, str], ...]
"""Names in lower case, in the order sent; a name may repeat."""


class Certificate(NamedTuple):
    """A client certificate that the front end verified."""

    pem: str
    subject: str
    """The subject's distinguished name, `CN=…,O=…`."""


class Peer(NamedTuple):
    """Who calls."""

    address: str = ""
    """An IP address, `unix`, or empty if the event does not say."""
    certificate: Certificate | None = None


class HttpRequest(NamedTuple):
    """An HTTP request as a front end gave it to the function, whatever the event's shape."""

    method: str
    path: str
    headers: Headers
    body: bytes
    peer: Peer
    sent_at: float | None = None
    """When the front end took the request: seconds since the epoch."""
    query_string: str = ""
    """As sent: percent-encoded, without the question mark."""
    paths: tuple[str, ...] = ()
    """What the path may be behind a base path or a stage, the likeliest first; empty: `path`. Percent-encoded, as that
    is.
    """
    takes_streams: bool = False
    """Whether a streamed reply is as welcome as one in JSON. AWS's front ends take one and don't say which."""

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """The query's names and values, decoded, in the order sent. Raises Refused for what is not encoded text."""
        if not self.query_string:
            return ()
        from lambda_fn.percent import utf8_pairs_in

        return utf8_pairs_in(self.query_string)

    def behind(self, base_path: str) -> HttpRequest:
        """Return the request as what is mounted at `base_path` sees it."""
        paths = self.paths or (self.path,)
        inner = [path[len(base_path) :] for path in paths if path.startswith(f"{base_path}/")]
        return self._replace(paths=(*inner, *paths))

    def header(self, name: str) -> str | None:
        """Return the first value under this name."""
        return next((value for key, value in self.headers if key == name), None)


class HttpReply(NamedTuple):
    """An HTTP reply that is whole."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    is_text: bool = False
    """The body is ASCII and travels as it is; otherwise as base64."""


def plain_reply(status: int, text: str, *, headers: Headers = ()) -> HttpReply:
    """Return a reply for people: a sentence. What of it is not ASCII is escaped: it may quote the request."""
    return HttpReply(
        status,
        (("content-type", "text/plain; charset=utf-8"), *headers),
        f"{text}\n".encode("ascii", "backslashreplace"),
        is_text=True,
    )
