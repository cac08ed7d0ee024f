"""Names in a .proto and what the generators of each language make of them."""

from __future__ import annotations

import pytest

from bridge.commands.scaffold.go import go_name
from bridge.commands.scaffold.node import camel_name, property_name
from bridge.commands.scaffold.rust import snake_name, type_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Order", "Order"),
        ("order", "Order"),
        ("Order.Line", "Order_Line"),
        ("Order.line", "OrderLine"),
        ("Order._line", "Order_XLine"),
        ("get_all_2x", "GetAll_2X"),
        ("_private", "XPrivate"),
        ("__odd", "XOdd"),
        ("HTTPServer", "HTTPServer"),
        ("snake_case_", "SnakeCase_"),
        ("a2b", "A2B"),
    ],
)
def test_go(name: str, expected: str) -> None:
    assert expected == go_name(name)


@pytest.mark.parametrize(
    ("name", "snake", "kind"),
    [
        ("GetRequest", "get_request", "GetRequest"),
        ("GetHTTPResponse", "get_http_response", "GetHttpResponse"),
        ("XMLHttpRequest2", "xml_http_request2", "XmlHttpRequest2"),
        ("get_all_2x", "get_all_2x", "GetAll2x"),
        ("FOO_BAR_", "foo_bar", "FooBar"),
        ("fuzzBuster", "fuzz_buster", "FuzzBuster"),
        ("type", "r#type", "Type"),
        ("Self", "self_", "Self_"),
        ("2x", "_2x", "_2x"),
        ("v1", "v1", "V1"),
    ],
)
def test_rust(name: str, snake: str, kind: str) -> None:
    """Words are split as the crate heck splits them, and keywords are escaped as prost escapes them."""
    assert (snake, kind) == (snake_name(name), type_name(name))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("is_new", "isNew"),
        ("top_2b", "top2b"),
        ("to_string", "toString$"),
        ("a__b", "aB"),
        ("constructor", "constructor$"),
    ],
)
def test_node(field: str, expected: str) -> None:
    assert expected == property_name(camel_name(field))
