from __future__ import annotations

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


def test_memory_is_bounded() -> None:
    """Strings of middling length are remembered, 4,096 of them; long ones never."""
    for number in range(5000):
        huffman.decode(ENCODER.encode(b"remembered-%07d" % number))
    size = huffman._remembered.cache_info().currsize
    huffman.decode(ENCODER.encode(b"x" * 200))

    assert 4096 == size == huffman._remembered.cache_info().currsize
