"""The tree of causes: what each class says about its status and about trying again."""

import re

import pytest

from bridge.rpc import errors
from bridge.rpc.errors import RpcError
from bridge.rpc.status import Status, StatusCode

_NEVER_GENERATED = {
    # statuscodes.md, "codes that gRPC libraries never generate"; gRFC A54 says the same of control planes.
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.ALREADY_EXISTS,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.ABORTED,
    StatusCode.OUT_OF_RANGE,
    StatusCode.DATA_LOSS,
}

# class: (code, may_have_run, is_transient)
_CAUSES = {
    "ClientGone": (StatusCode.CANCELLED, True, False),
    "DeadlineExceeded": (StatusCode.DEADLINE_EXCEEDED, True, False),
    "Draining": (StatusCode.UNAVAILABLE, True, False),
    "Bug": (StatusCode.INTERNAL, True, False),
    "MalformedRequest": (StatusCode.INTERNAL, False, False),
    "MessageTooLarge": (StatusCode.RESOURCE_EXHAUSTED, False, False),
    "UnsupportedCompression": (StatusCode.UNIMPLEMENTED, False, False),
    "UnsupportedCall": (StatusCode.UNIMPLEMENTED, False, False),
    "UnknownMethod": (StatusCode.UNIMPLEMENTED, False, False),
    "NoRoute": (StatusCode.UNIMPLEMENTED, False, False),
    "FullDuplexNeeded": (StatusCode.UNIMPLEMENTED, False, False),
    "NotDuplex": (StatusCode.UNIMPLEMENTED, False, False),
    "TenantRefused": (StatusCode.UNAUTHENTICATED, False, False),
    "BadExecutionName": (StatusCode.INVALID_ARGUMENT, False, False),
    "RequestStalled": (StatusCode.DEADLINE_EXCEEDED, False, False),
    "Overloaded": (StatusCode.RESOURCE_EXHAUSTED, False, False),
    "BuffersFull": (StatusCode.RESOURCE_EXHAUSTED, True, False),
    "QueueRefused": (StatusCode.RESOURCE_EXHAUSTED, False, False),
    "NotReady": (StatusCode.UNAVAILABLE, False, False),
    "ConversionFailed": (StatusCode.INTERNAL, True, False),
    "Unreachable": (StatusCode.UNAVAILABLE, False, True),
    "CertificateRefused": (StatusCode.UNAVAILABLE, False, False),
    "NotProcessed": (StatusCode.UNAVAILABLE, False, True),
    "ConnectionLost": (StatusCode.UNAVAILABLE, True, False),
    "AnswerLost": (StatusCode.UNAVAILABLE, False, True),
    "Throttled": (StatusCode.UNAVAILABLE, False, True),
    "HttpThrottled": (StatusCode.UNAVAILABLE, True, False),
    "NotStarted": (StatusCode.UNAVAILABLE, False, True),
    "FunctionNotFound": (StatusCode.UNIMPLEMENTED, False, False),
    "AccessRefused": (StatusCode.PERMISSION_DENIED, False, False),
    "StaleCredentials": (StatusCode.PERMISSION_DENIED, False, False),
    "Misconfigured": (StatusCode.INTERNAL, False, False),
    "RequestRefused": (StatusCode.INTERNAL, False, False),
    "QuotaExceeded": (StatusCode.RESOURCE_EXHAUSTED, False, False),
    "AlreadyStarted": (StatusCode.ALREADY_EXISTS, False, False),
    "PayloadTooLarge": (StatusCode.RESOURCE_EXHAUSTED, False, False),
    "ServiceFailed": (StatusCode.UNAVAILABLE, True, False),
    "FunctionFailed": (StatusCode.INTERNAL, True, False),
    "FunctionTimedOut": (StatusCode.DEADLINE_EXCEEDED, True, False),
    "ReplyTooLarge": (StatusCode.RESOURCE_EXHAUSTED, True, False),
    "BadReply": (StatusCode.INTERNAL, True, False),
    "UnknownHttpStatus": (StatusCode.UNKNOWN, True, False),
    "NoStatus": (StatusCode.UNKNOWN, True, False),
    "CutReply": (StatusCode.UNAVAILABLE, True, False),
}
_GROUPS = {
    "RpcError",
    "RequestError",
    "RefusedCall",
    "CarrierError",
    "AwsRefusal",
    "FunctionError",
    "ReplyError",
}
_CLASSES = {name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, RpcError)}


@pytest.mark.parametrize("name", sorted(_CAUSES))
def test_cause_knows_its_status_and_its_safety(name: str) -> None:
    """The code, whether the function may have run, whether another try may help."""
    cause = _CLASSES[name]

    assert _CAUSES[name] == (cause.code, cause.may_have_run, cause.is_transient)


def test_no_cause_is_left_out() -> None:
    """Every class is a group, has its row above, or takes its code from an HTTP status or an HTTP/2 error."""
    assert _CLASSES.keys() == _CAUSES.keys() | _GROUPS | {"HttpRefusal", "ServerReset"}


def test_tree_in_the_docstring_names_each_class_once() -> None:
    """What a reader sees first is what there is."""
    drawn = re.findall(r"^ {4,}\S.*$", errors.__doc__ or "", re.MULTILINE)

    assert sorted(_CLASSES) == sorted(" ".join(drawn).split())


@pytest.mark.parametrize("name", sorted(_CLASSES))
def test_no_cause_uses_a_code_that_belongs_to_applications(name: str) -> None:
    """gRPC libraries must never generate these. The names of executions belong to the application, and so do their
    faults.
    """
    is_generated = _CLASSES[name].code not in _NEVER_GENERATED

    assert is_generated is (name not in {"AlreadyStarted", "BadExecutionName"})


@pytest.mark.parametrize("name", sorted(_CLASSES))
def test_transient_cause_cannot_have_run(name: str) -> None:
    """What may have run is never repeated, so it is not called transient."""
    cause = _CLASSES[name]

    assert not (cause.is_transient and cause.may_have_run)


def test_message_becomes_the_status() -> None:
    """`str(error)` is what the client reads; the class name is the reason."""
    error = errors.NoRoute("no service a.B here")

    assert Status(StatusCode.UNIMPLEMENTED, "no service a.B here") == error.status
    assert "NoRoute" == error.reason
    assert () == error.trailing


def test_overload_gives_its_kind_as_the_reason() -> None:
    """One class, several limits: the metric tells them apart."""
    assert "buffers" == errors.Overloaded("too much", kind="buffers").reason


@pytest.mark.parametrize(
    ("retry_after", "trailing"),
    [
        (None, ()),
        (1.5, (("grpc-retry-pushback-ms", "1500"),)),
        (0.0, (("grpc-retry-pushback-ms", "0"),)),
        (-1.0, (("grpc-retry-pushback-ms", "0"),)),
        (1e12, (("grpc-retry-pushback-ms", str(2**31 - 1)),)),
    ],
)
@pytest.mark.parametrize("cause", [errors.Throttled, errors.NotStarted, errors.HttpThrottled])
def test_retry_after_becomes_a_pushback(
    cause: type[errors.AwsRefusal], retry_after: float | None, trailing: object
) -> None:
    """gRFC A6: a signed 32-bit number of milliseconds; a negative one would forbid trying again."""
    assert trailing == cause("later", retry_after=retry_after).trailing


def test_final_refusal_pushes_nothing_back() -> None:
    """Trying again does not help, so nobody is told when to."""
    assert () == errors.Misconfigured("no key", retry_after=1.0).trailing


def test_http_refusal_takes_its_code_from_the_status() -> None:
    """HTTP says what went wrong."""
    refusal = errors.HttpRefusal("403 Forbidden", code=StatusCode.PERMISSION_DENIED)

    assert StatusCode.PERMISSION_DENIED is refusal.status.code


def test_a_copy_says_what_the_error_said_and_shares_nothing() -> None:
    """Several calls may get the failure of one attempt. What one of them adds is not the others'."""
    error = errors.Throttled("busy", error_type="TooManyRequestsException", retry_after=2.0)
    error.request_id = "r-1"
    error.__cause__ = OSError("refused")
    error.add_note("AWS: busy")

    again = errors.copy_of(error)
    again.add_note("later")
    assert isinstance(again, errors.Throttled)
    assert ("busy", 2.0, "r-1", error.__cause__) == (str(again), again.retry_after, again.request_id, again.__cause__)
    assert (["AWS: busy"], None) == (error.__notes__, again.__traceback__)
