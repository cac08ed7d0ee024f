"""Turns answers of the Lambda API and of failed functions into errors that know their status. docs/statuses.md
has all messages.

`refusal_of` reads an HTTP error of the API by its type, `failure_of` the body that comes with X-Amz-Function-Error. The
client gets the bridge's own text with the function's name. AWS's text may quote the bridge's identity. It goes only to
the log, as a note of the exception (`__notes__`). There is one exception: AWS's text about the request itself
(InvalidParameterValue and its relatives) reaches the client, bounded, because only that text says what was wrong.
"""

from __future__ import annotations

import re

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from bridge.aws.invoke import MAX_REPLY, MAX_REQUEST
from bridge.rpc.errors import (
    AccessRefused,
    AlreadyStarted,
    AwsRefusal,
    FunctionFailed,
    FunctionNotFound,
    FunctionTimedOut,
    Misconfigured,
    NotStarted,
    PayloadTooLarge,
    Quota,
    QuotaExceeded,
    ReplyTooLarge,
    RequestRefused,
    RpcError,
    ServiceFailed,
    StaleCredentials,
    Throttled,
)
from bridge.rpc.json_text import without_mark

# -- the API refuses ---------------------------------------------------------------------------------------------------

_BUSY = "AWS throttles {function} ({cause}): call again later, or raise the limit that was met"
_SOON = "AWS cannot start {function} yet ({cause}): call again later"
_ACCESS = (
    "AWS refuses the bridge's credentials for {function} ({cause}):"
    " they need lambda:InvokeFunction on it; the bridge's log has the details"
)
_STALE = "AWS refuses the bridge's signature for {function} ({cause}): its credentials or its clock are out of date"
_MISSING = "Lambda has no function {function} ({cause}): check its name, alias, account, region and endpoint"
_TOO_LARGE = f"the event for {{function}} is above Lambda's limit of {MAX_REQUEST} bytes ({{cause}})"
_KEY = "{function} cannot start ({cause}): Lambda cannot use the KMS key of its environment variables"
_NETWORK = "{function} cannot start ({cause}): its VPC configuration must be fixed"
_MOUNT = "{function} cannot start ({cause}): its file system cannot be mounted"
_CODE = "{function} cannot start ({cause}): its runtime or its code must be fixed"
_CALL = "Lambda finds fault with the call to {function} ({cause})"
_QUOTA = "a quota of the AWS account is used up, {function} was not called ({cause}): ask AWS to raise it, or call less"
_STARTED = (
    "another request has used the same execution name at {function} ({cause}): a repeat must be equal to the first"
    " request, and a new request needs a new name"
)
_UNSURE = "Lambda failed while it served {function} ({cause}); the function may have run"

_REFUSALS: dict[str, tuple[type[AwsRefusal], str]] = {
    "TooManyRequests": (Throttled, _BUSY),
    "Throttling": (Throttled, _BUSY),
    "Throttled": (Throttled, _BUSY),
    "RequestLimitExceeded": (Throttled, _BUSY),
    # A temporary problem stopped the set-up of the function. It was not started.
    "EC2Throttled": (NotStarted, _SOON),
    "EC2Unexpected": (NotStarted, _SOON),
    "ENILimitReached": (NotStarted, _SOON),
    "ENINotReady": (NotStarted, _SOON),
    "SubnetIPAddressLimitReached": (NotStarted, _SOON),
    "ResourceNotReady": (NotStarted, _SOON),
    "ResourceConflict": (NotStarted, _SOON),
    "CodeArtifactUserPending": (NotStarted, _SOON),
    "SnapStartNotReady": (NotStarted, _SOON),
    "SnapStartTimeout": (NotStarted, _SOON),
    "EFSMountConnectivity": (NotStarted, _SOON),
    "EFSMountTimeout": (NotStarted, _SOON),
    "S3FilesMountConnectivity": (NotStarted, _SOON),
    "S3FilesMountTimeout": (NotStarted, _SOON),
    # The function was not started. It will not start until somebody fixes it, whatever the HTTP status says.
    "KMSAccessDenied": (Misconfigured, _KEY),
    "KMSDisabled": (Misconfigured, _KEY),
    "KMSInvalidState": (Misconfigured, _KEY),
    "KMSNotFound": (Misconfigured, _KEY),
    "EC2AccessDenied": (Misconfigured, _NETWORK),
    "InvalidSubnetID": (Misconfigured, _NETWORK),
    "InvalidSecurityGroupID": (Misconfigured, _NETWORK),
    "EFSMountFailure": (Misconfigured, _MOUNT),
    "S3FilesMountFailure": (Misconfigured, _MOUNT),
    "InvalidRuntime": (Misconfigured, _CODE),
    "InvalidZipFile": (Misconfigured, _CODE),
    "RuntimeAliasDeleted": (Misconfigured, _CODE),
    "RuntimeVersionDeleted": (Misconfigured, _CODE),
    "CodeArtifactUserDeleted": (Misconfigured, _CODE),
    "CodeArtifactUserFailed": (Misconfigured, _CODE),
    "SnapStart": (Misconfigured, _CODE),
    "SnapStartRegenerationFailure": (Misconfigured, _CODE),
    "ResourceNotFound": (FunctionNotFound, _MISSING),
    "RequestTooLarge": (PayloadTooLarge, _TOO_LARGE),
    "RequestEntityTooLarge": (PayloadTooLarge, _TOO_LARGE),
    "SerializedRequestEntityTooLarge": (PayloadTooLarge, _TOO_LARGE),
    "AccessDenied": (AccessRefused, _ACCESS),
    "NotAuthorized": (AccessRefused, _ACCESS),
    "OptInRequired": (AccessRefused, _ACCESS),
    "MissingAuthenticationToken": (AccessRefused, _ACCESS),
    "IncompleteSignature": (AccessRefused, _ACCESS),
    # Fresh credentials or a corrected clock may help.
    "ExpiredToken": (StaleCredentials, _STALE),
    "InvalidSignature": (StaleCredentials, _STALE),
    "SignatureDoesNotMatch": (StaleCredentials, _STALE),
    "UnrecognizedClient": (StaleCredentials, _STALE),
    "InvalidClientTokenId": (StaleCredentials, _STALE),
    "RequestExpired": (StaleCredentials, _STALE),
    "RequestTimeTooSkewed": (StaleCredentials, _STALE),
    "InvalidRequestContent": (RequestRefused, _CALL),
    "InvalidParameterValue": (RequestRefused, _CALL),
    "NoPublishedVersion": (RequestRefused, _CALL),
    "RecursiveInvocation": (RequestRefused, _CALL),
    "UnsupportedMediaType": (RequestRefused, _CALL),
    "ModeNotSupported": (RequestRefused, _CALL),
    "DurableExecutionAlreadyStarted": (AlreadyStarted, _STARTED),
    "ServiceQuotaExceeded": (QuotaExceeded, _QUOTA),
    # Nothing proves that the function did not run.
    "Service": (ServiceFailed, _UNSURE),
    "ServiceUnavailable": (ServiceFailed, _UNSURE),
    "InternalFailure": (ServiceFailed, _UNSURE),
    "InternalServerError": (ServiceFailed, _UNSURE),
    "EFSIO": (ServiceFailed, _UNSURE),
}
"""By type, without `Exception` at its end. The Invoke model of botocore, and the errors common to all of AWS."""

_QUOTAS: dict[str, Quota] = {
    "ConcurrentInvocationLimitExceeded": Quota.ACCOUNT,
    "FunctionInvocationRateLimitExceeded": Quota.RATE,
    "ReservedFunctionInvocationRateLimitExceeded": Quota.RATE,
    "CallerRateLimitExceeded": Quota.RATE,
    # Without a reason: what all of AWS's APIs say of too many requests a second.
    "Throttling": Quota.RATE,
    "Throttled": Quota.RATE,
    "RequestLimitExceeded": Quota.RATE,
}
"""By the reason of a throttle (ThrottleReason in botocore's model of Lambda), else by its type. All others speak of the
function's own calls at a time.
"""

_OF_STATUS: dict[int, tuple[type[AwsRefusal], str]] = {
    403: (AccessRefused, _ACCESS),
    404: (FunctionNotFound, _MISSING),
    413: (PayloadTooLarge, _TOO_LARGE),
    429: (Throttled, _BUSY),
}
"""For unknown error types."""

_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,80}").fullmatch


def refusal_of(
    *,
    http_status: int,
    error_type: str,
    message: str,
    reason: str,
    retry_after: float | None,
    function: str,
) -> AwsRefusal:
    """Return the cause behind an HTTP error of Invoke. `error_type` is x-amzn-ErrorType, `reason` a throttle's reason,
    "" if absent.
    """
    name = _plain_type(error_type)
    kind, text = _rule_for(http_status, name)
    throttle_reason = reason if kind is Throttled and _TYPE(reason) else ""
    cause = throttle_reason or name or f"HTTP {http_status} without an error type"
    note = _short(message)
    told = text.format(function=function, cause=cause)
    if text is _CALL and _is_for_the_client(name, note):
        told = f"{told}: {note}"
    error = kind(told, error_type=name, retry_after=retry_after)
    if isinstance(error, Throttled):
        error.throttle_reason = throttle_reason
        error.quota = _QUOTAS.get(throttle_reason or name.removesuffix("Exception"), Quota.FUNCTION)
    if note:
        error.add_note(f"AWS: {note}")
    return error


def _plain_type(error_type: str) -> str:
    """`Name` of `com.amazonaws.lambda#Name:http://…`; empty for what cannot be one."""
    name = error_type.partition(":")[0].rpartition("#")[2].strip()
    return name if _TYPE(name) else ""


def _rule_for(http_status: int, name: str) -> tuple[type[AwsRefusal], str]:
    # Lambda has refused large requests under types that its model does not list, but always with 413.
    if http_status == 413:
        return _OF_STATUS[413]
    known = _REFUSALS.get(name.removesuffix("Exception"))
    if known is not None:
        return known
    fallback = (ServiceFailed, _UNSURE) if http_status >= 500 else (RequestRefused, _CALL)
    return _OF_STATUS.get(http_status, fallback)


_MAX_TEXT = 500
"""Characters of another program's text in a message. Clients fail on statuses of a few KiB."""


def _short(text: str) -> str:
    """Return the first line that is not empty, bounded. Later lines hold traces, or the parts of a bad signature."""
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"


def _is_for_the_client(name: str, note: str) -> bool:
    """Whether AWS's text is about the request: it came with a type that is known, and names no role or user."""
    is_known = name.removesuffix("Exception") in _REFUSALS
    return is_known and bool(note) and note.isprintable() and not _names_an_identity(note)


_names_an_identity = re.compile(r"arn:[a-z0-9-]{1,20}:(?:iam|sts):").search


# -- the function fails ------------------------------------------------------------------------------------------------


class _Failure(Struct, gc=False):
    """The body of a function error; runtimes of all kinds write it."""

    errorType: object = None  # noqa: N815 - the wire's name
    errorMessage: object = None  # noqa: N815


_decode_failure = Decoder(_Failure).decode

_TIMEOUT_TYPES = frozenset(("Sandbox.Timedout", "Sandbox.Timeout"))
_OUT_OF_MEMORY_TYPES = frozenset(("Runtime.OutOfMemory",))
_TOO_LARGE_TYPES = frozenset(("Function.ResponseSizeTooLarge",))

_INIT_SECONDS = 10.0
"""Lambda's limit for starting (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html). The error
is that of a timeout of 10 s.
"""
_IF_STARTING = (
    "; if it was still starting, that does not help, because Lambda gives it 10 s to start: import less, import later,"
    " or use SnapStart"
)

_TIMED_OUT = re.compile(r"Task timed out after (\d{1,9}(?:\.\d{1,6})?) seconds")
_REQUEST_ID_PREFIX = re.compile(r"^RequestId: [0-9A-Za-z-]{1,64} (?:Error: )?")


def failure_of(payload: bytes, *, function: str) -> RpcError:
    """Return the cause in the body of a reply that has X-Amz-Function-Error: the function or its start failed."""
    error_type, message = _read_failure(payload)
    timed_out = _TIMED_OUT.search(message)
    if error_type in _TIMEOUT_TYPES or (timed_out and not error_type):
        seconds = float(timed_out[1]) if timed_out else None
        after = "" if seconds is None else f" after {seconds:g} s"
        text = f"{function} ran out of its own time{after}: raise the function's timeout"
        return FunctionTimedOut(text + _IF_STARTING if seconds == _INIT_SECONDS else text)
    if error_type in _TOO_LARGE_TYPES:
        return ReplyTooLarge(f"the reply of {function} is above Lambda's limit of {MAX_REPLY} bytes")
    if error_type in _OUT_OF_MEMORY_TYPES or _was_killed(error_type, message):
        return FunctionFailed(f"{function} was killed, most likely out of memory: raise the function's memory")
    told = ": ".join(part for part in (_short(error_type), _short(message)) if part)
    failed = FunctionFailed(f"{function} failed: {told or 'it gave no reason'}")
    failed.error_type, failed.error_message = error_type, message
    return failed


def _was_killed(error_type: str, message: str) -> bool:
    return error_type == "Runtime.ExitError" and "signal: killed" in message


def _read_failure(payload: bytes) -> tuple[str, str]:
    """Type and message; a body that is not the JSON object is itself the message."""
    try:
        failure = _decode_failure(without_mark(payload))
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return "", payload[: 4 * _MAX_TEXT].decode("utf-8", "replace")
    error_type = failure.errorType if isinstance(failure.errorType, str) else ""
    message = failure.errorMessage if isinstance(failure.errorMessage, str) else ""
    return error_type, _REQUEST_ID_PREFIX.sub("", message)


# -- the platform of a Web Function fails ------------------------------------------------------------------------------

_WEB_TIMEOUT = "Runtime.RequestTimeout"


def web_failure_of(http_status: int, error_type: str, *, function: str) -> RpcError | None:
    """Return the cause behind an HTTP error with `lambda-web-error-type`. None: the type says less than the HTTP
    status.

    AWS documents `Prefix.Reason` and only two values: `Runtime.RequestTimeout` and
    `Platform.InvalidNetworkConfiguration`. Others are read by their prefix.
    """
    if not _TYPE(error_type):
        return None
    if error_type == _WEB_TIMEOUT:
        return FunctionTimedOut(f"{function} ran out of its own time: raise the Web Function's timeout")
    prefix, _, reason = error_type.partition(".")
    if prefix == "Platform" and reason.startswith("Invalid"):
        text = f"{function} cannot start ({error_type}): the configuration of the Web Function must be fixed"
        return Misconfigured(text, error_type=error_type)
    if prefix == "Platform" and http_status >= 500:
        return ServiceFailed(_UNSURE.format(function=function, cause=error_type), error_type=error_type)
    if prefix == "Runtime" and http_status >= 500:
        return FunctionFailed(f"{function} failed: {error_type}")
    return None
