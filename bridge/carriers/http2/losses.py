"""The errors for calls whose HTTP/2 connection the bridge gives up, because the server breaks a rule or a limit."""

from __future__ import annotations

from bridge.rpc.errors import ConnectionLost, RpcError, Unreachable


def no_alpn(name: str) -> Unreachable:
    """Return the error for a TLS handshake without HTTP/2. `name` is the server's, here and below."""
    return Unreachable(f"{name} does not offer HTTP/2 in its TLS handshake (ALPN h2), which gRPC needs")


def closed_early(name: str) -> Unreachable:
    return Unreachable(f"{name} closed the connection before it spoke HTTP/2")


def broke_http2(name: str, reason: str, *, was_ready: bool) -> RpcError:
    """Return the error after bytes that are not HTTP/2. `was_ready`: the server had sent its SETTINGS before."""
    if not was_ready:
        return Unreachable(f"{name} does not speak HTTP/2: {reason}")
    return ConnectionLost(f"{name} broke HTTP/2 before the call ended ({reason}); it may have run")


def stalled(name: str) -> ConnectionLost:
    return ConnectionLost(f"{name} does not read what it is sent; the call may have run")


def silent(name: str, seconds: float) -> ConnectionLost:
    return ConnectionLost(f"{name} gave no sign of life for {seconds:.0f} s; the call may have run")
