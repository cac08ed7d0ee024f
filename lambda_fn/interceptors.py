"""Interceptors: the chain from a call's details to the handler of its method.

Sync ones (`grpc.ServerInterceptor`) and async ones (`grpc.aio.ServerInterceptor`) may stand in one chain, in any order.
Each may answer by itself (short-circuit), change the details or wrap the handler, as with grpcio.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import grpc

from lambda_fn.status import Metadata
from lambda_fn.threads import Workers

Handler = Any
"""A `grpc.RpcMethodHandler`, its messages of whatever type the service has."""

Find = Callable[[grpc.HandlerCallDetails], Handler | None]


class _Details(NamedTuple):
    method: str
    invocation_metadata: Metadata


class CallDetails(_Details, grpc.HandlerCallDetails):
    """What an interceptor learns of a call."""


def is_async_interceptor(interceptor: object) -> bool:
    """Return whether the interceptor is one of grpc.aio."""
    return isinstance(interceptor, grpc.aio.ServerInterceptor) or inspect.iscoroutinefunction(
        getattr(interceptor, "intercept_service", None)
    )


class Chain:
    """The interceptors of a server, the first one outermost."""

    def __init__(self, interceptors: Sequence[Any], workers: Workers) -> None:
        self.interceptors = tuple(interceptors)
        self._workers = workers
        self._first_sync = 1 + max(
            (at for at, each in enumerate(self.interceptors) if is_async_interceptor(each)),
            default=-1,
        )
        """From here on all are sync and nest as plain calls."""

    @property
    def is_async(self) -> bool:
        return self._first_sync > 0

    def resolve(self, find: Find, details: grpc.HandlerCallDetails, *, at: int = 0) -> Handler | None:
        """Return the handler of a chain that is sync from `at` on. Raises what an interceptor raises."""
        if at == len(self.interceptors):
            return find(details)
        onward = partial(self.resolve, find, at=at + 1)
        return self.interceptors[at].intercept_service(onward, details)

    async def resolve_async(self, find: Find, details: grpc.HandlerCallDetails, *, at: int = 0) -> Handler | None:
        """Return the handler of any chain. Raises what an interceptor raises."""
        if at >= self._first_sync:
            return self.resolve(find, details, at=at)
        interceptor = self.interceptors[at]
        onward = partial(self.resolve_async, find, at=at + 1)
        if is_async_interceptor(interceptor):
            return await interceptor.intercept_service(onward, details)
        # A sync interceptor calls on and expects the handler at once: it waits, in a thread, for the async ones behind
        # it.
        loop = asyncio.get_running_loop()

        def wait_onward(given: grpc.HandlerCallDetails) -> Handler | None:
            return asyncio.run_coroutine_threadsafe(onward(given), loop).result()

        return await self._workers.call(partial(interceptor.intercept_service, wait_onward, details))
