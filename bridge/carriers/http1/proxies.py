"""Chooses the proxy for an origin from HTTPS_PROXY, HTTP_PROXY, GRPC_PROXY, ALL_PROXY and NO_PROXY.

As in Go's net/http: loopback addresses and `localhost` are never reached through a proxy. The lower-case names win.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from bridge.rpc.url import Origin
from bridge.rpc.value import FrozenValue


class Proxy(FrozenValue, frozen=True):
    """One HTTP proxy."""

    host: str
    port: int
    authorization: str = ""
    """The value of Proxy-Authorization, or empty. It is secret."""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"

    def absolute_form(self, head: bytes, origin: Origin) -> bytes:
        """Return the head of a request for an http origin in the form for a proxy (RFC 9112 3.2.2)."""
        line, _, fields = head.partition(b"\r\n")
        method, _, target = line.partition(b" ")
        credentials = f"proxy-authorization: {self.authorization}\r\n" if self.authorization else ""
        return b"%b %b%b\r\n%b%b" % (
            method,
            str(origin).encode(),
            target,
            credentials.encode(),
            fields,
        )


class Proxies:
    """The proxies of HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, and the exceptions of NO_PROXY."""

    def __init__(self, by_scheme: Mapping[str, Proxy] | None = None, exceptions: tuple[str, ...] = ()) -> None:
        self._by_scheme = by_scheme or {}
        self._exceptions = exceptions

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Read the proxies from the environment. Raises ValueError for a proxy that is not
        `http://[USER:PASSWORD@]HOST[:PORT]`.
        """
        everything = _variable(environment, "all_proxy")
        by_scheme = {}
        for scheme in ("http", "https"):
            url = _variable(environment, f"{scheme}_proxy") or everything
            if url:
                by_scheme[scheme] = _parse_proxy(url, f"{scheme}_proxy".upper())
        # gRPC libraries use one proxy for all native servers, with or without TLS.
        for_grpc = _variable(environment, "grpc_proxy")
        named = _parse_proxy(for_grpc, "GRPC_PROXY") if for_grpc else None
        grpc_proxy = named or by_scheme.get("https") or by_scheme.get("http")
        if grpc_proxy is not None:
            by_scheme["grpc"] = by_scheme["grpcs"] = grpc_proxy
        exceptions = _variable(environment, "no_proxy").lower().split(",")
        return cls(by_scheme, tuple(entry.strip() for entry in exceptions if entry.strip()))

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Return the proxy for this origin, or None to connect directly."""
        proxy = self._by_scheme.get(origin.scheme)
        if proxy is None or _is_local(origin.host):
            return None
        if any(_covers(entry, origin) for entry in self._exceptions):
            return None
        return proxy


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper(), "")


def _parse_proxy(url: str, variable: str) -> Proxy:
    try:
        # curl and Go read a bare HOST:PORT as an HTTP proxy.
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme != "http":
        raise ValueError(
            f"{variable} must be http://[USER:PASSWORD@]HOST[:PORT]; what it is may be secret and is not shown"
        )
    authorization = ""
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(user.encode()).decode('ascii')}"
    return Proxy(host, port or 80, authorization)


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _covers(entry: str, origin: Origin) -> bool:
    """Whether an entry of NO_PROXY means this origin: `*`, a host and all below it, HOST:PORT, address, network."""
    if entry == "*":
        return True
    host = origin.host.lower()
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        pass  # not an address, or not a network: a name
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and "]" not in port:
        if int(port) != origin.port:
            return False
        entry = name.strip("[]")
    domain = entry.removeprefix("*").removeprefix(".")
    return host == domain or host.endswith(f".{domain}")
