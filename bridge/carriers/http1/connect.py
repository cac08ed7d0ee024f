"""Opens a connection to an origin: races its addresses, goes through a proxy if needed, and adds TLS.

Every failure here happens before a byte of a request was sent. It is Unreachable or CertificateRefused.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from bridge.carriers.http1.proxies import Proxies, Proxy
from bridge.carriers.http1.resolver import Resolver, SocketAddress
from bridge.rpc.errors import CertificateRefused, Unreachable
from bridge.rpc.url import ConnectTo, Origin

CONNECT_TIMEOUT = 10.0
"""Seconds from the first lookup to the end of the TLS handshake."""

STAGGER = 0.25
"""Seconds that an address may stay silent before the next one is tried too (RFC 8305 5)."""

ADMIN_DESCRIPTORS = 24
"""File descriptors that connections to targets never take: the admin port needs some when all others are in use."""

MAX_PROXY_HEAD = 16 << 10
"""The largest head of a proxy's answer to CONNECT (bytes)."""

# NAT gateways forget a silent connection after 350 s, an invocation may take 1,800.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

# Our texts for OpenSSL's X509_verify_cert_error_string.
_CERTIFICATE_FAULTS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its authority is not trusted here",
    20: "its authority is not trusted here",
    21: "its authority is not trusted here",
    62: "it is for another host",
    64: "it is for another address",
}

_PROXY_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]").match

OpenSocket = Callable[[SocketAddress], Coroutine[Any, Any, socket.socket]]
"""Raises OSError."""

Made = TypeVar("Made", bound=asyncio.BaseProtocol)


class Dialer:
    """Opens connections."""

    def __init__(
        self,
        resolver: Resolver,
        proxies: Proxies,
        *,
        timeout: float = CONNECT_TIMEOUT,
        open_socket: OpenSocket | None = None,
    ) -> None:
        self._resolver = resolver
        self._proxies = proxies
        self._timeout = timeout
        self._open_socket = open_socket or open_socket_to

    def proxy_for(self, origin: Origin) -> Proxy | None:
        return self._proxies.proxy_for(origin)

    async def dial(
        self,
        origin: Origin,
        tls: ssl.SSLContext | None,
        make_protocol: Callable[[socket.socket], Made],
        *,
        connect_to: ConnectTo | None = None,
    ) -> Made:
        """Connect a protocol to the origin, or to `connect_to` in its name. It must not be closed before this returns.

        uvloop ties the socket to the transport only after `connection_made`. A transport that is aborted inside it
        closes the descriptor. The socket later closes the same number again, which may then belong to another
        connection. Raises Unreachable, CertificateRefused.
        """
        server = origin if connect_to is None else connect_to.instead_of(origin)
        named = origin.address if connect_to is None else f"{server.address} (connect_to of {origin.address})"
        try:
            async with asyncio.timeout(self._timeout):
                connected = await self._reach(server)
                # From here on the loop owns the socket, and closes it if the handshake fails.
                _, protocol = await asyncio.get_running_loop().create_connection(
                    lambda: make_protocol(connected),
                    sock=connected,
                    ssl=tls,
                    server_hostname=origin.host if tls is not None else None,
                )
                return protocol
        except ssl.SSLCertVerificationError as error:
            fault = _CERTIFICATE_FAULTS.get(error.verify_code, "it does not verify")
            raise CertificateRefused(f"the certificate of {named} is refused: {fault}") from error
        except ssl.SSLError as error:
            raise Unreachable(f"{named} does not agree on TLS ({error.reason})") from error
        except TimeoutError as error:
            raise Unreachable(f"{named} accepted no connection within {self._timeout:g} s") from error
        except OSError as error:
            raise Unreachable(f"cannot connect to {named} ({_name_of(error)})") from error

    async def dial_unix(self, path: Path, make_protocol: Callable[[], Made]) -> Made:
        """Connect a protocol to a Unix socket. Raises Unreachable."""
        try:
            async with asyncio.timeout(self._timeout):
                _, protocol = await asyncio.get_running_loop().create_unix_connection(make_protocol, str(path))
                return protocol
        except TimeoutError as error:
            raise Unreachable(f"unix:{path} accepted no connection within {self._timeout:g} s") from error
        except OSError as error:
            raise Unreachable(f"cannot connect to unix:{path} ({_name_of(error)})") from error

    async def _reach(self, origin: Origin) -> socket.socket:
        """Return a socket whose next byte goes to the origin."""
        proxy = self._proxies.proxy_for(origin)
        if proxy is None:
            return await self._connect(origin.host, origin.port)
        connected = await self._connect(proxy.host, proxy.port)
        if origin.is_tunnelled:
            try:
                await open_tunnel(connected, origin, proxy)
            except BaseException:
                connected.close()
                raise
        return connected

    async def _connect(self, host: str, port: int) -> socket.socket:
        addresses = await self._resolver.resolve(host, port)
        try:
            return await race(addresses, self._open_socket)
        except OSError:
            self._resolver.doubt(host, port)
            raise


async def race(addresses: list[SocketAddress], open_socket: OpenSocket, *, stagger: float = STAGGER) -> socket.socket:
    """Return the first socket that connects (RFC 8305). The next address is tried when one fails or stays silent.
    Raises the last OSError.
    """
    loop = asyncio.get_running_loop()
    waiting = list(reversed(addresses))
    attempts: set[asyncio.Task[socket.socket]] = set()
    running: set[asyncio.Task[socket.socket]] = set()
    winner = None
    error: BaseException = OSError("no address")
    try:
        while waiting or running:
            if waiting:
                attempt = loop.create_task(open_socket(waiting.pop()))
                attempts.add(attempt)
                running.add(attempt)
            ended, running = await asyncio.wait(
                running,
                timeout=stagger if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in ended:
                failure = attempt.exception()
                if failure is None:
                    winner = attempt
                    return attempt.result()
                error = failure
        raise error
    finally:
        for attempt in attempts - {winner}:
            attempt.add_done_callback(_close_result)
            attempt.cancel()


def _close_result(attempt: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that connected too late."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def open_socket_to(address: SocketAddress) -> socket.socket:
    """Return a connected socket, set up for answers that may take 30 minutes. Raises OSError."""
    family, place = address
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        _check_descriptor(opened.fileno())
        opened.settimeout(0)  # asyncio requires a non-blocking socket
        keep_alive(opened)
        await asyncio.get_running_loop().sock_connect(opened, place)
    except BaseException:
        opened.close()
        raise
    return opened


def keep_alive(connected: socket.socket) -> None:
    """Send small writes at once, notice a dead peer, and keep NAT gateways from forgetting the connection."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        _set_tcp_option(connected, name, value)


def give_up_unread(connected: socket.socket, milliseconds: int) -> None:
    """End the connection if the peer acknowledges nothing that it was sent for so long (RFC 5482)."""
    _set_tcp_option(connected, "TCP_USER_TIMEOUT", milliseconds)


def _set_tcp_option(connected: socket.socket, name: str, value: int) -> None:
    option = getattr(socket, name, None)  # each system has only some of these options
    if option is not None:
        connected.setsockopt(socket.IPPROTO_TCP, option, value)


def _check_descriptor(descriptor: int) -> None:
    """Check the descriptor's number: the system hands out the lowest free one. Raises OSError if it is one of those
    kept for other uses.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and descriptor >= files - ADMIN_DESCRIPTORS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def open_tunnel(connected: socket.socket, origin: Origin, proxy: Proxy) -> None:
    """Ask the proxy to forward all bytes that follow (RFC 9110 9.3.6). Raises Unreachable, OSError."""
    loop = asyncio.get_running_loop()
    named = f"the proxy {proxy.host}:{proxy.port}"
    authorization = f"proxy-authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    request = f"CONNECT {origin.address} HTTP/1.1\r\nhost: {origin.address}\r\n{authorization}\r\n"
    await loop.sock_sendall(connected, request.encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head:
        received = await loop.sock_recv(connected, 4096)
        if not received or len(head) > MAX_PROXY_HEAD:
            raise Unreachable(f"{named} does not answer CONNECT as HTTP asks")
        head += received
    status = _PROXY_STATUS(head)
    if status is None or not head.endswith(b"\r\n\r\n"):
        raise Unreachable(f"{named} does not answer CONNECT as HTTP asks")
    if not status[1].startswith(b"2"):
        raise Unreachable(f"{named} refuses to connect to {origin.address} (HTTP {status[1].decode()})")


def _name_of(error: OSError) -> str:
    """Return the error's name such as `ECONNREFUSED`, or its class if the system gave no number."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
