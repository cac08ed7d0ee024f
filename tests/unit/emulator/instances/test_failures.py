"""The bodies that go with X-Amz-Function-Error."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from bridge.emulator.instances import failures
from bridge.emulator.instances.failures import Failure


@pytest.mark.parametrize(
    ("failure", "error_type", "message"),
    [
        (
            failures.timed_out("id", 3),
            "Sandbox.Timedout",
            "RequestId: id Error: Task timed out after 3.00 seconds",
        ),
        (
            failures.exited("id", "exit status 1"),
            "Runtime.ExitError",
            "RequestId: id Error: Runtime exited with error: exit status 1",
        ),
        (
            failures.exited("id", "signal: killed"),
            "Runtime.ExitError",
            "RequestId: id Error: Runtime exited with error: signal: killed",
        ),
        (
            failures.exited("id", "exit status 0"),
            "Runtime.ExitError",
            "RequestId: id Error: Runtime exited without providing a reason",
        ),
        (
            failures.not_started("id", "fork/exec ./x: permission denied"),
            "Runtime.InvalidEntrypoint",
            "RequestId: id Error: fork/exec ./x: permission denied",
        ),
        (
            failures.too_large(6291556),
            "Function.ResponseSizeTooLarge",
            "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        ),
    ],
)
def test_each_failure_has_the_words_of_aws(failure: Failure, error_type: str, message: str) -> None:
    """Type and message in the body; the log says the same."""
    body = json.loads(failure.body)

    assert {"errorType": error_type, "errorMessage": message} == body
    assert (error_type, message) == (failure.error_type, failure.notice)


@pytest.mark.parametrize(
    ("header", "body", "error_type"),
    [
        ("Runtime.X", b'{"errorType":"Y"}', "Runtime.X"),
        ("", b'{"errorType":"Y","errorMessage":"m"}', "Y"),
        ("", b'\xef\xbb\xbf{"errorType":"Y","errorMessage":"m"}', "Y"),
        ("", b"not json", ""),
        ("", b'{"errorType":"\xff"}', ""),
        ("", b'{"errorType":1}', ""),
    ],
)
def test_what_the_runtime_reports_is_not_touched(header: str, body: bytes, error_type: str) -> None:
    """The type comes from the header, else from the body; the runtime logs by itself."""
    assert Failure(error_type, body, "") == failures.reported(header, body)


@pytest.mark.parametrize("encoded", ["", "no base64", b64encode(b"no json").decode()])
def test_trailers_without_a_readable_body_still_name_their_type(encoded: str) -> None:
    failure = failures.reported_in_trailers("Oops", encoded)

    assert failure.error_type == "Oops"
    assert json.loads(failure.body)["errorType"] == "Oops"
