from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.units import (
    format_duration,
    format_percentage,
    format_size,
    parse_duration,
    parse_percentage,
    parse_size,
)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (0.25, "250ms"),
        (5, "5s"),
        (120, "2m"),
        (3600, "1h"),
        (0, "0s"),
        (1.5, "1.5s"),
        (5400, "1h30m"),
        (0.1, "0.1s"),
    ],
)
def test_durations_are_seconds(expected: float, text: str) -> None:
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("a duration needs a unit: 5s, 5ms", "5"),
        ("expected a duration such as 250ms, 5s, 2m or 1h", "5 s"),
        ("expected a duration such as 250ms, 5s, 2m or 1h", "-5s"),
        ("expected a duration such as 250ms, 5s, 2m or 1h", "5d"),
        ("expected a duration such as 250ms, 5s, 2m or 1h", "S"),
        ("expected a duration such as 250ms, 5s, 2m or 1h", ""),
        ("expected a duration such as 250ms, 5s, 2m or 1h", "٣s"),
        ("expected a duration such as 250ms, 5s, 2m or 1h", "1" * 10_000 + "s"),
    ],
)
def test_what_is_no_duration_is_refused(message: str, text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_duration(text)

    assert message == str(refused.value)


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("90s", 90.0), ("1h", 3600.0), ("0s", 0.0), ("0.5ms", 0.0005)],
)
def test_durations_are_written_in_the_largest_whole_unit(expected: str, seconds: float) -> None:
    assert expected == format_duration(seconds)


@given(st.integers(min_value=0, max_value=10**10))
def test_a_duration_survives_its_text(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert seconds == parse_duration(format_duration(seconds))


@pytest.mark.parametrize(
    ("expected", "text"),
    [(512, "512B"), (65536, "64KiB"), (4 << 20, "4MiB"), (1 << 30, "1GiB"), (1536, "1.5KiB"), (64, "64 B")],
)
def test_sizes_are_bytes(expected: int, text: str) -> None:
    assert expected == parse_size(text)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("a size needs a unit: 64B, 64KiB, 64MiB", "64"),
        ("sizes count in powers of 1024: 64KiB", "64kb"),
        ("sizes count in powers of 1024: 64MiB", "64M"),
        ("a size is a whole number of bytes", "0.3B"),
        ("expected a size such as 512B, 64KiB or 4MiB", "-1B"),
        ("expected a size such as 512B, 64KiB or 4MiB", "big"),
    ],
)
def test_what_is_no_size_is_refused(message: str, text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_size(text)

    assert message == str(refused.value)


@given(st.integers(min_value=0, max_value=1 << 43))
def test_a_size_survives_its_text(size: int) -> None:
    assert size == parse_size(format_size(size))


def test_sizes_are_written_in_the_largest_whole_unit() -> None:
    assert ["0B", "1023B", "1KiB", "6MiB", "512MiB", "1GiB"] == [
        format_size(size) for size in (0, 1023, 1024, 6 << 20, 512 << 20, 1 << 30)
    ]


@pytest.mark.parametrize(("expected", "text"), [(0.2, "20%"), (0.0, "0%"), (0.125, "12.5 %")])
def test_percentages_are_fractions(expected: float, text: str) -> None:
    assert expected == parse_percentage(text)


@pytest.mark.parametrize("text", ["0.2", "20", "-1%", "%", "a%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a percentage such as 20%"):
        parse_percentage(text)


@given(st.integers(min_value=0, max_value=1000))
def test_a_percentage_survives_its_text(thousandths: int) -> None:
    fraction = thousandths / 1000

    assert fraction == parse_percentage(format_percentage(fraction))
