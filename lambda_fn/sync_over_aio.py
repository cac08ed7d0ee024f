"""Plain methods on a grpc.aio server, with the whole sync context: what aio itself gives them lacks half of it.

Only `LambdaServer.serve` uses it, for services that mix sync and async methods.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn

import grpc

from lambda_fn.interceptors import Handler
from lambda_fn.sync_servicer import behaviour_of

_END = object()


def as_async(handler: Handler, pool: ThreadPoolExecutor) -> Handler:
    """Return the handler as coroutines that run the plain method in the pool."""
    behaviour = behaviour_of(handler)
    answer: Any = _streaming if handler.response_streaming else _single
    kind = "_".join(
        "stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming)
    )

    def start(argument: Any, context: Any) -> tuple[Callable[..., Any], Any, SyncContext]:
        loop = asyncio.get_running_loop()
        given = _Requests(argument, loop) if handler.request_streaming else argument
        # grpcio's generators and coroutines keep their context variables from step to step; so do these.
        run_in_context = contextvars.copy_context().run

        async def run(function: Callable[..., Any], *arguments: Any) -> Any:
            return await loop.run_in_executor(pool, partial(run_in_context, function, *arguments))

        return run, given, SyncContext(context, loop)

    return getattr(grpc, f"{kind}_rpc_method_handler")(
        answer(behaviour, start), handler.request_deserializer, handler.response_serializer
    )


def _single(behaviour: Callable[..., Any], start: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(argument: Any, context: Any) -> Any:
        run, given, sync_context = start(argument, context)
        try:
            return await run(behaviour, given, sync_context)
        finally:
            sync_context.has_ended()

    return answer


def _streaming(behaviour: Callable[..., Any], start: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(argument: Any, context: Any) -> AsyncIterator[Any]:
        run, given, sync_context = start(argument, context)
        try:
            responses = await run(behaviour, given, sync_context)
            while (response := await run(next, responses, _END)) is not _END:
                yield response
        finally:
            sync_context.has_ended()

    return answer


class _Requests:
    """An async request stream as a plain iterator, for a thread other than the loop's."""

    def __init__(self, requests: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._requests = requests.__aiter__()
        self._loop = loop

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        request = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        if request is _END:
            raise StopIteration
        return request

    next = __next__

    async def _next(self) -> Any:
        return await anext(self._requests, _END)


class SyncContext:
    """`grpc.ServicerContext` over a `grpc.aio.ServicerContext`. What neither waits nor ends the call is the same in
    both.
    """

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._ended = False
        # A method's thread may outlive its call, and grpcio reads freed memory when it is asked for these afterwards.
        self._peer: str = context.peer()
        self._auth_context = context.auth_context()
        self._peer_identities = context.peer_identities()
        self._peer_identity_key = context.peer_identity_key()

    def has_ended(self) -> None:
        """Take note that the call is over. Its method may still run."""
        self._ended = True

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> Any:
        return self._auth_context

    def peer_identities(self) -> Any:
        return self._peer_identities

    def peer_identity_key(self) -> Any:
        return self._peer_identity_key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def is_active(self) -> bool:
        # aio's own done() and cancelled() stay False after a deadline and a cancelled call: its task's end is what
        # tells.
        return not (self._ended or self._context.done() or self._context.cancelled())

    def cancel(self) -> bool:
        """End the call as CANCELLED, which is the nearest that aio offers."""
        self._wait(self._context.abort(grpc.StatusCode.CANCELLED, "CANCELLED"))
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._context.add_done_callback(lambda _: callback())
        return True

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._wait(self._context.send_initial_metadata(initial_metadata))

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self._wait(self._context.abort(code, details))
        raise AssertionError("abort returned")

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self._wait(self._context.abort_with_status(status))
        raise AssertionError("abort returned")

    def _wait(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


grpc.ServicerContext.register(SyncContext)
