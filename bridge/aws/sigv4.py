"""AWS Signature Version 4: the headers that prove who sends a request.

In: the request's parts as they will be sent, the SHA-256 of its body, and the time. Out: the headers to add, or the
whole request head. It never sees the body and never asks for the time. For every service but S3 (whose path rules
differ).

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

What stays the same is computed once: the key for a day, and everything but the body's hash for a second. One signature
then costs three hashes of short strings.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from bridge.rpc.value import FrozenValue

if TYPE_CHECKING:
    from _hashlib import HASH

ALGORITHM = "AWS4-HMAC-SHA256"

# RFC 2104: the key is xored with these before the inner and the outer hash, whose block has 64 bytes.
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_BLOCK_SIZE = 64

HeaderPairs = tuple[tuple[str, str], ...]
"""HTTP header fields; names in any case."""


class Credentials(FrozenValue, frozen=True):
    """Who signs."""

    access_key: str
    secret_key: str
    token: str = ""
    """The session token of temporary credentials; empty: none."""
    expires_at: float | None = None
    """Unix seconds; None: they do not expire, or nobody said when."""

    def __repr__(self) -> str:
        return f"Credentials(<hidden>, expires_at={self.expires_at!r})"


def payload_hash(body: bytes) -> str:
    """Return the form in which a body enters its signature. About 0.5 ms a MiB."""
    return sha256(body).hexdigest()


class SigningKey:
    """One credential for one region and service; the key itself is derived anew each UTC day."""

    __slots__ = ("_day", "_inner", "_outer", "credentials", "region", "service")

    def __init__(self, credentials: Credentials, *, region: str, service: str) -> None:
        self.credentials = credentials
        self.region = region
        self.service = service
        self._day = ""
        self._inner = sha256()
        self._outer = sha256()

    def scope(self, day: str) -> str:
        """`20150830/us-east-1/lambda/aws4_request`."""
        return f"{day}/{self.region}/{self.service}/aws4_request"

    def begin(self, day: str) -> tuple[HASH, HASH]:
        """HMAC's inner and outer hash, begun with the key of this day (`YYYYMMDD`); the caller copies them."""
        if day != self._day:
            key = f"AWS4{self.credentials.secret_key}".encode()
            for part in (day, self.region, self.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            block = key.ljust(_BLOCK_SIZE, b"\0")
            self._inner = sha256(block.translate(_INNER_PAD))
            self._outer = sha256(block.translate(_OUTER_PAD))
            self._day = day
        return self._inner, self._outer


class RequestSigner:
    """Signs requests that differ only in their body and time."""

    __slots__ = (
        "_authorization",
        "_begun_canonical",
        "_begun_inner",
        "_begun_outer",
        "_canonical_start",
        "_fields",
        "_head_start",
        "_key",
        "_request_line",
        "_second",
        "_stamp",
        "_unsigned",
    )

    def __init__(
        self,
        key: SigningKey,
        *,
        method: str,
        path: str,
        query: str = "",
        headers: HeaderPairs,
        unsigned: HeaderPairs = (),
    ) -> None:
        """`headers`, with `host` among them, are all signed; `unsigned` only travel along in `head`.

        `path` and `query` are given as they are sent, percent-encoded. The date and the session token are added here.
        """
        self._key = key
        self._request_line = f"{method} {path}{'?' if query else ''}{query} HTTP/1.1\r\n"
        self._canonical_start = f"{method}\n{canonical_path(path)}\n{canonical_query(query)}\n"
        token = key.credentials.token
        self._fields = (*headers, ("x-amz-security-token", token)) if token else headers
        self._unsigned = unsigned
        self._turn(0)

    def head(self, payload_hash: str, length: int, now: float) -> bytes:
        """Return the signed request head for a body of `length` bytes. `now`: Unix seconds, as AWS counts them."""
        signature = self.signature(payload_hash, now)
        return b"%b%b\r\ncontent-length: %d\r\n\r\n" % (self._head_start, signature, length)

    def headers_to_add(self, payload_hash: str, now: float) -> HeaderPairs:
        """Return what the given headers lack: the date, the session token if there is one, the authorization."""
        signature = self.signature(payload_hash, now).decode("ascii")
        token = self._key.credentials.token
        return (
            ("x-amz-date", self._stamp),
            *((("x-amz-security-token", token),) if token else ()),
            ("authorization", self._authorization + signature),
        )

    def signature(self, payload_hash: str, now: float) -> bytes:
        """64 hexadecimal digits."""
        if int(now) != self._second:
            self._turn(int(now))
        canonical, inner, outer = (
            self._begun_canonical.copy(),
            self._begun_inner.copy(),
            self._begun_outer.copy(),
        )
        canonical.update(payload_hash.encode())
        inner.update(canonical.hexdigest().encode())
        outer.update(inner.digest())
        return outer.hexdigest().encode()

    def _turn(self, second: int) -> None:
        """Prepare all that stays the same within this second."""
        stamp = datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")
        day = stamp[:8]
        scope = self._key.scope(day)
        fields = (*self._fields, ("x-amz-date", stamp))
        canonical_fields, names = canonical_headers(fields)
        self._begun_canonical = sha256(f"{self._canonical_start}{canonical_fields}\n{names}\n".encode())
        inner, self._begun_outer = self._key.begin(day)
        self._begun_inner = inner.copy()
        self._begun_inner.update(f"{ALGORITHM}\n{stamp}\n{scope}\n".encode())
        self._authorization = (
            f"{ALGORITHM} Credential={self._key.credentials.access_key}/{scope}, SignedHeaders={names}, Signature="
        )
        lines = [f"{name}: {value}\r\n" for name, value in (*fields, *self._unsigned)]
        self._head_start = f"{self._request_line}{''.join(lines)}authorization: {self._authorization}".encode()
        self._stamp = stamp
        self._second = second


def canonical_path(path: str) -> str:
    """Return the path without empty, `.` and `..` segments, percent-encoded once more than it is sent."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    if not segments:
        return "/"
    end = "/" if path.endswith("/") else ""
    return quote(f"/{'/'.join(segments)}{end}", safe="/~")


def canonical_query(query: str) -> str:
    """Return the parameters, encoded as they are sent, sorted by name and then by value."""
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)


def canonical_headers(headers: HeaderPairs) -> tuple[str, str]:
    """Return the fields, one a line, sorted by name, their spaces folded; and the list of their names."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower().strip(), []).append(" ".join(value.split()))
    names = sorted(values)
    lines = "".join(f"{name}:{','.join(values[name])}\n" for name in names)
    return lines, ";".join(names)
