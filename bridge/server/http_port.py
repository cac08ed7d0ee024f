"""What the HTTP ports of a process share: their log, their limits, and the host names that they answer to. aiohttp
serves them.

This module is imported only if such a port is opened: importing aiohttp takes a tenth of a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from bridge.server.hosts import Hosts


class IdleGiveWay:
    """Makes the connections of an HTTP server, and bounds their number. The oldest idle one goes for a new one."""

    def __init__(self, server: web.Server, *, most: int, kept_descriptors: int) -> None:
        """`kept_descriptors` is the number of the process's file descriptors that these connections leave to others."""
        self._server = server
        self._most = most
        self._kept_descriptors = kept_descriptors
        self._busy: set[object] = set()

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol for an accepted connection. A connection without room is closed."""
        if len(self._server.connections) < self._most and not self._is_short():
            return self._server()
        for oldest in self._server.connections:
            if oldest not in self._busy and oldest.transport is not None:
                oldest.force_close()
                return self._server()
        return _NoRoom()

    def _is_short(self) -> bool:
        """Whether the next file descriptor, which is the lowest free one, is one of those that are kept."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files == resource.RLIM_INFINITY:
            return False
        try:
            descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        os.close(descriptor)
        return descriptor >= files - self._kept_descriptors

    @contextmanager
    def serving(self, request: web.BaseRequest) -> Iterator[None]:
        """Mark the request's connection as busy while the block runs. A connection has one request at a time."""
        protocol = request.protocol
        self._busy.add(protocol)
        try:
            yield
        finally:
            self._busy.discard(protocol)


class _NoRoom(asyncio.Protocol):
    """Closes a connection as soon as it is made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not at once, because uvloop is still setting it up.
        asyncio.get_running_loop().call_soon(cast("asyncio.Transport", transport).abort)


def http_refusal_of(request: web.BaseRequest, hosts: Hosts, *, takes_any_origin: bool = False) -> str | None:
    """Return the reason why this request is refused, by its host name and its page's origin. None: it is answered."""
    authorities = request.headers.getall(hdrs.HOST, [])
    scheme, is_whole_url, rest = request.raw_path.partition("://")
    if is_whole_url and scheme.isalpha():  # RFC 9112 3.2.2
        authorities = [*authorities, rest.partition("/")[0].partition("?")[0]]
    origins = [] if takes_any_origin else request.headers.getall(hdrs.ORIGIN, [])
    return hosts.refusal(authorities, origins)


def cut(request: web.BaseRequest) -> None:
    """End the connection without the end of the body, so that the client knows. What was sent still arrives."""
    if request.transport is not None:
        request.transport.close()


class HttpServerLog(logging.LoggerAdapter[logging.Logger]):
    """A logger for `web.Server` and `web.AppRunner`.

    aiohttp logs each request that it cannot parse, and each client that hangs up during its answer, as an error with a
    traceback. Any client could fill the log with them.
    """

    def __init__(self) -> None:
        super().__init__(logging.getLogger("aiohttp.server"))

    def exception(self, msg: object, *args: object, exc_info: Any = True, **rest: Any) -> None:
        if isinstance(exc_info, HttpProcessingError):
            said = exc_info.message.splitlines()
            self.debug(f"{msg}: %s", *args, said[0] if said else type(exc_info).__name__)
        elif isinstance(exc_info, ConnectionError):
            self.debug(f"{msg}: the client has gone", *args)
        else:
            super().exception(msg, *args, exc_info=exc_info, **rest)
