"""LambdaServer's services behind a grpcio server of this process, for calls over attached connections."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import grpc

from lambda_fn.duplex.endpoint import Endpoint
from lambda_fn.duplex.facts import FactsInterceptor, MakeCall, call_of, with_facts
from lambda_fn.duplex.order import Allowed
from lambda_fn.interceptors import CallDetails, Chain, Handler
from lambda_fn.plain_server import PlainServer, WholeChain
from lambda_fn.registry import Registry
from lambda_fn.threads import LoopThread

_SPARE_THREADS = 2
"""Threads beyond one for each call: a call that has ended may still have its thread for a moment."""
_START_SECONDS = 10.0


class LocalServer:
    """Serves on a Unix socket that only this function can reach. It starts with the first connection."""

    def __init__(
        self,
        builder: PlainServer,
        registry: Registry,
        chain: Chain,
        loop: LoopThread,
    ) -> None:
        self._builder = builder
        self._registry = registry
        self._chain = chain
        self._loop = loop
        self._make_call: MakeCall
        self._lock = Lock()
        self._threads = 0
        self._path = ""
        self._stops: list[Callable[[], object]] = []

    def endpoint(self, allowed: Allowed) -> Endpoint:
        """Return what answers orders to connect, with the calls coming to this server."""
        endpoint = Endpoint(allowed, lambda order: self.connect(order.calls))
        self._make_call = endpoint.call
        return endpoint

    def connect(self, calls: int) -> socket.socket:
        """Return a connection to the server, which has a thread for each of so many calls. Raises OSError."""
        with self._lock:
            if calls + _SPARE_THREADS > self._threads:
                self._start(calls + _SPARE_THREADS)
            path = self._path
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.connect(path)
        except BaseException:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """Stop every server that was started. Lambda never needs it; a test may."""
        with self._lock:
            stops, self._stops, self._threads = self._stops, [], 0
        for stop in stops:
            stop()

    def _start(self, threads: int) -> None:
        """Start a server with so many threads. An earlier one with fewer goes on for the connections that it has."""
        folder = Path(tempfile.mkdtemp(prefix="lambda_fn-"))  # 0700: of this user alone
        remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # also when the process exits
        path = str(folder / f"{os.getpid()}.sock")
        pool = ThreadPoolExecutor(threads, thread_name_prefix="lambda_fn duplex")
        stop = self._start_aio(pool, path) if self._builder.is_async else self._start_sync(pool, path)
        self._path, self._threads = path, threads

        def clean() -> None:
            stop()
            pool.shutdown(wait=False)
            remove()

        self._stops.append(clean)

    def _start_sync(self, pool: ThreadPoolExecutor, path: str) -> Callable[[], object]:
        server = self._builder.sync_server(pool, (FactsInterceptor(self._make_call),))
        server.add_insecure_port(f"unix:{path}")
        server.start()
        return lambda: server.stop(0).wait()

    def _start_aio(self, pool: ThreadPoolExecutor, path: str) -> Callable[[], object]:
        async def start() -> grpc.aio.Server:
            chain = _ChainWithFacts(self._chain, self._registry, pool, self._make_call)
            server = self._builder.aio_server(chain)
            server.add_insecure_port(f"unix:{path}")
            await server.start()
            return server

        loop = self._loop.running()
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(_START_SECONDS)
        return lambda: asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(_START_SECONDS)


class _ChainWithFacts(WholeChain):
    """The chain of an aio server, inside which everybody sees the client."""

    def __init__(self, chain: Chain, registry: Registry, pool: ThreadPoolExecutor, make_call: MakeCall) -> None:
        super().__init__(chain, registry, pool)
        self._make_call = make_call

    async def intercept_service(
        self,
        continuation: Any,  # noqa: ARG002 - the chain ends in the registry
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        call = call_of(handler_call_details, self._make_call)
        handler = await self.resolve(CallDetails(call.method, call.metadata))
        return None if handler is None else self.as_async(with_facts(handler, call))
