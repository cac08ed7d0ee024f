"""The same service as a plain grpcio server, for the day it leaves Lambda, and for local work."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import grpc

from lambda_fn import async_servicer
from lambda_fn.interceptors import Chain, Handler
from lambda_fn.library_internals import handlers_within
from lambda_fn.plain_http import CannotListen, HttpSide
from lambda_fn.registry import Registry

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class PlainServer:
    """A grpcio server over the methods and interceptors of a LambdaServer."""

    def __init__(
        self,
        registry: Registry,
        chain: Chain,
        *,
        options: Sequence[tuple[str, Any]],
        compression: grpc.Compression | None,
        max_workers: int | None,
    ) -> None:
        self._registry = registry
        self._chain = chain
        # Without this, two servers on one port would share its connections, and nobody be told.
        self._options = tuple(({"grpc.so_reuseport": 0} | dict(options)).items())
        self._compression = compression
        self._max_workers = max_workers

    def run(
        self,
        address: str,
        *,
        grace: float,
        credentials: grpc.ServerCredentials | None,
        beside: HttpSide | None = None,
    ) -> None:
        """Serve until SIGTERM or SIGINT, then let calls in flight finish for `grace` seconds; `beside` too. Raises
        CannotListen.
        """
        with (
            _told_to_stop() as told,
            beside or nullcontext(),
            ThreadPoolExecutor(self._max_workers) as pool,
        ):

            def wait() -> None:
                told()
                if beside is not None:
                    beside.stop_accepting()

            if self.is_async:
                asyncio.run(self._run_async(pool, wait, address, grace, credentials))
            else:
                self._run_sync(pool, wait, address, grace, credentials)

    @property
    def is_async(self) -> bool:
        """Whether a method or an interceptor is async. Then only an aio server can serve all of them."""
        if self._chain.is_async:
            return True
        return any(async_servicer.is_async(handler) for handler in self._handlers())

    def _handlers(self) -> Iterator[Handler]:
        yield from self._registry.methods.values()
        for generic in self._registry.generic_handlers:
            yield from handlers_within(generic)

    def sync_server(self, pool: ThreadPoolExecutor, outermost: Sequence[grpc.ServerInterceptor] = ()) -> grpc.Server:
        """Return a server that has no address yet, for services without async methods. `outermost`: interceptors
        before all others.
        """
        return grpc.server(
            pool,
            handlers=[_Methods(self._registry)],
            interceptors=[*outermost, *self._chain.interceptors],
            options=self._options,
            compression=self._compression,
        )

    def aio_server(self, chain: WholeChain) -> grpc.aio.Server:
        """Return a server that has no address yet, for any service. To be called on the loop that will serve."""
        return grpc.aio.server(interceptors=[chain], options=self._options, compression=self._compression)

    def _run_sync(
        self,
        pool: ThreadPoolExecutor,
        wait: Callable[[], object],
        address: str,
        grace: float,
        credentials: grpc.ServerCredentials | None,
    ) -> None:
        server = self.sync_server(pool)
        port = _listen(server, address, credentials)
        server.start()
        _announce(address, port)
        wait()
        server.stop(grace).wait()

    async def _run_async(
        self,
        pool: ThreadPoolExecutor,
        wait: Callable[[], object],
        address: str,
        grace: float,
        credentials: grpc.ServerCredentials | None,
    ) -> None:
        server = self.aio_server(WholeChain(self._chain, self._registry, pool))
        port = _listen(server, address, credentials)
        await server.start()
        _announce(address, port)
        await asyncio.to_thread(wait)
        await server.stop(grace)


def _listen(server: Any, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise CannotListen(f"Failed to bind to {address}: it is in use, or no address of this machine") from error


def _announce(address: str, port: int) -> None:
    # For whoever started it by hand: logging is not set up then.
    sys.stderr.write(f"serving gRPC on {address} (port {port})\n")
    sys.stderr.flush()


@contextmanager
def _told_to_stop() -> Iterator[Callable[[], object]]:
    """How to wait, in any thread, for SIGTERM or SIGINT. Elsewhere than in the main thread Python has no signals: then
    forever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event().wait
        return
    reader, writer = socket.socketpair()
    writer.settimeout(0)

    def wait() -> None:
        while reader.recv(1)[0] not in _STOP_SIGNALS:
            continue

    # The signal arrives as a byte: a handler in Python would run only when the main thread happens to wake.
    former = {each: signal.signal(each, lambda *_: None) for each in _STOP_SIGNALS}
    former_writer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield wait
    finally:
        signal.set_wakeup_fd(former_writer)
        for each, action in former.items():
            signal.signal(each, action)
        reader.close()
        writer.close()


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._registry.find(handler_call_details)


class WholeChain(grpc.aio.ServerInterceptor):
    """The chain and its handler as one aio interceptor. grpc.aio.server accepts no sync interceptors, and supports sync
    methods only partly.
    """

    def __init__(self, chain: Chain, registry: Registry, pool: ThreadPoolExecutor) -> None:
        self._chain = chain
        self._registry = registry
        self._pool = pool

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],  # noqa: ARG002 - grpcio's signature
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        return self.as_async(await self.resolve(handler_call_details))

    async def resolve(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler that the interceptors and the services give. Raises what an interceptor raises."""
        return await self._chain.resolve_async(self._registry.find, details)

    def as_async(self, handler: Handler | None) -> Handler | None:
        """Return a handler that an aio server can serve: a plain method runs in the pool."""
        if handler is None or async_servicer.is_async(handler):
            return handler
        from lambda_fn.sync_over_aio import as_async

        return as_async(handler, self._pool)
