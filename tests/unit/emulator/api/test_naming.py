"""Function names as callers write them."""

from __future__ import annotations

import pytest

from bridge.emulator.api import naming, refusals
from bridge.emulator.api.naming import FunctionId

ARN = "arn:aws:lambda:us-east-1:123456789012:function:fn"


@pytest.mark.parametrize(
    ("text", "qualifier", "expected"),
    [
        ("fn", None, FunctionId("fn")),
        ("fn:live", None, FunctionId("fn", "live")),
        ("fn", "live", FunctionId("fn", "live")),
        ("fn:live", "live", FunctionId("fn", "live")),
        ("fn:$LATEST", None, FunctionId("fn", "$LATEST")),
        ("fn:$LATEST.PUBLISHED", None, FunctionId("fn", "$LATEST.PUBLISHED")),
        ("123456789012:function:fn", None, FunctionId("fn")),
        ("function:fn:2", None, FunctionId("fn", "2")),
        (ARN, "7", FunctionId("fn", "7")),
        ("arn:aws-us-gov:lambda:us-gov-west-1:210987654321:function:a.b-c_d:x", None, FunctionId("a.b-c_d", "x")),
    ],
)
def test_every_form_names_the_same_function(text: str, qualifier: str | None, expected: FunctionId) -> None:
    assert expected == naming.parse_function_name(text, qualifier)


@pytest.mark.parametrize(
    ("text", "qualifier"),
    [
        ("", None),
        ("a b", None),
        ("fn:", None),
        ("fn", ""),
        ("fn", "a b"),
        ("x" * 141, None),
        ("arn:aws:s3:us-east-1:123456789012:function:fn", None),
        ("fn:a:b:c", None),
    ],
)
def test_what_is_no_name_is_refused(text: str, qualifier: str | None) -> None:
    with pytest.raises(refusals.InvalidName):
        naming.parse_function_name(text, qualifier)


def test_two_qualifiers_must_agree() -> None:
    with pytest.raises(refusals.QualifierMismatch):
        naming.parse_function_name("fn:a", "b")


def test_an_arn_carries_the_qualifier_that_was_used() -> None:
    """The function sees how it was called."""
    assert [ARN, f"{ARN}:live"] == [FunctionId("fn").arn, FunctionId("fn", "live").arn]


@pytest.mark.parametrize(("qualifier", "expected"), [(None, False), ("$LATEST", False), ("v1", False), ("1", True)])
def test_only_numbers_are_versions(qualifier: str | None, expected: bool) -> None:
    assert expected is FunctionId("fn", qualifier).is_published_version
