"""Where a request goes: scheme, host and port, and how they are written."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from bridge.rpc.value import Value

_VISIBLE = re.compile(r"[!-~]+").fullmatch
_HOST = re.compile(r"[A-Za-z0-9._:%-]*").fullmatch

_DEFAULT_PORT = {"http": 80, "https": 443}


class Origin(Value, frozen=True):
    """One server, as RFC 6454 names it."""

    scheme: str
    """`http` or `https`; `grpc` or `grpcs` for a native gRPC server."""
    host: str
    """A name or an address; an IPv6 address without brackets."""
    port: int

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("https", "grpcs")

    @property
    def is_tunnelled(self) -> bool:
        """Whether a proxy is asked to pass on bytes: all but plain HTTP, whose requests a proxy reads itself."""
        return self.scheme != "http"

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self._bracketed}:{self.port}"

    @property
    def authority(self) -> str:
        """As `Host` carries it: the port only if the scheme does not imply it."""
        return self._bracketed if self.port == _DEFAULT_PORT.get(self.scheme) else self.address

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_url(url: str) -> tuple[Origin, str]:
    """The origin of an http or https URL, and its path without a slash at the end. Raises ValueError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # urllib quotes what it cannot read, which may be part of a password.
        raise ValueError(f"{_without_user(url)!r} is not a URL that can be read") from None
    if not _VISIBLE(url) or not _HOST(parts.hostname or ""):
        # Host and path become part of a request's head. urllib drops line breaks without a word.
        raise ValueError(f"{_without_user(url)!r} holds a character that no URL may have")
    if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
        raise ValueError(f"{_without_user(url)!r} is not an http:// or https:// URL")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{_without_user(url)!r} may have a host, a port and a path only")
    if port is None:
        port = _DEFAULT_PORT[parts.scheme]
    return Origin(parts.scheme, parts.hostname, port), parts.path.rstrip("/")


def _without_user(url: str) -> str:
    """The URL as a message may quote it: a password could stand before the `@`, a key after the `?`."""
    scheme, colon, rest = url.partition("//")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}".partition("?")[0]
