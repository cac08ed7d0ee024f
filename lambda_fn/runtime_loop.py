"""The runtime's loop: takes invocations from the Runtime API, calls the handler, and sends back what it returns, or why
it failed.

Only what a call needs is imported: no asyncio unless the handler is async, no grpc unless the function brings it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import traceback
from collections.abc import Callable, Coroutine, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lambda_fn.invocation import Invocation, enter
from lambda_fn.lambda_context import LambdaContext
from lambda_fn.runtime_api import Failure, Response, RuntimeApi, RuntimeApiError
from lambda_fn.runtime_logs import RuntimeLog
from lambda_fn.streaming import HTTP_CONTENT_TYPE, PRELUDE_END, StreamingReply

if TYPE_CHECKING:
    import asyncio

Handler = Callable[[Any, LambdaContext], Any]

TRACE_ID = "_X_AMZN_TRACE_ID"
_REFUSALS = {
    400: "it does not know this invocation, or another reply came first",
    410: "the invocation had timed out",
}
_TOO_LARGE = {
    "errorType": "Function.ResponseSizeTooLarge",
    "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
}

_logger = logging.getLogger("lambda_fn")

T = TypeVar("T")


class LoadError(Exception):
    """The handler cannot be loaded; `kind` is AWS's name for why."""

    def __init__(self, kind: str, message: str, *, stack: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.stack = stack


class MarshalError(Exception):
    """What the handler returned is not JSON."""


def load(name: str) -> Handler:
    """Return the handler of this name. Raises LoadError, and whatever the module raises while it loads."""
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        raise LoadError("Runtime.MalformedHandlerName", f"Bad handler {name!r}: it is module.attribute")
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise LoadError("Runtime.ImportModuleError", message) from error
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        line = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        raise LoadError("Runtime.UserCodeSyntaxError", message, stack=(line,)) from error
    try:
        handler: Handler = getattr(module, attribute)
    except AttributeError:
        message = f"Handler '{attribute}' missing on module '{module_name}'"
        raise LoadError("Runtime.HandlerNotFound", message) from None
    return handler


def load_or_fail(name: str, log: RuntimeLog, api: RuntimeApi) -> Handler | None:
    """Return the handler of this name. None if it cannot be loaded: then the log and the Runtime API know why."""
    try:
        return load(name)
    except Exception as error:  # noqa: BLE001 - the outermost frame of the module's own code
        failure = failure_of(error)
        log.write_failure(failure)
        api.fail_init(failure)
        return None


def failure_of(error: BaseException, *, request_id: str = "") -> Failure:
    """Return the error in AWS's form. The stack begins in the function's own code."""
    if isinstance(error, LoadError):
        kind, stack = error.kind, list(error.stack)
    elif isinstance(error, MarshalError):
        kind, stack = "Runtime.MarshalError", []
    elif isinstance(error, SystemExit):
        kind, stack = "Runtime.ExitError", []
    else:
        kind = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        stack = traceback.format_list(
            [frame for frame in frames if frame.filename != __file__ and "<frozen importlib" not in frame.filename]
        )
    return {
        "errorMessage": _text_of(error),
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": stack,
    }


def _text_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the handler asked the process to exit ({error.code}), which serves other invocations, too"
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - str() of any exception may raise
        return "the error has no text: its own __str__ failed"


class Surroundings(Protocol):
    """What differs between an instance that serves one invocation at a time and one that serves many."""

    log: RuntimeLog
    fails_alone: tuple[type[BaseException], ...]
    """What a handler may raise that concerns its invocation alone; anything else ends the process."""

    def begin(self, served: Invocation) -> None:
        """Prepare for this invocation, which begins."""

    def end(self, served: Invocation) -> None:
        """Clean up after this invocation, which is over."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine. Its loop lasts from call to call, so that its clients last."""

    def close(self) -> None:
        """Close the loop."""


class OneAtATime:
    """The process serves one invocation at a time, so the environment and the log may name it."""

    fails_alone: tuple[type[BaseException], ...] = (Exception,)

    def __init__(self, log: RuntimeLog | None = None) -> None:
        self.log = log or RuntimeLog()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, served: Invocation) -> None:
        self.log.only = served
        # AWS's X-Ray SDK, OpenTelemetry and boto3 look for it there.
        if served.trace_id is None:
            os.environ.pop(TRACE_ID, None)
        else:
            os.environ[TRACE_ID] = served.trace_id

    def end(self, served: Invocation) -> None:
        """Nothing to do: lines go out as they are written."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(coroutine)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()


class Runtime:
    """Takes invocations from one connection to the Runtime API, and answers them."""

    def __init__(self, api: RuntimeApi, handler: Handler, surroundings: Surroundings | None = None) -> None:
        self._api = api
        self._handler = handler
        self._surroundings: Surroundings = surroundings or OneAtATime()

    def run(self) -> None:
        """Serve invocations until the process ends. Raises RuntimeApiError when the Runtime API is gone."""
        try:
            while True:
                self.serve(self._api.next())
        finally:
            self._surroundings.close()

    def serve(self, delivered: Response) -> None:
        """Serve one invocation. Raises RuntimeApiError if its reply cannot be brought to the Runtime API."""
        served = _invocation_of(delivered)
        enter(served)
        self._surroundings.begin(served)
        try:
            self._serve(served.request_id, delivered)
        finally:
            self._surroundings.end(served)

    def _serve(self, request_id: str, delivered: Response) -> None:
        try:
            result = self._call(delivered)
            if isinstance(result, StreamingReply):
                self._stream(request_id, result)
                return
            body, content_type = _marshalled(result)
        except RuntimeApiError:
            raise
        except self._surroundings.fails_alone as error:
            self._fail(failure_of(error, request_id=request_id))
            return
        status = self._api.reply(request_id, body, content_type=content_type)
        if status == 413:
            self._fail({**_TOO_LARGE, "requestId": request_id, "stackTrace": []})
        else:
            _tell_of_refusal(status)

    def _call(self, delivered: Response) -> Any:
        try:
            event = json.loads(delivered.body)
            context = LambdaContext(delivered.headers)
        except (ValueError, RecursionError) as error:  # RecursionError: nested too deep
            raise LoadError("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from error
        return self._awaited(self._handler(event, context))

    def _awaited(self, result: Any) -> Any:
        if not hasattr(result, "__await__"):
            return result

        async def wait() -> Any:
            return await result

        return self._surroundings.run(wait())

    def _fail(self, failure: Failure) -> None:
        self._surroundings.log.write_failure(failure)
        _tell_of_refusal(self._api.fail(failure["requestId"], failure))

    # -- streamed replies --

    def _stream(self, request_id: str, reply: StreamingReply) -> None:
        """Send a streamed reply. Raises what the reply raises before its first chunk."""
        chunks = self._chunks(reply)
        try:
            first = next(chunks, b"")
            body: Iterator[bytes | Failure] = chain((_prelude(reply), first), self._reporting(chunks, request_id))
            content_type = reply.content_type if reply.head is None else HTTP_CONTENT_TYPE
            _tell_of_refusal(self._api.stream(request_id, body, content_type=content_type))
        finally:
            chunks.close()

    def _chunks(self, reply: StreamingReply) -> Any:
        if not hasattr(reply.chunks, "__aiter__"):
            yield from reply.chunks
            return
        remaining = reply.chunks.__aiter__()
        while (chunk := self._awaited(anext(remaining, None))) is not None:
            yield chunk

    def _reporting(self, chunks: Iterator[bytes], request_id: str) -> Iterator[bytes | Failure]:
        """Yield the chunks; if they raise, the failure as the last one."""
        try:
            yield from chunks
        except self._surroundings.fails_alone as error:
            failure = failure_of(error, request_id=request_id)
            self._surroundings.log.write_failure(failure)
            yield failure


def _prelude(reply: StreamingReply) -> bytes:
    return b"" if reply.head is None else json.dumps(reply.head).encode() + PRELUDE_END


def _marshalled(result: Any) -> tuple[bytes, str]:
    """Return the result's bytes and content type. Raises MarshalError."""
    if isinstance(result, bytes):
        return result, "application/octet-stream"
    try:
        return json.dumps(result).encode(), "application/json"
    except (TypeError, ValueError, RecursionError) as error:
        raise MarshalError(f"Unable to marshal response: {error}") from error


def _invocation_of(delivered: Response) -> Invocation:
    headers = delivered.headers
    return Invocation(
        headers.get("lambda-runtime-aws-request-id", ""),
        headers.get("lambda-runtime-trace-id"),
        headers.get("lambda-runtime-aws-tenant-id"),
    )


def _tell_of_refusal(status: int) -> None:
    """Log that the Runtime API did not take a reply. That concerns one invocation only, so the instance goes on."""
    if status >= 400:
        why = _REFUSALS.get(status, "see the platform's log")
        _logger.warning("the Runtime API answered %d to the reply, which is lost: %s", status, why)
