"""Values of the environment in texts that servers wrote."""

from __future__ import annotations

import pytest

from bridge.rpc.redaction import Redactor

KEY = "s3cr3t/key+=="


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"bad key {KEY}, twice {KEY}!", "bad key [hidden], twice [hidden]!"),
        ("GET /?key=s3cr3t%2Fkey%2B%3D%3D", "GET /?key=[hidden]"),
        ("HTTP 401: bad key s3cr3t/k", "HTTP 401: bad key [hidden]"),
        ("HTTP 401: bad key s3cr3t/ke…", "HTTP 401: bad key [hidden]"),
        ("nothing of it", "nothing of it"),
        ("", ""),
    ],
)
def test_a_value_is_hidden_in_each_form(text: str, shown: str) -> None:
    """As it is, percent-encoded, and cut off by a limit on the text."""
    assert shown == Redactor([KEY])(text)


def test_the_longest_value_is_hidden_first() -> None:
    assert "[hidden] [hidden]" == Redactor(["abcd", "abcdefgh"])("abcdefgh abcd")


@pytest.mark.parametrize("value", ["", "80", "dev", "true", "NULL"])
def test_what_stands_in_many_words_is_no_secret(value: str) -> None:
    text = f"development: {value} is true, null or 8080"

    assert text == Redactor([value])(text)


def test_values_are_texts_and_no_patterns() -> None:
    assert "axxxb [hidden]" == Redactor(["a.*b"])("axxxb a.*b")
