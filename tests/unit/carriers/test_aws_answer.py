from __future__ import annotations

from email.utils import formatdate

import pytest

from bridge.carriers.aws_answer import parse_retry_after, refusal_in
from bridge.carriers.http1.exchange import Response
from bridge.rpc.errors import AccessRefused, Throttled

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        (formatdate(NOW + 60, usegmt=True), 60.0),
        (formatdate(NOW - 60, usegmt=True), 0.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("9" * 30, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert seconds == parse_retry_after(value, now=NOW)


def test_facts_of_a_refusal() -> None:
    """Type and time from the header, the reason from the body, AWS's id with it."""
    fields = [
        (b"x-amzn-errortype", b"TooManyRequestsException"),
        (b"retry-after", b"3"),
        (b"x-amzn-requestid", b"id-1"),
    ]
    body = b'{"Reason":"CallerRateLimitExceeded","message":"Rate Exceeded."}'

    error = refusal_in(Response(429, fields, body), function="f", now=NOW)
    assert isinstance(error, Throttled)
    assert ("CallerRateLimitExceeded", 3.0, "id-1") == (
        error.throttle_reason,
        error.retry_after,
        error.request_id,
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"__type": 1}', b"[" * 100_000])
def test_a_body_that_says_nothing(body: bytes) -> None:
    """The status alone decides."""
    assert isinstance(refusal_in(Response(403, [], body), function="f", now=NOW), AccessRefused)


def test_a_refusal_may_begin_with_a_byte_order_mark() -> None:
    body = b'\xef\xbb\xbf{"__type":"com.amazonaws.lambda#AccessDeniedException"}'
    error = refusal_in(Response(400, [], body), function="f", now=NOW)

    assert isinstance(error, AccessRefused)
