"""The Invoke API's refusals."""

from __future__ import annotations

import json

from bridge.emulator.api import refusals


def test_throttling_names_the_reason_and_the_time_to_wait() -> None:
    """Byte for byte what AWS sends, so that retry policies read it."""
    refusal = refusals.TooManyRequests()

    assert (refusal.http_status, refusal.error_type) == (429, "TooManyRequestsException")
    assert json.loads(refusal.body) == {
        "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
        "Type": "User",
        "message": "Rate Exceeded.",
    }
    assert refusal.headers == {"Retry-After": "1"}


def test_a_function_not_found_is_named() -> None:
    refusal = refusals.ResourceNotFound("arn:x")

    assert json.loads(refusal.body) == {"Type": "User", "Message": "Function not found: arn:x"}


def test_our_own_failure_is_not_the_callers() -> None:
    assert json.loads(refusals.ServiceException().body)["Type"] == "Service"
