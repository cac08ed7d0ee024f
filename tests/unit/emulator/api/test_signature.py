"""Whether a request is signed."""

from __future__ import annotations

import pytest

from bridge.emulator.api import refusals, signature

SIGNED = "AWS4-HMAC-SHA256 Credential=a/b/c/lambda/aws4_request, SignedHeaders=host, Signature=0"


def test_a_signature_is_not_verified() -> None:
    """With or without spaces after the commas."""
    signature.check_signature({"Authorization": SIGNED, "X-Amz-Date": "x"})
    signature.check_signature({"Authorization": SIGNED.replace(", ", ","), "Date": "x"})


def test_an_unsigned_request_is_told_so() -> None:
    with pytest.raises(refusals.MissingAuthentication):
        signature.check_signature({})


def test_everything_that_lacks_is_named_and_nothing_repeated() -> None:
    """The header may hold a secret."""
    with pytest.raises(refusals.IncompleteSignature) as caught:
        signature.check_signature({"Authorization": "Bearer Credential=s3cret"})

    assert str(caught.value) == (
        "Authorization header requires 'Credential' parameter. "
        "Authorization header requires 'Signature' parameter. "
        "Authorization header requires 'SignedHeaders' parameter. "
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
    )
