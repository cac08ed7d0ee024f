"""The order to connect, as the bridge writes it into an event.

It stands under a top-level key of the event. Function URLs, API Gateway and load balancers write these keys themselves,
so a caller cannot set one. Headers, path and body of a request never count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import ipaddress

KEY = "grpcLambdaBridgeDuplex"
VERSION = 1

_MAX_ATTACH_SECONDS = 900.0
_MAX_CALLS = 1000
_token = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch
"""base64url of 32 bytes without its padding (RFC 4648 5)."""
_address = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253})):(?P<port>[0-9]{1,5})").fullmatch


class BadOrder(Exception):
    """The order cannot be followed. `str` says why."""


class Order(NamedTuple):
    """Where to connect, and how."""

    host: str
    port: int
    token: str
    """A secret: it is never logged."""
    uses_tls: bool
    certificate: str | None
    """PEM. The bridge must show exactly this certificate. None: one that the system's authorities vouch for."""
    server_name: str
    """The name in a certificate that the system's authorities vouch for."""
    attach_seconds: float
    """The connection must stand within this time."""
    calls: int
    """Calls that the bridge sends over the connection at once."""

    def __repr__(self) -> str:
        return f"Order({self.host}:{self.port})"

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_order(event: object) -> bool:
    """Whether the event asks the function to connect."""
    return isinstance(event, Mapping) and KEY in event


def read_order(event: Mapping[str, Any]) -> Order:
    """Return the order in an event that has one. Raises BadOrder."""
    order = event[KEY]
    if not isinstance(order, Mapping):
        raise BadOrder("it is not an object")
    if order.get("version") != VERSION:
        raise BadOrder(f"version {str(order.get('version'))[:20]} is not {VERSION}: update grpc-lambda-fn")
    address = _address(_text(order, "address"))
    if address is None or not 0 < int(address["port"]) < 65536:
        raise BadOrder("address is not HOST:PORT")
    token = _text(order, "token")
    if not _token(token):
        raise BadOrder("the token is not 43 characters of base64url")
    tls = order.get("tls")
    if tls is not None and not isinstance(tls, Mapping):
        raise BadOrder("tls is neither an object nor null")
    host = address["v6"] or address["host"]
    return Order(
        host=host,
        port=int(address["port"]),
        token=token,
        uses_tls=tls is not None,
        certificate=_certificate(tls),
        server_name=host if tls is None or not tls.get("serverName") else _text(tls, "serverName"),
        attach_seconds=_number(order, "attachSeconds", _MAX_ATTACH_SECONDS),
        calls=int(_number(order, "calls", _MAX_CALLS)),
    )


def _certificate(tls: Mapping[str, Any] | None) -> str | None:
    if tls is None or tls.get("system") is True:
        return None
    return _text(tls, "certificate")


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise BadOrder(f"{name} is not a text")
    return value


def _number(found: Mapping[str, Any], name: str, most: float) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise BadOrder(f"{name} is not a number above 0 and up to {most:g}")
    return value


# -- who may order -----------------------------------------------------------------------------------------------------

Allowed = bool | Sequence[str]
"""Whether orders are followed, or the networks in which the bridge may be, such as `["10.0.0.0/8"]`."""


def networks(allowed: Allowed) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] | None:
    """Return the networks that are allowed, None for any. Raises ValueError, TypeError."""
    if isinstance(allowed, bool):
        return None
    if isinstance(allowed, str):
        raise TypeError(f'duplex takes True, False or a list of networks such as ["10.0.0.0/8"], not {allowed!r}')
    import ipaddress  # slow to load, and most functions name no networks

    return tuple(ipaddress.ip_network(each) for each in allowed)
