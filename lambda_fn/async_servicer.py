"""Async servicers: the context they get, and their methods run with the outcome that `grpc.aio.server` would give.

Runs on the event loop of `lambda_fn.threads`. Messages, codes and the order of decisions follow grpcio's aio server;
where that would leave the caller without any status (no request, abort with OK, a CancelledError of the servicer's
own), there is one here.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc

from lambda_fn import metadata
from lambda_fn.call import Call
from lambda_fn.contexts import (
    COMPRESSION_NAMES,
    CallFacts,
    end,
    number_or_int_of,
    refuse_metadata,
    unexpected,
)
from lambda_fn.interceptors import Handler
from lambda_fn.status import CANCELLED, OK, UNIMPLEMENTED, UNKNOWN, Refused, Status
from lambda_fn.sync_servicer import behaviour_of
from lambda_fn.threads import Workers

_logger = logging.getLogger("lambda_fn")


def is_async(handler: Handler) -> bool:
    """Return whether the method is a coroutine function or an async generator."""
    behaviour = behaviour_of(handler)
    return inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)


class _Ending:
    """How the call is going to end: what the servicer has set so far, and grpc.aio's rules for turning it into a
    status.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.number = OK
        self.code: Any = None
        self.details = ""
        self.trailing: Any = ()
        self.abortion: BaseException | None = None

    def raise_if_over(self) -> None:
        if self.abortion is not None:
            raise self.abortion
        if not self.call.is_active:
            raise grpc.aio.UsageError("RPC already finished.")

    def finish(self) -> None:
        """End the call after the servicer returned."""
        self.raise_if_over()
        end(self.call, Status(self.number, self.details), self.trailing)

    def fail_with(self, error: Exception) -> None:
        """Report an exception of the servicer, and end the call. A code that the servicer has set stands."""
        if error is self.abortion or not self.call.is_active:
            return
        _logger.error("%s raised", self.call.method, exc_info=error)
        code = UNKNOWN if self.number == OK else self.number
        end(self.call, Status(code, unexpected(error)), self.trailing)


class AsyncContext(CallFacts, grpc.aio.ServicerContext[Any, Any]):  # type: ignore[misc]  # the stubs hide that values may be absent
    """`grpc.aio.ServicerContext` for a call inside Lambda."""

    def __init__(self, call: Call, ending: _Ending, handler: Handler, workers: Workers) -> None:
        super().__init__(call)
        self._ending = ending
        self._handler = handler
        self._workers = workers

    async def read(self) -> Any:
        """Return the next request message, or `grpc.aio.EOF`."""
        self._ending.raise_if_over()
        data = self._call.read()
        if data is None:
            return grpc.aio.EOF
        deserialize = self._handler.request_deserializer
        try:
            return data if deserialize is None else deserialize(data)
        except Exception as error:
            if self._call.undecodable is None:
                raise
            raise Refused(self._call.undecodable, "Exception deserializing request!") from error

    async def write(self, message: Any) -> None:
        self._ending.raise_if_over()
        serialize = self._handler.response_serializer
        self._call.send(message if serialize is None else serialize(message))
        if not self._call.has_room():
            await self._workers.call(self._call.wait_for_room)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._ending.raise_if_over()
        if self._call.is_open:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        try:
            self._call.open(metadata.of_servicer(initial_metadata))
        except metadata.InvalidMetadata as error:
            refuse_metadata(self._call, error)

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        ending = self._ending
        if ending.abortion is not None:
            raise grpc.aio.UsageError("Abort already called!")
        ending.abortion = grpc.aio.AbortError("Locally aborted.")
        ending.trailing = trailing_metadata or ending.trailing
        ending.details = details or ending.details
        ending.code, ending.number = code, number_or_int_of(code)
        if ending.number == OK:
            _logger.error("abort() called with StatusCode.OK; the call ends as UNKNOWN")
            ending.number, ending.details = UNKNOWN, ""
        end(self._call, Status(ending.number, ending.details), ending.trailing)
        raise ending.abortion

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        pairs = tuple(trailing_metadata)
        if not all(_is_pair(pair) for pair in pairs):
            raise TypeError(
                f"Invalid trailing metadata type, expected Tuple[Tuple[str, Union[str, bytes]]...]: {trailing_metadata}"
            )
        self._ending.trailing = pairs

    def trailing_metadata(self) -> Any:
        return self._ending.trailing

    def set_code(self, code: Any) -> None:
        self._ending.code, self._ending.number = code, number_or_int_of(code)

    def code(self) -> Any:
        return self._ending.code

    def set_details(self, details: str) -> None:
        self._ending.details = details

    def details(self) -> str:
        return self._ending.details

    def set_compression(self, compression: grpc.Compression) -> None:
        if self._call.is_open:
            raise RuntimeError("Compression setting must be specified before sending initial metadata")
        self._call.compression = COMPRESSION_NAMES[compression]

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._call.add_callback(lambda: callback(self))

    def done(self) -> bool:
        return not self._call.is_active

    def cancelled(self) -> bool:
        """Whether the call was ended from outside, its deadline among it, or as CANCELLED."""
        return self._call.is_interrupted or self._ending.number == CANCELLED


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], (str, bytes))


class _Requests:
    """The request messages as the async iterator that stream methods take."""

    def __init__(self, context: AsyncContext) -> None:
        self._context = context

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        request = await self._context.read()
        if request is grpc.aio.EOF:
            raise StopAsyncIteration
        return request


async def serve(call: Call, handler: Handler, workers: Workers) -> None:
    """Run the method; the call has ended afterwards. Raises what is meant to end the task or the process."""
    ending = _Ending(call)
    context = AsyncContext(call, ending, handler, workers)
    try:
        await _run(handler, context, ending)
    except Refused as refusal:
        call.end(refusal.status, refusal.trailing)
    except Exception as error:  # noqa: BLE001 - the outermost frame of a servicer
        ending.fail_with(error)


async def _run(handler: Handler, context: AsyncContext, ending: _Ending) -> None:
    argument: Any = _Requests(context) if handler.request_streaming else await context.read()
    has_more = not handler.request_streaming and ending.call.read() is not None
    if argument is grpc.aio.EOF or has_more:
        message = f'"{ending.call.method}" requires exactly one request message.'
        ending.call.end(Status(UNIMPLEMENTED, message))
        return
    result = behaviour_of(handler)(argument, context)
    if inspect.isasyncgen(result):
        try:
            async for response in result:
                await context.write(response)
        finally:
            await result.aclose()
    else:
        response = await result
        # With any other code grpc.aio drops the message too. A stream method that is a coroutine has written by itself.
        if not handler.response_streaming and ending.number == OK:
            await context.write(response)
    ending.finish()
