from __future__ import annotations

import json

import pytest

from bridge.aws.response_stream import ResponseStream
from bridge.rpc.errors import (
    BadReply,
    CutReply,
    FunctionFailed,
    FunctionTimedOut,
    ReplyTooLarge,
    RpcError,
    ServiceFailed,
)
from tests.support.event_stream import event, invoke_complete, payload_chunk


def read(*events: bytes) -> tuple[list[bytes], RpcError | None]:
    stream = ResponseStream(function="greeter")
    found = stream.feed(b"".join(events))
    if found[1] is None:
        stream.finish()
    return found


def test_payload_chunks_then_the_end() -> None:
    assert ([b"a", b"b"], None) == read(payload_chunk(b"a"), payload_chunk(b"b"), invoke_complete())


def test_the_log_is_no_failure() -> None:
    assert ([], None) == read(invoke_complete(LogResult="bG9n"))


def test_an_event_of_another_type_is_passed_over() -> None:
    """An API may learn new ones."""
    assert ([b"a"], None) == read(payload_chunk(b"a"), event({":event-type": "Heartbeat"}, b""), invoke_complete())


DETAILS = json.dumps({"errorType": "ValueError", "errorMessage": "bad", "stackTrace": ["secret"]})


@pytest.mark.parametrize(
    ("code", "details", "kind", "text"),
    [
        ("ValueError", DETAILS, FunctionFailed, "greeter failed: ValueError: bad"),
        ("Unhandled", DETAILS, FunctionFailed, "greeter failed: ValueError: bad"),
        ("Unhandled", f"\ufeff{DETAILS}", FunctionFailed, "greeter failed: ValueError: bad"),
        ("Runtime.StreamError", "it broke", FunctionFailed, "greeter failed: Runtime.StreamError: it broke"),
        ("Unhandled", "it broke", FunctionFailed, "greeter failed: it broke"),
        ("Unhandled", '{"errorMessage":"x"}', FunctionFailed, "greeter failed: x"),
        ("Unhandled", "", FunctionFailed, "greeter failed: it gave no reason"),
        ("", "it broke", FunctionFailed, "greeter failed: it broke"),
        ("Sandbox.Timedout", "RequestId: 1-2 Error: Task timed out after 3.00 seconds", FunctionTimedOut, "after 3 s"),
        (
            "Unhandled",
            '{"errorMessage":"2026-01-01T00:00:00Z 1-2 Task timed out after 3.00 seconds"}',
            FunctionTimedOut,
            "3 s",
        ),
        ("Runtime.OutOfMemory", "", FunctionFailed, "out of memory"),
        ("Function.ResponseSizeTooLarge", "", ReplyTooLarge, "greeter"),
        ("Weird", "[1]", FunctionFailed, r"greeter failed: Weird: \[1\]"),
    ],
)
def test_a_failure_is_told_at_the_end(code: str, details: str, kind: type[RpcError], text: str) -> None:
    """The same causes as Invoke's, behind what was written."""
    written, failure = read(payload_chunk(b"a"), invoke_complete(ErrorCode=code, ErrorDetails=details))

    assert [b"a"] == written
    assert type(failure) is kind
    with pytest.raises(kind, match=text):
        raise failure
    assert "secret" not in str(failure)
    assert failure.may_have_run


@pytest.mark.parametrize(
    "headers",
    [
        {":message-type": "exception", ":exception-type": "ThrottlingException"},
        {":message-type": "error", ":error-code": "ThrottlingException", ":error-message": "x"},
    ],
)
def test_lambda_breaks_off(headers: dict[str, str]) -> None:
    """Whatever it is called, the function has run: it is never repeated."""
    _, failure = read(payload_chunk(b"a"), event(headers, b'{"message":"arn:aws:iam::1:user/x"}'))

    assert isinstance(failure, ServiceFailed)
    assert "Lambda broke off the reply of greeter (ThrottlingException)" == str(failure)
    assert failure.may_have_run


def test_a_stream_without_its_end_is_cut() -> None:
    with pytest.raises(CutReply, match="greeter"):
        read(payload_chunk(b"a"))


def test_nothing_comes_behind_the_end() -> None:
    _, failure = read(invoke_complete(), payload_chunk(b"a"))

    assert isinstance(failure, BadReply)


def test_what_came_before_a_broken_event_is_given_out() -> None:
    """However the bytes were cut."""
    written, failure = read(payload_chunk(b"a"), payload_chunk(b"b")[:-1] + b"x")

    assert [b"a"] == written
    assert isinstance(failure, BadReply)


def test_an_end_that_is_no_json() -> None:
    _, failure = read(event({":event-type": "InvokeComplete"}, b"{nonsense"))

    assert isinstance(failure, BadReply)


def test_an_empty_end_is_one() -> None:
    assert ([], None) == read(event({":event-type": "InvokeComplete"}, b""))
