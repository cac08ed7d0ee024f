"""What a function that failed gives its invoker: the bodies that go with `X-Amz-Function-Error`, in AWS's words.

A fact about the process or the runtime comes in, a `Failure` goes out. Nothing here knows HTTP, processes or time.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64

from msgspec import DecodeError, json

from bridge.rpc.json_text import without_mark
from bridge.rpc.value import FrozenValue

TOO_LARGE = "Function.ResponseSizeTooLarge"
TIMED_OUT = "Sandbox.Timedout"


class Failure(FrozenValue, frozen=True):
    """A function error: its type, for the log, and the body that the invoker reads."""

    error_type: str
    body: bytes
    notice: str = ""
    """What the function's log says; empty if the runtime reported the failure, for then it wrote of it itself."""


def timed_out(request_id: str, seconds: float) -> Failure:
    """Return the failure of an invocation whose time limit passed. Its process is killed."""
    return _failure(TIMED_OUT, f"Task timed out after {seconds:.2f} seconds", request_id)


def exited(request_id: str, exit_status: str) -> Failure:
    """Return the failure of a process that ended (`exit status 1`, `signal: killed`) before it answered. AWS reports a
    lack of memory like this, too.
    """
    how = f"with error: {exit_status}" if exit_status != "exit status 0" else "without providing a reason"
    return _failure("Runtime.ExitError", f"Runtime exited {how}", request_id)


def not_started(request_id: str, reason: str) -> Failure:
    """Return the failure of a process that could not be started at all."""
    return _failure("Runtime.InvalidEntrypoint", reason, request_id)


def truncated(request_id: str) -> Failure:
    """Return the failure of a runtime whose connection ended in the middle of its reply, while the process lives on."""
    return _failure("Runtime.TruncatedResponse", "Response was cut before its end", request_id)


def invalid_response_mode(request_id: str) -> Failure:
    return _failure("Runtime.InvalidResponseModeHeader", "Invalid function response mode", request_id)


def emulator_failed(request_id: str) -> Failure:
    """Return the failure of the local Lambda itself. Its log says how."""
    return _failure("Sandbox.Failure", "The local Lambda failed, see its log", request_id)


def too_large(limit: int) -> Failure:
    """Return the failure of a reply above `limit` bytes, in AWS's words."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return Failure(TOO_LARGE, _body(TOO_LARGE, message), message)


def reported(error_type: str, body: bytes) -> Failure:
    """Return what the runtime posted to `/error` or `/init/error`: the body goes to the invoker unchanged."""
    return Failure(error_type or _type_in(body), body)


def reported_in_trailers(error_type: str, encoded_body: str) -> Failure:
    """Return a streamed reply that ended in an error: its trailers carry the type and, in base64, the body."""
    try:
        body = b64decode(encoded_body, validate=True)
    except (NotBase64, ValueError):
        body = b""
    if not _type_in(body):
        body = _body(error_type, "The response stream ended with an error")
    return Failure(error_type, body)


def _type_in(body: bytes) -> str:
    try:
        return json.decode(without_mark(body), type=_Reported).errorType
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return ""


class _Reported(FrozenValue, frozen=True):
    errorType: str = ""  # noqa: N815 - the Runtime API's spelling


def _failure(error_type: str, message: str, request_id: str) -> Failure:
    text = f"RequestId: {request_id} Error: {message}"
    return Failure(error_type, _body(error_type, text), text)


def _body(error_type: str, message: str) -> bytes:
    return json.encode({"errorType": error_type, "errorMessage": message})
