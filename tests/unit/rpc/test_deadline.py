"""Timeouts on the wire and deadlines in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.deadline import MAX_DEADLINE, earliest, format_timeout, parse_timeout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2H", 7200.0),
        ("3M", 180.0),
        ("4S", 4.0),
        ("500m", 0.5),
        ("50u", 50e-6),
        ("7n", 7e-9),
        ("0m", 0.0),
        ("00000001S", 1.0),
    ],
)
def test_timeout_has_a_number_and_a_unit(text: str, seconds: float) -> None:
    """Hours, minutes, seconds, milli-, micro- and nanoseconds."""
    assert pytest.approx(seconds) == parse_timeout(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S",
        "5",
        "5s",
        "5 S",
        "-1S",
        "+1S",
        "1.5S",
        "123456789S",
        "٣S",
        "²S",
        "1_0S",
        "5SS",
        " 5S",
    ],
)
def test_malformed_timeout_is_a_value_error(text: str) -> None:
    """One to eight ASCII digits, one unit, nothing else."""
    with pytest.raises(ValueError, match="1 to 8 digits"):
        parse_timeout(text)


def test_error_quotes_a_short_part_of_the_value() -> None:
    """A long value does not fill the message."""
    with pytest.raises(ValueError) as caught:
        parse_timeout("9" * 5000)

    assert len(str(caught.value)) < 100


def test_timeout_that_would_overflow_counts_as_the_longest() -> None:
    """99,999,999 hours are legal and more than any timer holds."""
    assert MAX_DEADLINE == parse_timeout("99999999H")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0m"),
        (-3.0, "0m"),
        (0.2, "200m"),
        (0.1, "100m"),
        (0.0999, "99900000n"),
        (0.0001, "100000n"),
        (1e-10, "1n"),
        (1.0005, "1000m"),
        (99_999.999, "99999999m"),
        (99_999.9991, "99999S"),
        (99_999_999.5, "99999999S"),
        (100_000_000.0, "1666666M"),
        (1e18, "99999999H"),
    ],
)
def test_timeout_is_sent_in_a_fine_unit(seconds: float, text: str) -> None:
    """Rounded down, so that the other side never believes that it has more time than is left."""
    assert text == format_timeout(seconds)


@given(st.floats(min_value=1e-8, max_value=MAX_DEADLINE))
def test_sent_timeout_is_never_longer(seconds: float) -> None:
    """Nor shorter by 2 %."""
    back = parse_timeout(format_timeout(seconds))

    assert back <= seconds * (1 + 1e-9) + 1e-9
    assert back >= seconds * 0.98 - 1e-9


@given(st.integers(min_value=0, max_value=99_999_999), st.sampled_from("HMSmun"))
def test_every_legal_timeout_is_read(count: int, unit: str) -> None:
    """A finite number of seconds."""
    assert 0.0 <= parse_timeout(f"{count}{unit}") <= MAX_DEADLINE


@pytest.mark.parametrize(
    ("one", "other", "first"),
    [(None, None, None), (1.0, None, 1.0), (None, 2.0, 2.0), (1.0, 2.0, 1.0), (3.0, 2.0, 2.0)],
)
def test_earliest_of_two(one: float | None, other: float | None, first: float | None) -> None:
    """An absent deadline is no deadline."""
    assert first == earliest(one, other)
