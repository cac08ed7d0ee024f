"""Tenants: what AWS gets and takes as a name."""

import re

import pytest
from botocore.session import get_session

from bridge.aws.tenancy import is_tenant

MODEL = get_session().get_service_model("lambda").shape_for("TenantId").metadata


@pytest.mark.parametrize(
    "text",
    ["a", "acme", "blue green", "spiffe://example.org/ns/a_b", "a.b:c/d=e+f-g@h", "x" * 256, "0"],
)
def test_names_of_aws_are_taken(text: str) -> None:
    assert re.fullmatch(MODEL["pattern"], text)
    assert is_tenant(text)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 257, "a,b", "a\n", "a\r\nx: y", "a\tb", "é", "a;b", "a\0", 'a"', "a%20", "a\\b", "٣"],
)
def test_what_aws_refuses_is_no_name(text: str) -> None:
    assert not re.fullmatch(MODEL["pattern"], text) or not MODEL["min"] <= len(text) <= MODEL["max"]
    assert not is_tenant(text)


@pytest.mark.parametrize("text", [" ", " a", "a ", " a "])
def test_spaces_that_http_drops_are_no_part_of_a_name(text: str) -> None:
    """AWS would get another tenant than the one that was named."""
    assert re.fullmatch(MODEL["pattern"], text)
    assert not is_tenant(text)
