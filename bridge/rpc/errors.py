"""The errors that can end a call, as a tree of causes.

Each cause knows its status code, whether the function may have run, and whether trying again may help. They are raised
where the fact is known; the layer `rescue` alone turns one into the Status that the client sees, with `str(error)` as
its message. A message says what happened, where, and what to do next; it never quotes another library's exception, a
secret or the bridge's identity.

    RpcError
      ClientGone  DeadlineExceeded  Draining  Bug  ConversionFailed
      RequestError     MalformedRequest  MessageTooLarge  UnsupportedCompression  UnsupportedCall  UnknownMethod
                       NoRoute  RequestStalled  FullDuplexNeeded  NotDuplex  TenantRefused  BadExecutionName
      RefusedCall      Overloaded  BuffersFull  QueueRefused  NotReady
      CarrierError     Unreachable  CertificateRefused  NotProcessed  ConnectionLost  AnswerLost
        AwsRefusal       Throttled  NotStarted  FunctionNotFound  Misconfigured  RequestRefused
          PayloadTooLarge  QuotaExceeded  AlreadyStarted  ServiceFailed  AccessRefused  StaleCredentials  HttpThrottled
        FunctionError    FunctionFailed  FunctionTimedOut  ReplyTooLarge
      ReplyError       NoStatus  CutReply  HttpRefusal  ServerReset
        BadReply         UnknownHttpStatus
"""

from __future__ import annotations

from enum import Enum

from bridge.rpc.metadata import EMPTY, EXECUTION_ARN, REQUEST_ID, Metadata
from bridge.rpc.status import Status, StatusCode

_LONGEST_PUSHBACK = 2**31 - 1


class RpcError(Exception):
    """A cause that ends a call. `str(error)` is what the client reads."""

    code = StatusCode.INTERNAL
    may_have_run = True
    """Whether the function may have seen the call: what may have run is never repeated."""
    is_transient = False
    """Whether the same call may succeed a moment later."""
    retry_after: float | None = None
    """Seconds that the other side asked us to wait, if it did."""
    request_id = ""
    """AWS's id of the request that failed, if it has one."""
    execution_arn = ""
    """That of the durable execution that failed, if it was one."""

    @property
    def reason(self) -> str:
        """A short constant for metrics and logs."""
        return type(self).__name__

    @property
    def status(self) -> Status:
        return Status(self.code, str(self))

    @property
    def trailing(self) -> Metadata:
        """Metadata that goes with the status."""
        request_id = ((REQUEST_ID, self.request_id),) if self.request_id else EMPTY
        return (*request_id, (EXECUTION_ARN, self.execution_arn)) if self.execution_arn else request_id


class ClientGone(RpcError):
    """The client reset the call or its connection ended."""

    code = StatusCode.CANCELLED


class DeadlineExceeded(RpcError):
    """The call's deadline passed before its status was known."""

    code = StatusCode.DEADLINE_EXCEEDED


class Draining(RpcError):
    """The bridge stops, and the time for calls in flight is over."""

    code = StatusCode.UNAVAILABLE


class Bug(RpcError):
    """An unexpected exception. The log has its traceback."""


def pushback(seconds: float | None) -> Metadata:
    """Tells the client when to try again (gRFC A6): milliseconds, in a signed 32-bit number. None: nothing is told."""
    if seconds is None:
        return EMPTY
    milliseconds = min(max(0, round(seconds * 1000)), _LONGEST_PUSHBACK)
    return (("grpc-retry-pushback-ms", str(milliseconds)),)


def copy_of(error: BaseException) -> BaseException:
    """Copy an error of ours that several calls get, because one that is raised again and again collects tracebacks."""
    if not isinstance(error, RpcError):
        return error
    again = type(error)(*error.args)
    again.__dict__.update(error.__dict__)
    if hasattr(error, "__notes__"):
        again.__notes__ = [*error.__notes__]
    again.__cause__ = error.__cause__
    return again


def forget_frames(error: BaseException) -> None:
    """Release what the frames of this error and its causes hold. It is for errors whose traceback is no longer needed.

    A frame with a variable for the error that it raised forms a reference cycle. Megabytes in that frame stay until the
    garbage collector runs, which counts objects and not bytes.
    """
    each: BaseException | None = error
    while each is not None and each.__traceback__ is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


# -- what the client sent ----------------------------------------------------------------------------------------------


class RequestError(RpcError):
    """The call cannot be served as the client sent it."""

    may_have_run = False


class MalformedRequest(RequestError):
    """A request that breaks the gRPC protocol."""


class MessageTooLarge(RequestError):
    """A message, or the whole request, is above a limit."""

    code = StatusCode.RESOURCE_EXHAUSTED


class UnsupportedCompression(RequestError):
    """The messages use a compression that the bridge cannot undo."""

    code = StatusCode.UNIMPLEMENTED

    @property
    def trailing(self) -> Metadata:
        # compression.md: the refusal lists what is understood.
        return (("grpc-accept-encoding", "identity,deflate,gzip"),)


class UnsupportedCall(RequestError):
    """The target's payload format cannot carry what the client sent: several messages, or not protobuf."""

    code = StatusCode.UNIMPLEMENTED


class UnknownMethod(RequestError):
    """A method that the target's descriptors lack, where messages cannot be read without."""

    code = StatusCode.UNIMPLEMENTED


class NoRoute(RequestError):
    """No entry of `services` matches the method."""

    code = StatusCode.UNIMPLEMENTED


class RequestStalled(RequestError):
    """The client sends too little for too long: a time limit on requests has passed."""

    code = StatusCode.DEADLINE_EXCEEDED


class FullDuplexNeeded(RequestError):
    """The client waits for an answer before it ends its side, and the target takes its input whole."""

    code = StatusCode.UNIMPLEMENTED


class NotDuplex(RequestError):
    """The function does not connect to the bridge, so it cannot take calls in full duplex."""

    code = StatusCode.UNIMPLEMENTED


class TenantRefused(RequestError):
    """The call does not say whose it is, so no function gets it."""

    code = StatusCode.UNAUTHENTICATED


class BadExecutionName(RequestError):
    """The client sent a text that cannot be the name of a durable execution."""

    code = StatusCode.INVALID_ARGUMENT


# -- what the bridge refuses -------------------------------------------------------------------------------------------


class RefusedCall(RpcError):
    """The bridge refuses the call before it does anything for it."""

    may_have_run = False


class Overloaded(RefusedCall):
    """Too many calls or too many bytes in flight."""

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def reason(self) -> str:
        return self.kind


class BuffersFull(Overloaded):
    """What a call needs to hold does not fit the process's buffers. Where that is its reply, the function has run."""

    may_have_run = True

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="buffers")


class QueueRefused(Overloaded):
    """The call cannot wait for its turn, or has waited too long."""

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        code: StatusCode = StatusCode.RESOURCE_EXHAUSTED,
        retry_after: float | None = None,
    ) -> None:
        """`code`: RESOURCE_EXHAUSTED, the route's `throttled_as` if AWS's throttles are the reason, or
        DEADLINE_EXCEEDED.
        """
        super().__init__(message, kind=kind)
        self.code = code
        self.retry_after = retry_after

    @property
    def trailing(self) -> Metadata:
        return (*pushback(self.retry_after), *super().trailing)


class NotReady(RefusedCall):
    """The bridge lacks something that it still seeks, such as credentials."""

    code = StatusCode.UNAVAILABLE


class ConversionFailed(RpcError):
    """The process that converts between protobuf and JSON died or took too long."""


# -- how the payload travelled -----------------------------------------------------------------------------------------


class CarrierError(RpcError):
    """The payload did not reach its target, or it is not known whether it did."""

    code = StatusCode.UNAVAILABLE


class Unreachable(CarrierError):
    """There is no connection, so not a byte of the request was processed."""

    may_have_run = False
    is_transient = True


class CertificateRefused(CarrierError):
    """The other side's certificate does not verify; trying again cannot help."""

    may_have_run = False


class NotProcessed(CarrierError):
    """An HTTP/2 server has not begun the call, and never will: it said so, or nothing of the call left (RFC 9113 6.8,
    8.7).
    """

    may_have_run = False
    is_transient = True


class ConnectionLost(CarrierError):
    """The connection ended after the request was sent, before the reply was whole."""


class AnswerLost(ConnectionLost):
    """The connection of a durable execution was lost. It may have run, but a repeat gets its result and runs nothing
    twice.
    """

    may_have_run = False
    is_transient = True


class AwsRefusal(CarrierError):
    """The Lambda API refused to start the function."""

    may_have_run = False
    body = b""
    """As it came; emulators put a function's failure there."""

    def __init__(self, message: str, *, error_type: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.retry_after = retry_after

    @property
    def trailing(self) -> Metadata:
        return (*pushback(self.retry_after), *super().trailing) if self.is_transient else super().trailing


class Quota(Enum):
    """What a throttled call has met."""

    FUNCTION = "calls at a time of the function"
    ACCOUNT = "calls at a time of all functions of the account, which share them"
    RATE = "calls a second"


class Throttled(AwsRefusal):
    """TooManyRequestsException, with AWS's reason for it; the code is the route's `throttled_as`."""

    is_transient = True
    quota = Quota.FUNCTION
    """What was used up."""

    def __init__(
        self,
        message: str,
        *,
        error_type: str = "",
        retry_after: float | None = None,
        throttle_reason: str = "",
    ) -> None:
        super().__init__(message, error_type=error_type, retry_after=retry_after)
        self.throttle_reason = throttle_reason


class HttpThrottled(Throttled):
    """HTTP 429 of any server. The function may have run, so the client may try again, but the bridge does not."""

    may_have_run = True
    is_transient = False

    @property
    def trailing(self) -> Metadata:
        return (*pushback(self.retry_after), *super().trailing)


class NotStarted(AwsRefusal):
    """The function did not start and may soon."""

    is_transient = True


class FunctionNotFound(AwsRefusal):
    """AWS knows no function of this name in this account and region."""

    code = StatusCode.UNIMPLEMENTED


class AccessRefused(AwsRefusal):
    """AWS refuses our credentials for this function."""

    code = StatusCode.PERMISSION_DENIED


class StaleCredentials(AccessRefused):
    """Expired, unknown or skewed in time: fresh credentials and the right clock may help, once."""


class Misconfigured(AwsRefusal):
    """Something about the function (key, network, mount, runtime) must be fixed first."""

    code = StatusCode.INTERNAL


class RequestRefused(AwsRefusal):
    """AWS finds the request itself at fault."""

    code = StatusCode.INTERNAL


class QuotaExceeded(AwsRefusal):
    """A quota of the account is used up (HTTP 402). A moment later it still is, so nothing is repeated."""

    code = StatusCode.RESOURCE_EXHAUSTED


class AlreadyStarted(AwsRefusal):
    """A durable execution of this name has another payload."""

    code = StatusCode.ALREADY_EXISTS


class PayloadTooLarge(AwsRefusal):
    """The event is above Lambda's limit."""

    code = StatusCode.RESOURCE_EXHAUSTED


class ServiceFailed(AwsRefusal):
    """Lambda itself failed. Nothing proves that the function did not run."""

    may_have_run = True


# -- what the function did ---------------------------------------------------------------------------------------------


class FunctionError(CarrierError):
    """The function was called, and failed."""

    code = StatusCode.INTERNAL


class FunctionFailed(FunctionError):
    """The function raised, crashed or ran out of memory."""

    error_type = ""
    """What it raised, as its runtime names it; empty if that is not known."""
    error_message = ""
    """What that said."""


class FunctionTimedOut(FunctionError):
    """The function's own time ran out."""

    code = StatusCode.DEADLINE_EXCEEDED


class ReplyTooLarge(FunctionError):
    """A reply, or a message in one, above a limit."""

    code = StatusCode.RESOURCE_EXHAUSTED


# -- what came back ----------------------------------------------------------------------------------------------------


class ReplyError(RpcError):
    """The reply cannot be read as the answer to a call."""


class BadReply(ReplyError):
    """A bad frame, base64 or JSON."""


class UnknownHttpStatus(BadReply):
    """An HTTP status outside 100 to 599. UNKNOWN, as for all that gRPC's http-grpc-status-mapping.md does not list."""

    code = StatusCode.UNKNOWN


class NoStatus(ReplyError):
    """HTTP 200 without a grpc-status."""

    code = StatusCode.UNKNOWN


class CutReply(ReplyError):
    """The reply ended before its trailers."""

    code = StatusCode.UNAVAILABLE


class HttpRefusal(ReplyError):
    """An HTTP error in place of a gRPC answer."""

    def __init__(self, message: str, *, code: StatusCode) -> None:
        super().__init__(message)
        self.code = code


class ServerReset(ReplyError):
    """A gRPC server ended the call by RST_STREAM, without a status."""

    def __init__(self, message: str, *, code: StatusCode) -> None:
        super().__init__(message)
        self.code = code
