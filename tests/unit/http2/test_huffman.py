from __future__ import annotations

from collections.abc import Callable

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from bridge.http2 import huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def test_every_symbol() -> None:
    text = bytes(range(256))

    assert text.decode("latin-1") == huffman.decode(ENCODER.encode(text))


@given(st.binary(max_size=120))
def test_what_is_encoded_is_decoded(text: bytes) -> None:
    assert text.decode("latin-1") == huffman.decode(ENCODER.encode(text))


def test_example_of_the_rfc() -> None:
    """RFC 7541 C.4.1."""
    assert "www.example.com" == huffman.decode(bytes.fromhex("f1e3 c2e5 f23a 6ba0 ab90 f4ff"))


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff", b"\xff\xff\xff\xfc", b"\x1f\xff\xff\xff\xff" + b"a" * 60],
    ids=["EOS and padding", "EOS", "EOS in a long string"],
)
def test_eos_is_refused(data: bytes) -> None:
    """RFC 7541 5.2."""
    with pytest.raises(ValueError, match="ends wrongly"):
        huffman.decode(data)


@pytest.mark.parametrize("data", [b"\x1f\xff", b"\x18", b"\x00"], ids=["8 bits", "zeros", "0 then 0s"])
def test_padding_is_up_to_seven_ones(data: bytes) -> None:
    """`\\x1f` is "a" and three ones: fine. Eight ones more, or a zero among them, are not."""
    assert "a" == huffman.decode(b"\x1f")
    with pytest.raises(ValueError, match="ends wrongly"):
        huffman.decode(data)


def _verdict(decode: Callable[[bytes], str], data: bytes) -> str:
    try:
        return decode(data)
    except ValueError:
        return "refused"


_MOSTLY_VISIBLE = st.one_of(
    st.binary(max_size=90),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=90).map(str.encode),
    st.text("0123456789abcdef-Xi", max_size=90).map(str.encode),
).map(ENCODER.encode)
_ENDINGS = st.sampled_from([b"", b"\x00", b"\x1f", b"\x7f", b"\xf8", b"\xff", b"\xff\xff", b"\xff\xfe", b"\xff" * 5])


@given(st.one_of(st.binary(max_size=90), st.builds(bytes.__add__, _MOSTLY_VISIBLE, _ENDINGS)), st.integers(-1, 7))
def test_long_strings_are_read_as_short_ones_are(data: bytes, flipped: int) -> None:
    """Valid ones, and those with a wrong end, with EOS in them, or with one bit flipped."""
    if flipped >= 0 and data:
        data = data[:-1] + bytes((data[-1] ^ 1 << flipped,))

    found = huffman._inflate(data) if data else None

    assert found is None or found == _verdict(huffman._decode, data)
    assert _verdict(huffman.decode, data) == _verdict(huffman._decode, data)


@pytest.mark.parametrize("length", range(30, 46))
def test_visible_text_is_inflated(length: int) -> None:
    """Whatever the padding: none of these needs the slow way."""
    text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"[:length] + "0"

    assert text == huffman._inflate(ENCODER.encode(text.encode()))


def test_a_rare_symbol_is_left_to_the_table() -> None:
    text = "a" * 40 + "\\" + "b" * 40
    data = ENCODER.encode(text.encode())

    assert huffman._inflate(data) is None
    assert text == huffman.decode(data)


def test_memory_is_bounded() -> None:
    """Strings of middling length are remembered, 4,096 of them; long ones never."""
    for number in range(5000):
        huffman.decode(ENCODER.encode(b"remembered-%07d" % number))
    size = huffman._remembered.cache_info().currsize
    huffman.decode(ENCODER.encode(b"x" * 200))

    assert 4096 == size == huffman._remembered.cache_info().currsize
