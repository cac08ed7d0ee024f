"""The Lambda runtime for Python functions: `python -m lambda_fn.runtime app.handler`.

Takes invocations from the Runtime API, calls the handler, sends back what it returns. The local Lambda runs functions
with it; on AWS it stands in for the managed runtime where replies are to be streamed (an image's command, or
AWS_LAMBDA_EXEC_WRAPPER in a zip). The handler is `module.attribute`, from the argument or _HANDLER; a `/` in it counts
as a dot. It may be a coroutine function.

Only what a call needs is imported: no asyncio unless the handler is async, no grpc unless the function brings it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from lambda_fn.lambda_context import LambdaContext
from lambda_fn.runtime_api import Failure, Response, RuntimeApi, RuntimeApiError
from lambda_fn.streaming import HTTP_CONTENT_TYPE, PRELUDE_END, StreamingReply

if TYPE_CHECKING:
    import asyncio

Handler = Callable[[Any, LambdaContext], Any]

_TRACE_ID = "_X_AMZN_TRACE_ID"
_TOO_LARGE = {
    "errorType": "Function.ResponseSizeTooLarge",
    "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
}


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


def failure_of(error: BaseException, *, request_id: str = "") -> Failure:
    """Return the error in AWS's form. The stack begins in the function's own code."""
    if isinstance(error, LoadError):
        kind, stack = error.kind, list(error.stack)
    elif isinstance(error, MarshalError):
        kind, stack = "Runtime.MarshalError", []
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
    try:
        return str(error)
    except Exception:  # noqa: BLE001  (str() of any exception may raise)
        return "the error has no text: its own __str__ failed"


class Runtime:
    """One instance of a function: the loop over its invocations."""

    def __init__(self, api: RuntimeApi, handler: Handler) -> None:
        self._api = api
        self._handler = handler
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve invocations until the process ends. Raises RuntimeApiError when the Runtime API is gone."""
        try:
            while True:
                self.serve(self._api.next())
        finally:
            if self._loop is not None:
                self._loop.close()

    def serve(self, invocation: Response) -> None:
        """Serve one invocation."""
        request_id = invocation.headers.get("lambda-runtime-aws-request-id", "")
        _set_trace_id(invocation.headers.get("lambda-runtime-trace-id"))
        _log_format.request_id = request_id
        try:
            result = self._call(invocation)
            if isinstance(result, StreamingReply):
                self._stream(request_id, result)
                return
            body, content_type = _marshalled(result)
        except RuntimeApiError:
            raise
        except Exception as error:  # noqa: BLE001  (the outermost frame of a handler)
            self._fail(failure_of(error, request_id=request_id))
            return
        if self._api.reply(request_id, body, content_type=content_type) == 413:
            self._fail({**_TOO_LARGE, "requestId": request_id, "stackTrace": []})

    def _call(self, invocation: Response) -> Any:
        try:
            event = json.loads(invocation.body)
            context = LambdaContext(invocation.headers)
        except (ValueError, RecursionError) as error:  # RecursionError: nested too deep
            raise LoadError("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from error
        return self._awaited(self._handler(event, context))

    def _awaited(self, result: Any) -> Any:
        if not hasattr(result, "__await__"):
            return result

        async def wait() -> Any:
            return await result

        return self._running_loop().run_until_complete(wait())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def _fail(self, failure: Failure) -> None:
        _log_failure(failure)
        self._api.fail(failure["requestId"], failure)

    # -- streamed replies --

    def _stream(self, request_id: str, reply: StreamingReply) -> None:
        """Send a streamed reply. Raises what the reply raises before its first chunk."""
        chunks = self._chunks(reply)
        try:
            first = next(chunks, b"")
            body: Iterator[bytes | Failure] = chain((_prelude(reply), first), _reporting(chunks, request_id))
            content_type = reply.content_type if reply.head is None else HTTP_CONTENT_TYPE
            self._api.stream(request_id, body, content_type=content_type)
        finally:
            chunks.close()

    def _chunks(self, reply: StreamingReply) -> Any:
        if not hasattr(reply.chunks, "__aiter__"):
            yield from reply.chunks
            return
        remaining = reply.chunks.__aiter__()
        while (chunk := self._awaited(anext(remaining, None))) is not None:
            yield chunk


def _prelude(reply: StreamingReply) -> bytes:
    return b"" if reply.head is None else json.dumps(reply.head).encode() + PRELUDE_END


def _reporting(chunks: Iterator[bytes], request_id: str) -> Iterator[bytes | Failure]:
    """Yield the chunks; if they raise, the failure as the last one."""
    try:
        yield from chunks
    except Exception as error:  # noqa: BLE001  (the outermost frame of a handler)
        failure = failure_of(error, request_id=request_id)
        _log_failure(failure)
        yield failure


def _marshalled(result: Any) -> tuple[bytes, str]:
    """Return the result's bytes and content type. Raises MarshalError."""
    if isinstance(result, bytes):
        return result, "application/octet-stream"
    try:
        return json.dumps(result).encode(), "application/json"
    except (TypeError, ValueError, RecursionError) as error:
        raise MarshalError(f"Unable to marshal response: {error}") from error


def _set_trace_id(trace_id: str | None) -> None:
    """Where AWS's X-Ray SDK and OpenTelemetry look for it."""
    if trace_id is None:
        os.environ.pop(_TRACE_ID, None)
    else:
        os.environ[_TRACE_ID] = trace_id


class _LogFormat(logging.Formatter):
    """The line that the managed runtimes write, with the request's id in it."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("[%(levelname)s]\t%(asctime)s\t%(aws_request_id)s\t%(message)s")
        self.request_id = ""

    def format(self, record: logging.LogRecord) -> str:
        record.aws_request_id = self.request_id
        return super().format(record)


_log_format = _LogFormat()


def _set_up_output() -> None:
    """Log records and prints go out line by line, as on AWS: whoever captures our output sees them when they happen."""
    from time import gmtime

    _log_format.converter = gmtime
    writer = logging.StreamHandler(sys.stdout)
    writer.setFormatter(_log_format)
    logging.getLogger().addHandler(writer)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def _log_failure(failure: Failure) -> None:
    lines = [f"[ERROR] {failure['errorType']}: {failure['errorMessage']}"]
    if failure["stackTrace"]:
        lines += ["Traceback (most recent call last):", *failure["stackTrace"]]
    # AWS's convention: a carriage return keeps the lines of one event together.
    text = "\r".join(line.rstrip("\n").replace("\n", "\r") for line in lines)
    # An error may quote its event, and JSON may hold half a surrogate pair: no text that can be written.
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def main(arguments: list[str]) -> int:
    """Run the handler named by the argument or _HANDLER. The exit code: 1 if it cannot be loaded or the Runtime API is
    gone.
    """
    name = arguments[0] if arguments else os.environ.get("_HANDLER", "")
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not name or not address:
        sys.stderr.write("usage: AWS_LAMBDA_RUNTIME_API=HOST:PORT python -m lambda_fn.runtime MODULE.HANDLER\n")
        return 2
    _set_up_output()
    sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT") or str(os.curdir))
    api = RuntimeApi(address)
    try:
        try:
            handler = load(name)
        except Exception as error:  # noqa: BLE001  (the outermost frame of the module's own code)
            failure = failure_of(error)
            _log_failure(failure)
            api.fail_init(failure)
            return 1
        Runtime(api, handler).run()
    except RuntimeApiError as error:
        sys.stderr.write(f"lambda_fn.runtime: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        api.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
