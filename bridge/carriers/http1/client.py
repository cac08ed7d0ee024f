"""The HTTP/1.1 client for targets: a pool of connections for each origin, over one resolver, one buffer and one way
out.

It is generic: it sends the heads and bodies it is given and knows neither AWS nor gRPC. The caller bounds the time:
cancelling a call aborts its connection. Works on asyncio and on uvloop; a client belongs to the loop that it was made
in.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping

from bridge.carriers.http1.connect import CONNECT_TIMEOUT, Dialer
from bridge.carriers.http1.large_replies import LargeReplyGate
from bridge.carriers.http1.pool import Pool
from bridge.carriers.http1.proxies import Proxies
from bridge.carriers.http1.resolver import Resolver
from bridge.carriers.http1.tls import context_from_environment
from bridge.rpc.errors import Misconfigured
from bridge.rpc.limits import PoolLimits
from bridge.rpc.url import ConnectTo, Origin

BUFFER_SIZE = 64 << 10
"""Most bytes that one read returns."""

_logger = logging.getLogger(__name__)


class HttpClient:
    """The pools of connections for all origins, and what they share: DNS, proxies, authorities, one read buffer."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        limits: PoolLimits | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        resolver: Resolver | None = None,
    ) -> None:
        """`environment` is read for proxies and AWS_CA_BUNDLE. Raises ValueError for proxies it cannot use."""
        self._environment = environment
        self._limits = limits or PoolLimits()
        self._resolver = resolver or Resolver()
        self.dialer = Dialer(self._resolver, Proxies.from_environment(environment), timeout=connect_timeout)
        """The dialer that opens the connections."""
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._pools: dict[tuple[Origin, ssl.SSLContext | None, ConnectTo | None], Pool] = {}
        self._tls: ssl.SSLContext | None = None
        self._last_fault = ""
        self.turns = LargeReplyGate()
        """The gate that all readers of large bodies share."""

    def pool(self, origin: Origin, tls: ssl.SSLContext | None = None, *, connect_to: ConnectTo | None = None) -> Pool:
        """Return the pool of connections to this origin with this TLS context, which lead to `connect_to`. None means
        the system's authorities. Raises Misconfigured for bad CA files.
        """
        if origin.is_secure and tls is None:
            tls = self._system_tls()
        elif not origin.is_secure:
            tls = None
        found = self._pools.get((origin, tls, connect_to))
        if found is None:
            dialer, limits, buffer = self.dialer, self._limits, self._buffer
            found = Pool(origin, tls, connect_to=connect_to, dialer=dialer, limits=limits, buffer=buffer)
            self._pools[origin, tls, connect_to] = found
        return found

    def _system_tls(self) -> ssl.SSLContext:
        if self._tls is None:
            try:
                self._tls = context_from_environment(self._environment)
            except OSError as error:
                self._report(str(error))
                raise Misconfigured(
                    "the certificate authorities cannot be read; the bridge's log has the reason"
                ) from error
        return self._tls

    def _report(self, fault: str) -> None:
        """Log why there are no authorities, once for each reason: each call tries again."""
        if fault != self._last_fault:
            self._last_fault = fault
            _logger.warning("the certificate authorities cannot be read: %s; check AWS_CA_BUNDLE", fault)

    async def close(self) -> None:
        """Close every connection. Callers in the middle of an exchange get ConnectionLost."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        await self._resolver.close()
