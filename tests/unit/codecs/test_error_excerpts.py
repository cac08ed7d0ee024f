from __future__ import annotations

import pytest

from bridge.codecs.error_excerpts import broken_off, excerpt, http_refusal


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (b"", ""),
        (b"\n  \n out of order \nat line 1", "out of order"),
        (b"\xff\xfe", ""),
        (b"a\x00b", ""),
        (b"x" * 1000, "x" * 200),
        ("über".encode(), "über"),
    ],
)
def test_excerpts(text: bytes, quoted: str) -> None:
    """The first line that says something; nothing of what is no text."""
    assert quoted == excerpt(text)


def test_an_http_error_without_a_text() -> None:
    assert "the function answered HTTP 500" == str(http_refusal(500))


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (b"no report", None),
        (b"Lambda-Runtime-Function-Error-Type: X\r\n", "the function failed while it answered: X"),
        (
            (
                b"Lambda-Runtime-Function-Error-Type: X\r\nLambda-Runtime-Function-Error-Body: "
                b"eyJlcnJvck1lc3NhZ2UiOiJubyJ9\r\n"
            ),
            "the function failed while it answered: X: no",
        ),
        (
            (
                b"Lambda-Runtime-Function-Error-Type: X\r\nLambda-Runtime-Function-Error-Body: "
                b"77u/eyJlcnJvck1lc3NhZ2UiOiJubyJ9\r\n"
            ),
            "the function failed while it answered: X: no",
        ),
        (
            b"Lambda-Runtime-Function-Error-Type: X\r\nLambda-Runtime-Function-Error-Body: AA==\r\n",
            "the function failed while it answered: X",
        ),
    ],
)
def test_reports_of_runtimes(report: bytes, told: str | None) -> None:
    assert told == broken_off(report)
