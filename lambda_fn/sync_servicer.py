"""Plain servicers: the context they get, and their methods run with the outcome that `grpc.server` would give.

Runs in a worker thread and returns when the servicer does. Messages, codes and the order of decisions follow grpcio's
`_server.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc

from lambda_fn import metadata
from lambda_fn.call import Call
from lambda_fn.contexts import (
    COMPRESSION_NAMES,
    CallFacts,
    end,
    number_of,
    refuse_metadata,
)
from lambda_fn.interceptors import Handler
from lambda_fn.status import CANCELLED, INTERNAL, OK, UNIMPLEMENTED, UNKNOWN, Refused, Status

_logger = logging.getLogger("lambda_fn")


class _Ending:
    """How the call is going to end: what the servicer has set so far, and grpcio's rules for turning it into a
    status.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.code: grpc.StatusCode | None = None
        self.details: bytes | None = None
        self.trailing: Any = None
        self.is_aborted = False
        self._interruptions: list[grpc.RpcError] = []

    def raise_if_interrupted(self) -> None:
        if self.call.is_interrupted:
            error = grpc.RpcError()
            self._interruptions.append(error)
            raise error

    def finish(self) -> None:
        """End the call after the servicer returned."""
        code = OK if self.code is None else number_of(self.code)
        end(self.call, Status(code, _decoded(self.details)), self.trailing)

    def fail(self, code: int, message: str) -> None:
        """Something failed; a code and details that the servicer has set stand."""
        status = Status(
            code if self.code is None else number_of(self.code),
            message if self.details is None else _decoded(self.details),
        )
        end(self.call, status, self.trailing)

    def fail_with(self, error: Exception, doing: str) -> None:
        """End the call after the servicer raised."""
        if self.is_aborted:
            self.fail(UNKNOWN, "RPC Aborted")
        elif error not in self._interruptions:
            message = _described(error, doing)
            _logger.error("%s: %s", self.call.method, message, exc_info=error)
            self.fail(UNKNOWN, message)


class SyncContext(CallFacts, grpc.ServicerContext):  # type: ignore[misc]  # the stubs hide that values may be absent
    """`grpc.ServicerContext` for a call inside Lambda."""

    def __init__(self, call: Call, ending: _Ending) -> None:
        super().__init__(call)
        self._ending = ending

    def is_active(self) -> bool:
        return self._call.is_active

    def cancel(self) -> bool:
        return self._call.interrupt(Status(CANCELLED, "CANCELLED"))

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._call.add_callback(callback)

    def set_compression(self, compression: grpc.Compression) -> None:
        self._call.compression = COMPRESSION_NAMES[compression]

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._ending.raise_if_interrupted()
        if self._call.is_open:
            raise ValueError("Initial metadata no longer allowed!")
        try:
            self._call.open(metadata.of_servicer(initial_metadata))
        except metadata.InvalidMetadata as error:
            refuse_metadata(self._call, error)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._ending.trailing = trailing_metadata

    def trailing_metadata(self) -> Any:
        return self._ending.trailing

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        if code == grpc.StatusCode.OK:
            _logger.error("abort() called with StatusCode.OK; the call ends as UNKNOWN")
            code, details = grpc.StatusCode.UNKNOWN, ""
        self._ending.code = code
        self._ending.details = _encoded(details)
        self._ending.is_aborted = True
        raise Exception  # noqa: TRY002 - the class that grpcio raises here: servicers may filter by it

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self._ending.trailing = status.trailing_metadata
        self.abort(status.code, status.details)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._ending.code = code

    def code(self) -> Any:
        """As set; None before."""
        return self._ending.code

    def set_details(self, details: str) -> None:
        self._ending.details = _encoded(details)

    def details(self) -> Any:
        """As set, in bytes as grpcio has it; None before."""
        return self._ending.details


def _encoded(details: str | bytes) -> bytes:
    return details if isinstance(details, bytes) else details.encode()


def _decoded(details: bytes | None) -> str:
    return "" if details is None else details.decode("utf-8", "replace")


def _described(error: Exception, doing: str) -> str:
    try:
        return f"Exception {doing}: {error}"
    except Exception:  # noqa: BLE001 - str() of any exception may raise
        return "Calling application raised unprintable Exception!"


def _transformed(value: Any, transform: Callable[[Any], Any] | None, doing: str) -> Any:
    """Return what `transform` makes of the value, or None if it raises: grpcio draws no line between the two."""
    if transform is None:
        return value
    try:
        return transform(value)
    except Exception:
        _logger.exception("Exception %s message!", doing)
        return None


class _Requests:
    """The request messages as the iterator that stream methods take."""

    def __init__(self, ending: _Ending, deserialize: Callable[[bytes], Any] | None) -> None:
        self._ending = ending
        self._call = ending.call
        self._deserialize = deserialize

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._ending.raise_if_interrupted()
        if not self._call.is_active:
            raise StopIteration
        request = self.take()
        if request is None:
            raise StopIteration
        return request

    next = __next__

    def take(self) -> Any:
        """Return the next request, or None after the last, and when the call has failed over it."""
        try:
            data = self._call.read()
        except Refused as refusal:
            self._call.end(refusal.status, refusal.trailing)
            return None
        if data is None:
            return None
        request = self._deserialized(data)
        if request is None:
            code = INTERNAL if self._call.undecodable is None else self._call.undecodable
            self._ending.fail(code, "Exception deserializing request!")
        return request

    def _deserialized(self, data: bytes) -> Any:
        if self._call.undecodable is None:
            return _transformed(data, self._deserialize, "deserializing")
        try:
            return data if self._deserialize is None else self._deserialize(data)
        except Exception:  # noqa: BLE001 - the caller's mistake, which its status tells
            return None

    def only(self) -> Any:
        """Return the one request of a unary method. None when the call has failed, for it has none or several."""
        request = self.take()
        if request is None or self._has_more():
            request = None
            self._call.end(Status(UNIMPLEMENTED, f'"{self._call.method}" requires exactly one request message.'))
        return request

    def _has_more(self) -> bool:
        try:
            return self._call.read() is not None
        except Refused as refusal:
            self._call.end(refusal.status, refusal.trailing)
            return True


def serve(call: Call, handler: Handler) -> None:
    """Run the method; the call has ended afterwards. Raises only what is meant to end the process."""
    ending = _Ending(call)
    requests = _Requests(ending, handler.request_deserializer)
    argument = requests if handler.request_streaming else requests.only()
    if argument is None:
        return
    try:
        result = behaviour_of(handler)(argument, SyncContext(call, ending))
    except Exception as error:  # noqa: BLE001 - the outermost frame of a servicer
        ending.fail_with(error, "calling application")
        return
    if handler.response_streaming:
        _send_all(ending, handler, result)
    elif _send(ending, handler, result):
        ending.finish()


def behaviour_of(handler: Handler) -> Callable[[Any, Any], Any]:
    """Return the servicer's function in this handler."""
    kinds = {
        (False, False): "unary_unary",
        (False, True): "unary_stream",
        (True, False): "stream_unary",
        (True, True): "stream_stream",
    }
    name = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    behaviour: Callable[[Any, Any], Any] = getattr(handler, name)
    return behaviour


def _send(ending: _Ending, handler: Handler, response: Any) -> bool:
    data = _transformed(response, handler.response_serializer, "serializing")
    if not isinstance(data, (bytes, bytearray, memoryview)):  # without a serializer, anything
        ending.fail(INTERNAL, "Failed to serialize response!")
        return False
    return ending.call.send(bytes(data))


def _send_all(ending: _Ending, handler: Handler, responses: Any) -> None:
    while ending.call.is_active:
        try:
            response = next(responses)
        except StopIteration:
            response = None
        except Exception as error:  # noqa: BLE001 - the outermost frame of a servicer
            ending.fail_with(error, "iterating responses")
            return
        # A None among the responses ends the stream, as it does with grpcio.
        if response is None:
            ending.finish()
            return
        if _send(ending, handler, response):
            ending.call.wait_for_room()
