"""Path templates of google/api/http.proto."""

from __future__ import annotations

import pytest

from lambda_fn.http_rules import compile_template
from lambda_fn.status import INVALID_ARGUMENT, Refused


@pytest.mark.parametrize(
    ("template", "path", "fields"),
    [
        ("/v1/ping", "/v1/ping", {}),
        ("/v1/ping", "/v1/pings", None),
        ("/v1/a.b", "/v1/aXb", None),
        ("/v1/*/x", "/v1/any/x", {}),
        ("/v1/*/x", "/v1/a/b/x", None),
        ("/v1/{a}", "/v1/1", {"a": "1"}),
        ("/v1/{a}", "/v1/", None),
        ("/v1/{a.b}/{c}", "/v1/1/2", {"a.b": "1", "c": "2"}),
        ("/v1/{name=x/*}", "/v1/x/1", {"name": "x/1"}),
        ("/v1/{name=x/*}", "/v1/y/1", None),
        ("/v1/{name=**}", "/v1/a/b", {"name": "a/b"}),
        ("/v1/{name=x/**}:go", "/v1/x/a/b:go", {"name": "x/a/b"}),
        ("/v1/{name=x/*}:go", "/v1/x/1", None),
        ("/v1/{a}:go", "/v1/1:go", {"a": "1"}),
        ("/v1/{name=**}", "/v1/", {"name": ""}),
        ("/v1/{name=**}", "/v1", {"name": ""}),
        ("/v1/{name=**}", "/v12", None),
        ("/v1/{name=x/**}", "/v1/x", {"name": "x"}),
        ("/v1/**", "/v1", {}),
        ("/v1/**", "/v1/a/b", {}),
        ("/**", "/", {}),
        ("/v1/{a}", "/v1/a%20b%2fc%25", {"a": "a b/c%"}),
        ("/v1/{a=*}", "/v1/%C3%A9+%7e", {"a": "é+~"}),
        ("/v1/{name=x/*}", "/v1/x/a%2fb%2Fc%20d", {"name": "x/a%2fb%2Fc d"}),
        ("/v1/{name=**}", "/v1/a%252Fb/c", {"name": "a%2Fb/c"}),
    ],
)
def test_a_template_matches_paths(template: str, path: str, fields: dict[str, str] | None) -> None:
    """Literals, one segment, any number, variables of both, custom verbs."""
    found = compile_template(template).match(path)

    assert fields == (None if found is None else {".".join(name): text for name, text in found})


@pytest.mark.parametrize("path", ["/v1/%", "/v1/%2", "/v1/%zz", "/v1/%ff", "/v1/%c3", "/v1/%ed%a0%80", "/v1/a/%ff"])
def test_a_path_that_is_not_encoded_text_is_refused(path: str) -> None:
    """Replacements would make one name of two."""
    with pytest.raises(Refused) as raised:
        compile_template("/v1/{name=**}").match(path)

    assert INVALID_ARGUMENT == raised.value.status.code


@pytest.mark.parametrize(
    "template",
    [
        "",
        "v1/ping",
        "/v1/{a",
        "/v1/a}",
        "/v1/{}",
        "/v1/{a={b}}",
        "/v1/**/x",
        "/v1/{a=**/x}",
        "/v1/{a=**}/{b}",
        "/v1/{a}/{a}",
        "/v1/x{a}",
        "/v1/{a}{b}",
    ],
)
def test_what_is_no_template_is_said(template: str) -> None:
    """A broken annotation must not become a route."""
    with pytest.raises(ValueError, match="no path template"):
        compile_template(template)


def test_templates_that_say_more_are_asked_first() -> None:
    """A literal before a wildcard, a custom verb before a segment that would swallow it."""
    templates = ["/v1/{a=**}", "/v1/{a}", "/v1/books", "/v1/{a}:go"]

    assert ["/v1/{a}:go", "/v1/books", "/v1/{a}", "/v1/{a=**}"] == sorted(
        templates, key=lambda text: compile_template(text).rank
    )
