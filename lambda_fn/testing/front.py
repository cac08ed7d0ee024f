"""Front: a grpcio server in front of a function, on a Unix socket that only this user can reach.

It stands where the bridge stands. It gathers a call's requests, has the function answer them, and sends what comes
back.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import grpc

from lambda_fn.interceptors import Handler
from lambda_fn.status import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED, Refused, Status
from lambda_fn.testing.events import MAX_EVENT
from lambda_fn.testing.function import Function
from lambda_fn.testing.protocols import End, Initial, Message, OutgoingCall

_logger = logging.getLogger("lambda_fn.testing")

T = TypeVar("T")

_MAX_CALLS = 1000
"""Calls at once, as many as an AWS account has at first (Lambda quotas, "Concurrent executions"). More are
RESOURCE_EXHAUSTED.
"""

_LONGEST_TIMEOUT = 1e9
"""Seconds. grpcio's servers tell of a call without a deadline that it has longer than this."""

_STOP_SECONDS = 1.0
"""How long `close` waits. grpcio sometimes never forgets a call whose metadata it refused."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Front:
    """Serves from its creation until `close`."""

    def __init__(self, function: Function, *, half_close: float) -> None:
        """`half_close`: seconds that a caller may stay silent behind a request."""
        self._folder = tempfile.mkdtemp(prefix="lambda_fn-")
        self.address = f"unix:{self._folder}/socket"
        self._server = grpc.server(
            _Threads(),  # type: ignore[arg-type]  # grpcio's types ask for a ThreadPoolExecutor; it takes any Executor
            handlers=[_AnyMethod(function, half_close)],
            options=(("grpc.max_receive_message_length", MAX_EVENT),),
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        self._server.add_insecure_port(self.address)
        self._server.start()

    def close(self) -> None:
        """End the calls that still run, and remove the socket."""
        self._server.stop(0).wait(_STOP_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)


class _Threads(Executor):
    """One daemon thread for each call: a function that never returns does not keep the process of the tests."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        Thread(target=_run, args=(future, partial(fn, *args, **kwargs)), name="lambda_fn call", daemon=True).start()
        return future


def _run(future: Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - an Executor's future has whatever was raised
        future.set_exception(error)


class _AnyMethod(grpc.GenericRpcHandler):
    """Every method of every service. On the wire a unary call is a stream of one message."""

    def __init__(self, function: Function, half_close: float) -> None:
        self._function = function
        self._half_close = half_close

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method: Any = handler_call_details.method
        return grpc.stream_stream_rpc_method_handler(partial(self._serve, method))

    def _serve(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        try:
            messages = _gathered(requests, self._half_close)
            metadata = tuple(tuple(pair) for pair in context.invocation_metadata())
            call = OutgoingCall(method, metadata, messages, _timeout_of(context))
            for event in self._function.call(call):
                match event:
                    case Initial(initial):
                        context.send_initial_metadata(initial)
                    case Message(data):
                        yield data
                    case End(status, trailing):
                        _end(context, status, trailing)
        except Refused as refusal:
            _end(context, refusal.status, refusal.trailing)
        except grpc.RpcError:  # the caller has gone
            raise
        except Exception as error:
            _logger.exception("%s: the handler raised", method)
            _end(context, Status(INTERNAL, f"the handler raised {type(error).__name__}: {error}"), ())
        except SystemExit as error:
            _end(context, Status(INTERNAL, f"the handler ended its process: SystemExit({error.code!r})"), ())


def _end(context: Any, status: Status, trailing: Any) -> None:
    context.set_trailing_metadata(trailing)
    context.set_code(_CODES.get(status.code, grpc.StatusCode.UNKNOWN))
    context.set_details(status.message)


def _timeout_of(context: Any) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None or remaining > _LONGEST_TIMEOUT else remaining


def _gathered(requests: Iterator[bytes], half_close: float) -> tuple[bytes, ...]:
    """Return all requests, once the caller has ended its side. Raises Refused, and grpc.RpcError if the caller goes
    away before.
    """
    arrived: SimpleQueue[bytes | Exception | None] = SimpleQueue()
    Thread(target=_read, args=(requests, arrived), name="lambda_fn requests", daemon=True).start()
    messages: list[bytes] = []
    while True:
        try:
            found = arrived.get(timeout=half_close if messages else None)
        except Empty:
            raise Refused(
                UNIMPLEMENTED,
                f"the caller sent {len(messages)} of its requests and then nothing for {half_close:g} s (half_close):"
                " a function gets all requests at once, so the caller cannot wait for a reply in between",
            ) from None
        if found is None:
            return tuple(messages)
        if isinstance(found, Exception):
            raise found
        messages.append(found)


def _read(requests: Iterator[bytes], arrived: SimpleQueue[bytes | Exception | None]) -> None:
    size = 0
    try:
        for message in requests:
            size += len(message)
            if size >= MAX_EVENT:
                text = f"the requests have {size} bytes or more; an event of Lambda takes less than {MAX_EVENT} bytes"
                arrived.put(Refused(RESOURCE_EXHAUSTED, text))
                return
            arrived.put(message)
    except grpc.RpcError as error:
        arrived.put(error)
    else:
        arrived.put(None)
