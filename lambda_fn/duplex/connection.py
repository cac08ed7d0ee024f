"""Opens the connection to the bridge and says who the function is."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence

from lambda_fn.duplex.order import Order

_LINE = "GLB1 {token} {request_id} {remaining}\n"
"""The first line of the connection: the token, the invocation's request id, and the milliseconds that it has left."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class CannotAttach(Exception):
    """The connection does not stand. `str` says why, in a short form for the bridge and the log."""


def connect(order: Order, *, allowed: Sequence[Network] | None, request_id: str, remaining: int) -> socket.socket:
    """Return the connection, the line sent and not blocking. `allowed`: the networks that the bridge may be in; None:
    any. `remaining`: milliseconds that the invocation has left, -1 if nobody knows.

    Raises CannotAttach.
    """
    until = time.monotonic() + order.attach_seconds
    raw = _open(order, allowed, until)
    try:
        connection = _encrypted(raw, order) if order.uses_tls else raw
        line = _LINE.format(token=order.token, request_id=request_id or "-", remaining=remaining)
        connection.sendall(line.encode("ascii", "replace"))
        connection.settimeout(0)
    except (OSError, ValueError) as error:
        raw.close()
        raise CannotAttach(_reason(error, order)) from error
    return connection


def _open(order: Order, allowed: Sequence[Network] | None, until: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(order.host, order.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CannotAttach(f"no such host: {order.host}") from error
    reason = ""
    for family, kind, protocol, _, address in found:
        _check_address(order, str(address[0]), allowed)
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(max(0.001, until - time.monotonic()))
            opened.connect(address)
        except OSError as error:
            opened.close()
            reason = _reason(error, order)
            continue
        _keep_alive(opened)
        return opened
    raise CannotAttach(reason or f"no address: {order.host}")


def _check_address(order: Order, text: str, allowed: Sequence[Network] | None) -> None:
    """Check the very address that is dialled: a name may have another address the next time that it is looked up."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if not order.uses_tls and not address.is_loopback:
        raise CannotAttach(f"forbidden: {address} is not loopback, and the order has no tls")
    if allowed is not None and not any(address in network for network in allowed):
        raise CannotAttach(f"forbidden: {address} is not among duplex={[str(each) for each in allowed]}")


def _keep_alive(opened: socket.socket) -> None:
    """NAT gateways forget a silent connection after 350 s (AWS, "NAT gateways"), and a dead peer must be noticed."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 60_000),
    ):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _encrypted(raw: socket.socket, order: Order) -> ssl.SSLSocket:
    """Return the connection after its handshake. Raises OSError (ssl.SSLError among it) and ValueError."""
    if order.certificate is None:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(raw, server_hostname=order.server_name)
    expected = ssl.PEM_cert_to_DER_cert(order.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is known, whatever names it has
    context.load_verify_locations(cadata=order.certificate)
    context.set_alpn_protocols(["h2"])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    encrypted = context.wrap_socket(raw)
    if encrypted.getpeercert(binary_form=True) != expected:
        encrypted.close()
        raise ssl.SSLCertVerificationError("the bridge shows another certificate")
    return encrypted


def _reason(error: Exception, order: Order) -> str:
    if isinstance(error, TimeoutError):
        return f"timeout: {order.address} does not answer within {order.attach_seconds:g} s"
    if isinstance(error, ConnectionRefusedError):
        return f"refused: nothing listens at {order.address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: {order.address} shows a certificate that is not the bridge's"
    if isinstance(error, ssl.SSLError):
        return f"tls: {order.address} does not speak TLS as the bridge does"
    if isinstance(error, OSError):
        return f"failed: {order.address}: {error.strerror or type(error).__name__}"
    return "tls: the order's certificate cannot be read"
