"""Where a request goes: an origin (scheme, host and port), a URL, and how they are written and read."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from bridge.rpc.value import FrozenValue

_VISIBLE = re.compile(r"[!-\[\]-~]+").fullmatch
"""ASCII without what RFC 3986 never allows: spaces, control characters and the backslash."""
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?").fullmatch

_DEFAULT_PORT = {"http": 80, "https": 443}


class Origin(FrozenValue, frozen=True):
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


class ConnectTo(FrozenValue, frozen=True):
    """Where connections to an origin lead instead: `HOST` or `HOST:PORT`. The origin keeps its name in every other
    respect.
    """

    host: str
    port: int | None = None
    """None: that of the origin."""

    def instead_of(self, origin: Origin) -> Origin:
        """Return the server to connect to. Proxies pass on bytes to it, even for plain HTTP: its name is not that of
        the origin, which a proxy would look for.
        """
        scheme = "https" if origin.scheme == "http" else origin.scheme
        return Origin(scheme, self.host, self.port or origin.port)


class Url(FrozenValue, frozen=True):
    """What the bridge may be given as a URL: an http or https origin, and what paths there begin with."""

    origin: Origin
    prefix: str = ""
    """The path, without a slash at its end."""

    @classmethod
    def parse(cls, text: str, *, quoted: str | None = None) -> Url:
        """Read a URL without credentials, query and fragment (RFC 3986). Raises ValueError.

        `quoted` is how messages name the text; None: the text itself, without what may be secret.
        """
        named = quoted or repr(_without_secrets(text))
        scheme, colon, _ = text.partition("://")
        scheme = scheme.lower()
        if not colon or scheme not in _DEFAULT_PORT:
            raise ValueError(f"expected http:// or https://, found {named}")
        if not _VISIBLE(text):
            # Host and path become part of a request's head. urllib drops line breaks without a word.
            raise ValueError("a URL holds no spaces, control characters or letters beyond ASCII")
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            # urllib quotes what it cannot read, which may be part of a password.
            raise ValueError(f"not a URL: {named}") from None
        if parts.username is not None:
            raise ValueError("a URL here holds no credentials; use headers or auth")
        if "?" in text or "#" in text:
            raise ValueError(f"a URL here ends with its path, without ? and #, found {named}")
        if not host or not (is_ipv6(host) if ":" in host else is_host(host)):
            raise ValueError(f"expected a host name or IP address in {named}")
        if port == 0:
            raise ValueError(f"expected a port from 1 to 65535 in {named}")
        return cls(Origin(scheme, host, port or _DEFAULT_PORT[scheme]), parts.path.rstrip("/"))

    def __str__(self) -> str:
        return f"{self.origin}{self.prefix}"


def is_host(name: str) -> bool:
    """Whether this is a host name or an IPv4 address."""
    if name.replace(".", "").isdigit():
        try:
            ip_address(name)
        except ValueError:
            return False
        return True
    return is_host_name(name)


def is_host_name(name: str) -> bool:
    """Whether this has the form of a host name. An IPv4 address has it, too."""
    return _HOST_NAME(name) is not None


def is_ipv6(name: str) -> bool:
    """Whether this is an IPv6 address, without brackets."""
    try:
        IPv6Address(name)
    except ValueError:
        return False
    return True


def _without_secrets(url: str) -> str:
    """Return the URL as a message may quote it: a password may stand before `@`, a key behind `?` or `#`."""
    scheme, colon, rest = url.partition("//")
    return re.split(r"[?#]", f"{scheme}{colon}{rest.rpartition('@')[2]}")[0]
