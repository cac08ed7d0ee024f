"""A plain connection to the server behind `forward`, for bytes that pass unchanged."""

from __future__ import annotations

import socket

from lambda_fn.duplex.connection import CannotAttach
from lambda_fn.forwarding.process import NotServing
from lambda_fn.forwarding.proxy import Upstream


def connect_to(upstream: Upstream, timeout: float) -> socket.socket:
    """Return the connection, within `timeout` (seconds). A program that is ours is started and waited for first.

    Raises OSError, CannotAttach.
    """
    try:
        upstream.ready(timeout)
    except NotServing as error:
        raise CannotAttach(str(error)) from error
    target = upstream.channel.target
    if target.credentials is not None:
        raise CannotAttach(f"forward reaches {target.address} with TLS, and full duplex needs a plaintext target")
    if not target.socket:
        return socket.create_connection((target.host, target.port), timeout)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(timeout)
        opened.connect(target.socket)
    except BaseException:
        opened.close()
        raise
    return opened
