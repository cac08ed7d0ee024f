"""`call --insecure`: a relay that speaks TLS with a server whose certificate nobody checks.

gRPC always checks certificates. So gRPC speaks plaintext with our Unix socket, and this relay adds the TLS.
"""

from __future__ import annotations

import select
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bridge.commands.call_address import Security, split_address

_PIECE = 1 << 16
_CONNECT_SECONDS = 10.0


@contextmanager
def unverified(address: str, security: Security) -> Iterator[str]:
    """Yield a gRPC address in plaintext that leads to the server."""
    with tempfile.TemporaryDirectory(prefix="grpc-lambda-bridge-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "tls.sock"
        listener.bind(str(path))
        listener.listen()
        context = unverified_context(security)
        threading.Thread(target=_accept, args=(listener, address, security, context), daemon=True).start()
        try:
            yield f"unix:{path}"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread


def unverified_context(security: Security) -> ssl.SSLContext:
    """Make a context that trusts every server. Raises OSError and ssl.SSLError for a client certificate that cannot be
    used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(("h2",))
    if security.cert is not None:
        context.load_cert_chain(security.cert, security.key)
    return context


def _accept(listener: socket.socket, address: str, security: Security, context: ssl.SSLContext) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(near, address, security, context), daemon=True).start()


def _relay(near: socket.socket, address: str, security: Security, context: ssl.SSLContext) -> None:
    with near:
        found = split_address(address)
        if found is None:
            return
        with (
            suppress(OSError),
            socket.create_connection(found, timeout=_CONNECT_SECONDS) as opened,
            context.wrap_socket(opened, server_hostname=security.authority or found[0]) as far,
        ):
            if far.selected_alpn_protocol() == "h2":
                _pump_both_ways(near, far)


def _pump_both_ways(near: socket.socket, far: ssl.SSLSocket) -> None:
    """Pass bytes until one side ends. One thread serves both ways, because OpenSSL takes one call at a time."""
    near.settimeout(None)
    while True:
        ready = [far] if far.pending() else select.select([near, far], [], [])[0]
        if near in ready:
            data = near.recv(_PIECE)
            if not data:
                return
            far.settimeout(None)
            far.sendall(data)
        if far in ready:
            # What is readable may be a session ticket alone, and a blocking read would wait for data behind it.
            far.settimeout(0)
            try:
                data = far.recv(_PIECE)
            except ssl.SSLWantReadError:
                continue
            if not data:
                return
            near.sendall(data)
