"""What a person types as metadata or deadline is checked before a call is made of it."""

from __future__ import annotations

import pytest

from bridge.console.metadata import MOST_ENTRIES, BadMetadata, checked_metadata, timeout_of


def test_names_become_lower_case_and_spaces_around_go() -> None:
    assert (("x-a", "b c"), ("x-bin", "AP8"), ("x-empty", "")) == checked_metadata(
        [(" X-A ", " b c "), ("x-bin", "AP8"), ("x-empty", "")]
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("", "a", "is not a name"),
        (":path", "/a", "is not a name"),
        ("a b", "a", "is not a name"),
        ("a\r\nb", "a", "is not a name"),
        ("ä", "a", "is not a name"),
        ("grpc-timeout", "1S", "itself uses this name"),
        ("grpc-encoding", "gzip", "itself uses this name"),
        ("Content-Type", "a", "itself uses this name"),
        ("te", "trailers", "itself uses this name"),
        ("connection", "close", "itself uses this name"),
        ("host", "a", "itself uses this name"),
        ("x-bin", "not base64!", "is not base64"),
        ("x-a", "b\r\nx-c: d", "printable ASCII"),
        ("x-a", "b\0", "printable ASCII"),
        ("x-a", "ü", "printable ASCII"),
    ],
)
def test_what_metadata_cannot_be_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(BadMetadata, match=said):
        checked_metadata([(name, value)])


def test_the_number_of_entries_is_bounded() -> None:
    with pytest.raises(BadMetadata, match=f"more than {MOST_ENTRIES}"):
        checked_metadata([("a", "b")] * (MOST_ENTRIES + 1))


@pytest.mark.parametrize(("text", "seconds"), [("", None), (" ", None), ("30s", 30), (" 1m30s", 90), ("250ms", 0.25)])
def test_deadlines_are_durations(text: str, seconds: float | None) -> None:
    assert seconds == timeout_of(text)


@pytest.mark.parametrize("text", ["30", "soon", "0s", "-1s", "1S"])
def test_other_deadlines_are_refused(text: str) -> None:
    with pytest.raises(BadMetadata, match="the deadline"):
        timeout_of(text)
