from __future__ import annotations

import json

import botocore.session
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.aws.errors import failure_of, refusal_of, web_failure_of
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
from bridge.rpc.status import StatusCode


def refusal(
    error_type: str,
    http_status: int = 400,
    *,
    message: str = "",
    reason: str = "",
    retry_after: float | None = None,
) -> RpcError:
    return refusal_of(
        http_status=http_status,
        error_type=error_type,
        message=message,
        reason=reason,
        retry_after=retry_after,
        function="greeter:live",
    )


# -- refusals ----------------------------------------------------------------------------------------------------------

SEVERAL = {
    Throttled: ["TooManyRequestsException", "ThrottlingException", "ThrottledException"],
    NotStarted: [
        "EC2ThrottledException",
        "EC2UnexpectedException",
        "ENILimitReachedException",
        "SubnetIPAddressLimitReachedException",
        "ResourceNotReadyException",
        "ResourceConflictException",
        "SnapStartNotReadyException",
        "SnapStartTimeoutException",
        "EFSMountConnectivityException",
        "EFSMountTimeoutException",
        "S3FilesMountConnectivityException",
        "S3FilesMountTimeoutException",
        "ENINotReadyException",
        "CodeArtifactUserPendingException",
    ],
    Misconfigured: [
        "EC2AccessDeniedException",
        "InvalidSubnetIDException",
        "InvalidSecurityGroupIDException",
        "InvalidRuntimeException",
        "InvalidZipFileException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "SnapStartException",
        "EFSMountFailureException",
        "S3FilesMountFailureException",
        "RuntimeAliasDeletedException",
        "CodeArtifactUserFailedException",
    ],
    ServiceFailed: ["ServiceException", "EFSIOException", "InternalFailure", "ServiceUnavailable"],
    FunctionNotFound: ["ResourceNotFoundException"],
    PayloadTooLarge: [
        "RequestTooLargeException",
        "RequestEntityTooLargeException",
        "SerializedRequestEntityTooLargeException",
    ],
    RequestRefused: [
        "InvalidRequestContentException",
        "InvalidParameterValueException",
        "NoPublishedVersionException",
        "RecursiveInvocationException",
        "UnsupportedMediaTypeException",
    ],
    AlreadyStarted: ["DurableExecutionAlreadyStartedException"],
    QuotaExceeded: ["ServiceQuotaExceededException"],
    AccessRefused: ["AccessDeniedException", "AccessDenied", "MissingAuthenticationTokenException"],
    StaleCredentials: [
        "ExpiredTokenException",
        "ExpiredToken",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "RequestExpired",
        "RequestTimeTooSkewed",
    ],
}


@pytest.mark.parametrize(
    ("kind", "error_type"),
    [(kind, error_type) for kind, types in SEVERAL.items() for error_type in types],
)
@pytest.mark.parametrize("http_status", [400, 403, 429, 500, 502])
def test_the_type_decides(kind: type[RpcError], error_type: str, http_status: int) -> None:
    """Never the HTTP status alone: several permanent faults of a function come as 502, several passing ones as 4xx."""
    error = refusal(error_type, http_status)

    assert kind is type(error)
    assert "greeter:live" in str(error)


def test_every_error_of_the_model_has_its_entry() -> None:
    """The independent list: what botocore says Invoke may raise. None may fall back on its HTTP status."""
    model = botocore.session.get_session().get_service_model("lambda")
    shapes = {
        shape.name
        for name in ("Invoke", "InvokeWithResponseStream")
        for shape in model.operation_model(name).error_shapes
    }

    assert len(shapes) > 40
    for name in shapes:
        # An unlisted type would be RequestRefused under one of these and ServiceFailed under the other.
        assert type(refusal(name, 418)) is type(refusal(name, 599)), name


@pytest.mark.parametrize(
    "sent",
    [
        "ServiceException",
        "ServiceException:http://internal.amazon.com/coral/com.amazonaws.awsgirapi/",
        "com.amazonaws.lambda#ServiceException",
        "com.amazonaws.lambda#ServiceException:http://x",
        " ServiceException ",
    ],
)
def test_types_come_with_namespaces_and_addresses(sent: str) -> None:
    error = refusal(sent, 500)

    assert isinstance(error, ServiceFailed)
    assert "ServiceException" == error.error_type
    assert "http" not in str(error)


@pytest.mark.parametrize(
    ("http_status", "kind"),
    [
        (400, RequestRefused),
        (402, RequestRefused),
        (403, AccessRefused),
        (404, FunctionNotFound),
        (413, PayloadTooLarge),
        (429, Throttled),
        (301, RequestRefused),
        (500, ServiceFailed),
        (502, ServiceFailed),
        (503, ServiceFailed),
    ],
)
@pytest.mark.parametrize("error_type", ["", "SomethingNewException", "\r\nset-cookie: x", "x" * 500])
def test_unknown_types_by_http_status(http_status: int, kind: type[RpcError], error_type: str) -> None:
    """A failure that may have run is never taken for one that did not."""
    error = refusal(error_type, http_status)

    assert kind is type(error)
    assert str(error).isprintable()
    assert len(str(error)) < 250


@pytest.mark.parametrize("error_type", ["", "ServiceException", "InvalidParameterValueException"])
def test_413_is_too_large_whatever_its_type(error_type: str) -> None:
    error = refusal(error_type, 413)

    assert StatusCode.RESOURCE_EXHAUSTED is error.code
    assert "6291456" in str(error)


@pytest.mark.parametrize(
    ("error_type", "code", "may_have_run", "is_transient"),
    [
        ("TooManyRequestsException", StatusCode.UNAVAILABLE, False, True),
        ("ResourceNotReadyException", StatusCode.UNAVAILABLE, False, True),
        ("ServiceException", StatusCode.UNAVAILABLE, True, False),
        ("EFSIOException", StatusCode.UNAVAILABLE, True, False),
        ("KMSDisabledException", StatusCode.INTERNAL, False, False),
        ("ResourceNotFoundException", StatusCode.UNIMPLEMENTED, False, False),
        ("AccessDeniedException", StatusCode.PERMISSION_DENIED, False, False),
        ("RequestTooLargeException", StatusCode.RESOURCE_EXHAUSTED, False, False),
        ("ServiceQuotaExceededException", StatusCode.RESOURCE_EXHAUSTED, False, False),
    ],
)
def test_what_a_refusal_means(error_type: str, code: StatusCode, may_have_run: bool, is_transient: bool) -> None:
    error = refusal(error_type, 500)

    assert (code, may_have_run, is_transient) == (
        error.code,
        error.may_have_run,
        error.is_transient,
    )


def test_throttling_tells_its_reason_and_when_to_return() -> None:
    error = refusal(
        "TooManyRequestsException",
        429,
        reason="ReservedFunctionConcurrentInvocationLimitExceeded",
        retry_after=2.0,
    )

    assert isinstance(error, Throttled)
    assert "ReservedFunctionConcurrentInvocationLimitExceeded" == error.throttle_reason
    assert "ReservedFunctionConcurrentInvocationLimitExceeded" in str(error)
    assert (("grpc-retry-pushback-ms", "2000"),) == error.trailing


@pytest.mark.parametrize(
    ("error_type", "reason", "quota"),
    [
        ("TooManyRequestsException", "ReservedFunctionConcurrentInvocationLimitExceeded", Quota.FUNCTION),
        ("TooManyRequestsException", "ConcurrentSnapshotCreateLimitExceeded", Quota.FUNCTION),
        ("TooManyRequestsException", "ConcurrentInvocationLimitExceeded", Quota.ACCOUNT),
        ("TooManyRequestsException", "FunctionInvocationRateLimitExceeded", Quota.RATE),
        ("TooManyRequestsException", "ReservedFunctionInvocationRateLimitExceeded", Quota.RATE),
        ("TooManyRequestsException", "CallerRateLimitExceeded", Quota.RATE),
        ("TooManyRequestsException", "", Quota.FUNCTION),
        ("ThrottlingException", "", Quota.RATE),
        ("RequestLimitExceeded", "", Quota.RATE),
        ("", "", Quota.FUNCTION),
    ],
)
def test_a_throttle_says_what_is_used_up(error_type: str, reason: str, quota: Quota) -> None:
    error = refusal(error_type, 429, reason=reason)

    assert isinstance(error, Throttled)
    assert quota is error.quota


def test_reason_that_is_no_word_is_dropped() -> None:
    """It would become a metric label."""
    error = refusal("TooManyRequestsException", 429, reason="a b\n" * 100)

    assert isinstance(error, Throttled)
    assert "" == error.throttle_reason


@pytest.mark.parametrize("error_type", [*SEVERAL[RequestRefused], "ModeNotSupportedException"])
def test_what_aws_says_about_the_request_reaches_the_caller(error_type: str) -> None:
    """Only AWS's text says which parameter is wrong. It is bounded, and its later lines stay in the log."""
    error = refusal(error_type, 400, message="Unknown tenant mode.\nRequestId: 1")
    long = refusal(error_type, 400, message="x" * 5000)

    assert str(error).endswith(": Unknown tenant mode.")
    assert len(str(long)) < 700


@pytest.mark.parametrize("error_type", ["InvalidParameterValueException", "SomethingNewException", ""])
def test_a_text_that_may_name_the_bridge_stays_in_the_log(error_type: str) -> None:
    """Unknown types may say anything, and a known one may quote the role that called."""
    error = refusal(error_type, 400, message="arn:aws:sts::123456789012:assumed-role/bridge/i-1 may not pass a tenant")

    assert "123456789012" not in str(error)
    assert any("123456789012" in note for note in error.__notes__)


def test_our_identity_is_for_the_log_alone() -> None:
    """AWS's text on a refused access names who we are."""
    text = "User: arn:aws:sts::123456789012:assumed-role/bridge/i-1 is not authorized to perform: lambda:InvokeFunction"

    error = refusal("AccessDeniedException", 403, message=text)

    assert "123456789012" not in str(error)
    assert [f"AWS: {text}"] == error.__notes__


def test_no_secret_even_in_the_log() -> None:
    """AWS answers a wrong signature with all that it signed, the session token among it."""
    text = (
        "The request signature we calculated does not match the signature you provided.\n\n"
        "The Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:SECRET\n'"
    )

    error = refusal("InvalidSignatureException", 403, message=text)

    assert "SECRET" not in str(error)
    assert not [note for note in error.__notes__ if "SECRET" in note]


@given(http_status=st.integers(300, 599), error_type=st.text(), message=st.text(), reason=st.text())
def test_any_refusal_is_readable(http_status: int, error_type: str, message: str, reason: str) -> None:
    error = refusal(error_type, http_status, message=message, reason=reason)

    assert isinstance(error, AwsRefusal)
    assert str(error).isprintable()


# -- failures ----------------------------------------------------------------------------------------------------------


def failure(error_type: object = None, message: object = None, **more: object) -> RpcError:
    body = {"errorType": error_type, "errorMessage": message, **more}
    return failure_of(json.dumps(body).encode(), function="greeter")


def test_raised() -> None:
    """Type and message reach the client; the trace does not."""
    error = failure("ValueError", "no such name\n  File x.py", stackTrace=["  File secret.py, line 3"])

    assert isinstance(error, FunctionFailed)
    assert StatusCode.INTERNAL is error.code
    assert "greeter failed: ValueError: no such name" == str(error)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (
            (
                b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 1f0c Error: '
                b'Task timed out after 1.00 seconds"}'
            ),
            "1 s",
        ),
        (b'{"errorMessage":"2026-03-12T19:03:58.000Z 1f0c Task timed out after 2.50 seconds"}', "2.5 s"),
        (b"Task timed out after 3.00 seconds", "3 s"),
        (b'{"errorType":"Sandbox.Timeout"}', ""),
    ],
)
def test_timed_out(body: bytes, seconds: str) -> None:
    """In the forms of Lambda, of older Lambda, and of AWS's local emulator."""
    error = failure_of(body, function="greeter")

    assert isinstance(error, FunctionTimedOut)
    assert StatusCode.DEADLINE_EXCEEDED is error.code
    assert seconds in str(error)


def test_an_exception_that_speaks_of_time_is_no_timeout() -> None:
    assert isinstance(failure("RuntimeError", "Task timed out after 3.00 seconds"), FunctionFailed)


@pytest.mark.parametrize(
    ("error_type", "message"),
    [
        ("Runtime.ExitError", "RequestId: 1f0c Error: Runtime exited with error: signal: killed"),
        ("Runtime.OutOfMemory", "RequestId: 1f0c Error: Runtime exited"),
    ],
)
def test_out_of_memory(error_type: str, message: str) -> None:
    """The cause that is nearly always behind a killed runtime is named, with the remedy."""
    assert "greeter was killed, most likely out of memory: raise the function's memory" == str(
        failure(error_type, message)
    )


def test_exit() -> None:
    error = failure("Runtime.ExitError", "RequestId: 1f0c-22 Error: Runtime exited with error: exit status 1")

    assert "greeter failed: Runtime.ExitError: Runtime exited with error: exit status 1" == str(error)


def test_reply_above_lambdas_limit() -> None:
    error = failure(
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    )

    assert isinstance(error, ReplyTooLarge)
    assert StatusCode.RESOURCE_EXHAUSTED is error.code
    assert "6291556" in str(error)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"errorType":5,"errorMessage":{"a":1}}'])
def test_no_reason(body: bytes) -> None:
    assert isinstance(failure_of(body, function="greeter"), FunctionFailed)


def test_long_messages_are_cut() -> None:
    assert len(str(failure("E" * 10_000, "m" * 10_000))) < 1100


@given(st.binary(max_size=200) | st.just(b"[" * 100_000))
@example(b'{"errorMessage":"\xff"}')
def test_any_body_is_a_failure(body: bytes) -> None:
    error = failure_of(body, function="greeter")

    assert isinstance(error, FunctionFailed | FunctionTimedOut)
    assert error.may_have_run


def test_a_failure_may_begin_with_a_byte_order_mark() -> None:
    error = failure_of(b'\xef\xbb\xbf{"errorType":"A","errorMessage":"b"}', function="greeter")

    assert "greeter failed: A: b" == str(error)


# -- the platform of a Web Function ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "code", "http_status", "error_type"),
    [
        (FunctionTimedOut, StatusCode.DEADLINE_EXCEEDED, 504, "Runtime.RequestTimeout"),
        (Misconfigured, StatusCode.INTERNAL, 502, "Platform.InvalidNetworkConfiguration"),
        (Misconfigured, StatusCode.INTERNAL, 502, "Platform.InvalidOther"),
        (ServiceFailed, StatusCode.UNAVAILABLE, 503, "Platform.Other"),
        (FunctionFailed, StatusCode.INTERNAL, 502, "Runtime.ExitError"),
    ],
)
def test_platform_errors_of_web_functions(
    expected: type[RpcError], code: StatusCode, http_status: int, error_type: str
) -> None:
    found = web_failure_of(http_status, error_type, function="https://w")

    assert type(found) is expected
    assert code is found.code
    assert "https://w" in str(found)


@pytest.mark.parametrize(
    ("http_status", "error_type"), [(502, "Other.Thing"), (404, "Platform.Other"), (502, "a b"), (502, "x" * 100)]
)
def test_unknown_platform_errors_leave_it_to_the_http_status(http_status: int, error_type: str) -> None:
    assert web_failure_of(http_status, error_type, function="https://w") is None


@pytest.mark.parametrize(("seconds", "is_said"), [("10.00", True), ("3.00", False), ("30.01", False)])
def test_the_limit_for_starting_is_said_where_it_may_have_passed(seconds: str, is_said: bool) -> None:
    """A raised timeout does not help a function that takes more than 10 s to start."""
    message = f"RequestId: 1f0c Error: Task timed out after {seconds} seconds"
    error = failure_of(
        json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": message}).encode(), function="orders"
    )

    assert is_said is ("Lambda gives it 10 s to start" in str(error))
    assert "raise the function's timeout" in str(error)
