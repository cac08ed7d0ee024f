"""Metadata: names, values, binary values, sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc import metadata
from bridge.rpc.metadata import decode_binary, encode_binary


@pytest.mark.parametrize("name", ["a", "x-request-id", "a.b_c-1", "trace-bin", "0"])
def test_grpc_name_is_a_name(name: str) -> None:
    """Digits, lower-case letters, underscore, hyphen and dot."""
    assert metadata.is_name(name)


@pytest.mark.parametrize("name", ["", "X-Id", "a b", ":path", "a/b", "naïve", "a\n", "a!"])
def test_other_name_is_none(name: str) -> None:
    """HTTP allows more than gRPC does."""
    assert not metadata.is_name(name)


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ("plain", "plain"),
        ("  both sides ", "both sides"),
        ("a\r\nset-cookie: b\x00", "aset-cookie: b"),
        ("tab\there", "tabhere"),
        ("caf\xe9", "caf"),
        (" \x7f ", ""),
        ("", ""),
    ],
)
def test_clean_value_holds_what_grpc_allows(value: str, clean: str) -> None:
    """Nothing outside 0x20-0x7E and no space around it: no way to start another field."""
    assert clean == metadata.clean_value(value)


@given(st.text())
def test_clean_value_is_always_clean(value: str) -> None:
    """Whatever comes in."""
    clean = metadata.clean_value(value)

    assert clean == metadata.clean_value(clean)
    assert all("\x20" <= letter <= "\x7e" for letter in clean)


@pytest.mark.parametrize(
    ("value", "parts"),
    [("AAEC", ["AAEC"]), ("AA,AQ", ["AA", "AQ"]), ("AA , AQ==", ["AA", "AQ=="]), ("", [""])],
)
def test_joined_binary_values_are_split_before_decoding(value: str, parts: list[str]) -> None:
    """Several values may travel in one field."""
    assert parts == metadata.split_binary(value)


@given(st.binary())
def test_binary_value_comes_back(value: bytes) -> None:
    """It is sent without padding and read with and without."""
    text = encode_binary(value)

    assert "=" not in text
    assert value == decode_binary(text)
    assert value == decode_binary(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("text", ["!!", "A", "AAECA", "AA=A", "AA\n", "-_-_", "caf\xe9"])
def test_bad_base64_is_a_value_error(text: str) -> None:
    """The caller knows whose fault it is."""
    with pytest.raises(ValueError):
        decode_binary(text)


def test_binary_names_end_in_bin() -> None:
    """The suffix is the rule."""
    assert metadata.is_binary("trace-bin")
    assert not metadata.is_binary("bin")


def test_value_of_is_the_first() -> None:
    """A repeated name keeps its order; an absent one has no value."""
    pairs = (("a", "1"), ("b", "2"), ("b", "3"))

    assert "2" == metadata.value_of(pairs, "b")
    assert metadata.value_of(pairs, "c") is None


def test_size_counts_32_for_each_field() -> None:
    """RFC 9113 6.5.2."""
    assert 0 == metadata.size_of(())
    assert (1 + 2 + 32) + (3 + 0 + 32) == metadata.size_of((("a", "12"), ("abc", "")))
