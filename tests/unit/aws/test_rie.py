from __future__ import annotations

import pytest

from bridge.aws.arn import FunctionName
from bridge.aws.rie import as_invoked, is_failure


@pytest.mark.parametrize(
    "payload",
    [
        b"Task timed out after 3.00 seconds",
        b'"Task timed out after 3.00 seconds"',
        b'{"errorType": "ValueError", "errorMessage": "no", "stackTrace": []}',
        b'{"errorMessage": "", "errorType": "Runtime.ExitError"}',
    ],
)
def test_failures(payload: bytes) -> None:
    assert is_failure(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'{"statusCode": 200, "body": "Task timed out after 3.00 seconds"}',
        b'{"errorType": "ValueError"}',
        b'{"errorMessage": "no"}',
        b'{"errorType": 1, "errorMessage": 2}',
        b'{"statusCode":200}' + bytes(8) + b"\0\0\0\0\0",
        b"[" * 5000,
        b'{"errorType": "\xff", "errorMessage": ""}',
    ],
)
def test_replies(payload: bytes) -> None:
    """Only both texts together make a failure."""
    assert not is_failure(payload)


def test_an_emulator_knows_one_name() -> None:
    """No account, no qualifier; the region is still what is signed for."""
    found = as_invoked(FunctionName.from_arn("arn:aws:lambda:eu-west-1:123456789012:function:orders:live"))

    assert "/2015-03-31/functions/function/invocations" == found.invoke_path
    assert "" == found.invoke_query
    assert "eu-west-1" == found.region


def test_a_failure_may_begin_with_a_byte_order_mark() -> None:
    assert is_failure(b'\xef\xbb\xbf{"errorType": "ValueError", "errorMessage": "no"}')
