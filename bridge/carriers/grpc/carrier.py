"""Native gRPC: makes calls to one server, message by message in both directions, over shared HTTP/2 connections.

In: a path, metadata as the bridge holds it, envelopes of plain messages. Out: the response's events, or an error that
says what kept a call from its status. What is wrong with one reply ends that call alone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial

from bridge.carriers.grpc.call import LONGEST_USER_AGENT, UpstreamCall, grpc_request_fields
from bridge.carriers.grpc.response import HeadReader
from bridge.carriers.http1.connect import CONNECT_TIMEOUT, Dialer, give_up_unread
from bridge.carriers.http1.proxies import Proxies
from bridge.carriers.http1.resolver import Resolver
from bridge.carriers.http1.tls import HTTP_2, client_context
from bridge.carriers.http2.connection import Http2Connection
from bridge.carriers.http2.liveness import ConnectionTimes
from bridge.carriers.http2.pool import Http2Pool
from bridge.config.schema import TargetTls
from bridge.config.target import GrpcTargetSpec
from bridge.http2.events import Fields
from bridge.rpc.address import UnixAddress
from bridge.rpc.buffers import Account
from bridge.rpc.errors import Draining, Unreachable
from bridge.rpc.hop import USER_AGENT
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import Metadata, clean_value
from bridge.rpc.url import ConnectTo, Origin

_USER_TIMEOUT = 30_000
"""Milliseconds after which a server counts as dead if it acknowledges nothing that it was sent (RFC 5482)."""


class GrpcCarrier:
    """The carrier to one native gRPC server. Belongs to the running loop."""

    def __init__(
        self,
        target: GrpcTargetSpec,
        *,
        tls: TargetTls | None = None,
        connect_to: ConnectTo | None = None,
        limits: Limits | None = None,
        dialer: Dialer | None = None,
        times: ConnectionTimes | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connect_to` is where connections lead, instead of to the target's host. `clock` reads the monotonic time
        (seconds). Raises OSError for TLS files that cannot be read.
        """
        self.name = str(target)
        self.limits = limits or Limits()
        self.clock = clock
        self._times = times
        self._connect_timeout = connect_timeout
        self._dialer = dialer or Dialer(Resolver(), Proxies(), timeout=connect_timeout)
        self._address = target.address
        self._connect_to = connect_to
        self._tls = _context(tls or TargetTls()) if target.tls else None
        scheme = "https" if target.tls else "http"
        self._head: Fields = (
            (":method", "POST"),
            (":scheme", scheme),
            (":authority", _authority_of(target, tls)),
        )
        self.pool = Http2Pool(self.name, self._connect, new_connection=self._new_connection)
        self.heads = HeadReader(self.name, throttled_as=self.limits.throttled_as)
        self._in_flight = 0
        self._is_retired = False

    def start(
        self,
        path: str,
        metadata: Metadata,
        *,
        account: Account,
        timeout: float | None,
        user_agent: str = "",
    ) -> UpstreamCall:
        """Begin a call. Call `connect` next, and `finish` in any case.

        `account` counts what is held of the response; `timeout`: seconds; `user_agent`: the client's.
        """
        self._in_flight += 1
        agent = f"{clean_value(user_agent)[:LONGEST_USER_AGENT]} {USER_AGENT}".lstrip()
        return UpstreamCall(self, grpc_request_fields(self._head, path, agent, metadata), timeout, account)

    async def dry_run(self) -> None:
        """Connect without making a call. Raises RpcError. The caller bounds the time."""
        self._in_flight += 1
        try:
            self.pool.changed(await self.pool.connection())
        finally:
            self.finished()

    async def close(self) -> None:
        """Close the connections. Calls under way end with UNAVAILABLE."""
        await self.pool.close()

    def retire(self) -> None:
        """Close the connections when the last call has ended. A late call keeps a connection until its end."""
        self._is_retired = True
        self._close_if_idle()

    def finished(self) -> None:
        """Note that a call has ended."""
        self._in_flight -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._is_retired and not self._in_flight:
            self.pool.close_idle()

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _connect(self, make: Callable[[], Http2Connection]) -> Http2Connection:
        if isinstance(self._address, UnixAddress):
            made = await self._dialer.dial_unix(self._address.path.absolute(), make)
        else:
            scheme = "grpc" if self._tls is None else "grpcs"
            origin = Origin(scheme, self._address.host, self._address.port)
            prepared = partial(_prepared, make=make)
            made = await self._dialer.dial(origin, self._tls, prepared, connect_to=self._connect_to)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await made.wait_until_ready()
        except TimeoutError as error:
            silent = Unreachable(
                f"{self.name} accepts connections and does not speak HTTP/2: "
                f"no SETTINGS within {self._connect_timeout:g} s"
            )
            made.abort(silent)
            raise silent from error
        except asyncio.CancelledError:
            made.abort(Draining("the bridge stops"))
            raise
        return made

    def _new_connection(self, pool: Http2Pool) -> Http2Connection:
        return Http2Connection(pool, times=self._times)


# -- addresses and TLS -------------------------------------------------------------------------------------------------


def _authority_of(target: GrpcTargetSpec, tls: TargetTls | None) -> str:
    if tls is not None and tls.server_name is not None:
        return tls.server_name
    return "localhost" if isinstance(target.address, UnixAddress) else str(target.address)


def _context(files: TargetTls) -> ssl.SSLContext:
    return client_context(
        ca=files.ca,
        certificate=files.cert,
        key=files.key,
        server_name=files.server_name,
        alpn=HTTP_2,
    )


def _prepared(opened: socket.socket, make: Callable[[], Http2Connection]) -> Http2Connection:
    """Set up a socket so that it notices a dead server soon. A call may wait hours for an answer."""
    give_up_unread(opened, _USER_TIMEOUT)
    return make()
