from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.errors import failure_of
from bridge.aws.events.raw import ClientContext, encode_client_context, raised_status
from bridge.aws.invoke import MAX_CLIENT_CONTEXT
from bridge.rpc.call import Peer
from bridge.rpc.errors import FunctionFailed
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import CAMEL_CASE_NAMES, CODES, Status, StatusCode
from tests.support.fakes import RecordingCall


def context_of(metadata: Metadata, *, timeout: float | None = None) -> ClientContext:
    return encode_client_context(RecordingCall(metadata=metadata, peer=Peer("203.0.113.7")), metadata, timeout=timeout)


def custom(context: ClientContext) -> dict[str, str]:
    assert context.text is not None
    parsed: dict[str, dict[str, str]] = json.loads(b64decode(context.text))
    assert ["custom"] == list(parsed)
    return parsed["custom"]


def test_a_call_beside_its_message() -> None:
    """One flat object: repeated names joined, what is not the client's to say left out."""
    metadata = (
        ("user-agent", "x"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("t-bin", "AA"),
        ("x-amz-date", "forged"),
        ("x-odd", "a\nbü"),
        ("host", "forged"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-amzn-trace-id", "Root=1"),
    )

    assert {
        "grpc-method": "/test.v1.Echo/Say",
        "grpc-timeout": "1500m",
        "user-agent": "x",
        "x-a": "1,2",
        "t-bin": "AA",
        "x-odd": "ab",
        "x-amzn-trace-id": "Root=1",
        "x-forwarded-for": "1.2.3.4, 203.0.113.7",
    } == custom(context_of(metadata, timeout=1.5))


def test_metadata_that_does_not_fit() -> None:
    """It is left out whole, and the method stays."""
    context = context_of((("x-a", "v" * 3000),), timeout=1)

    assert not context.has_metadata
    assert {"grpc-method": "/test.v1.Echo/Say", "grpc-timeout": "1000m"} == custom(context)


def test_not_even_the_method_fits() -> None:
    call = RecordingCall("/" + "S" * 3000 + "/M")

    assert ClientContext(None, has_metadata=False) == encode_client_context(call, (), timeout=None)


@given(st.integers(0, 3000))
def test_the_limit_is_lambda_s(size: int) -> None:
    context = context_of((("x-a", "v" * size),))

    assert context.text is not None
    assert len(context.text) <= MAX_CLIENT_CONTEXT


def raised(error_type: object, message: str = "no such order") -> Status | None:
    failure = failure_of(json.dumps({"errorType": error_type, "errorMessage": message}).encode(), function="f")
    assert isinstance(failure, FunctionFailed)
    return raised_status(failure)


@pytest.mark.parametrize("code", CODES[1:])
@pytest.mark.parametrize("prefix", ["", "orders.errors.", "com.example.Orders$1."])
def test_names_of_codes(code: StatusCode, prefix: str) -> None:
    """In both spellings, whatever stands before the last dot."""
    expected = Status(code, "no such order")

    assert expected == raised(prefix + code.name)
    assert expected == raised(prefix + CAMEL_CASE_NAMES[code])


@pytest.mark.parametrize("name", ["Cancelled", "Canceled", "CANCELLED"])
def test_spellings_of_cancelled(name: str) -> None:
    assert Status(StatusCode.CANCELLED, "no such order") == raised(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NotFoundError",
        "notFound",
        "not_found",
        "NOTFOUND",
        "Not_Found",
        "NotFound.Inner",
        "OK",
        "Ok",
        "Exception",
        "KeyError",
        "Runtime.ExitError",
        5,
        None,
        "5",
    ],
)
def test_other_names_are_failures(name: object) -> None:
    """Exactly the name, or it is no status."""
    assert raised(name) is None
