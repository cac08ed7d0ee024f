"""The server that `call` talks to: a gRPC channel, and why it cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from bridge.commands.call_address import Security, checked_address
from bridge.commands.failure import CommandFailed

_CONNECT_MILLISECONDS = 10_000


@dataclass(frozen=True, slots=True)
class CalledServer:
    """A server that calls can be made to. Whether it is there, the first call tells."""

    channel: grpc.Channel
    address: str
    security: Security

    def check_reachable(self) -> None:
        """Look at the server again, after a call has failed with UNAVAILABLE. Raises CommandFailed, which says what
        keeps us from it.
        """
        from bridge.commands.call_diagnosis import explain

        reason = explain(self.address, self.security)
        if reason is not None:
            raise CommandFailed(reason)


@contextmanager
def connected(address: str, security: Security) -> Iterator[CalledServer]:
    """Yield the server at an address. Raises CommandFailed for an address that cannot be read.

    A call on it does not wait: if the first attempt to connect fails, it ends with UNAVAILABLE.
    """
    address = checked_address(address)
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_metadata_size", 64 << 10),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MILLISECONDS),  # bounds an attempt to connect, too
    ]
    if security.authority is not None:
        options.append(("grpc.default_authority", security.authority))
    with ExitStack() as stack:
        if not security.tls:
            channel = grpc.insecure_channel(address, options)
        elif security.is_verified:
            if security.authority is not None:
                options.append(("grpc.ssl_target_name_override", security.authority))
            channel = grpc.secure_channel(address, _credentials(security), options)
        else:
            from bridge.commands.call_unverified import unverified

            relay = stack.enter_context(unverified(address, security))
            if security.authority is None:
                options.append(("grpc.default_authority", address))
            channel = grpc.insecure_channel(relay, options)
        yield CalledServer(stack.enter_context(channel), address, security)


def _credentials(security: Security) -> grpc.ChannelCredentials:
    cacert, key, cert = (
        None if path is None else path.read_bytes() for path in (security.cacert, security.key, security.cert)
    )
    return grpc.ssl_channel_credentials(cacert, key, cert)
