"""Inflating with a bound, deflating, and what a peer accepts."""

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.compression import (
    IDENTITY,
    INFLATED_PIECE,
    SUPPORTED,
    accepts,
    deflate,
    inflate,
    inflate_pieces,
)
from bridge.rpc.errors import BadReply, MessageTooLarge

_COMPRESSED = ("deflate", "gzip")


@given(st.binary(max_size=2000), st.sampled_from(SUPPORTED))
def test_message_comes_back(message: bytes, encoding: str) -> None:
    """From every supported compression."""
    assert message == inflate(deflate(message, encoding), encoding, max_size=2000)


def test_deflate_is_the_zlib_format() -> None:
    """As gRPC means it, not a raw stream; gzip is gzip."""
    assert b"abc" == inflate(zlib.compress(b"abc"), "deflate", max_size=3)
    assert b"abc" == inflate(gzip.compress(b"abc"), "gzip", max_size=3)
    assert b"abc" == gzip.decompress(deflate(b"abc", "gzip"))


@pytest.mark.parametrize("encoding", _COMPRESSED)
def test_bomb_is_refused_without_being_held(encoding: str) -> None:
    """16 MiB out of some 16 KiB: no more than the limit is ever in memory."""
    bomb = deflate(bytes(16 << 20), encoding)
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooLarge, match="more than 1048576 bytes"):
            inflate(bomb, encoding, max_size=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 << 20


@pytest.mark.parametrize("encoding", _COMPRESSED)
@pytest.mark.parametrize("size", [0, 1, INFLATED_PIECE - 1, INFLATED_PIECE, INFLATED_PIECE + 1, 5 * INFLATED_PIECE])
def test_large_messages_come_in_pieces(encoding: str, size: int) -> None:
    """Each is made when it is taken, whether the message compresses well or not at all."""
    for message in (bytes(size), random.Random(7).randbytes(size)):
        pieces = list(inflate_pieces(deflate(message, encoding), encoding, max_size=size))

        assert message == b"".join(pieces)
        assert all(0 < len(piece) <= INFLATED_PIECE for piece in pieces)


@pytest.mark.parametrize("encoding", _COMPRESSED)
def test_message_at_the_limit_passes(encoding: str) -> None:
    """The limit itself is allowed, one byte more is not."""
    packed = deflate(b"x" * 1000, encoding)

    assert b"x" * 1000 == inflate(packed, encoding, max_size=1000)
    with pytest.raises(MessageTooLarge):
        inflate(packed, encoding, max_size=999)


@pytest.mark.parametrize("encoding", _COMPRESSED)
def test_cut_stream_is_a_bad_reply(encoding: str) -> None:
    """Wherever it is cut."""
    packed = deflate(b"some message that is long enough", encoding)

    for end in range(len(packed)):
        with pytest.raises(BadReply, match=encoding):
            inflate(packed[:end], encoding, max_size=1000)


@pytest.mark.parametrize("encoding", _COMPRESSED)
@pytest.mark.parametrize("rest", [b"x", b"\x00"])
def test_bytes_behind_the_end_are_a_bad_reply(encoding: str, rest: bytes) -> None:
    """What follows the stream belongs to nothing."""
    with pytest.raises(BadReply, match="behind the end"):
        inflate(deflate(b"abc", encoding) + rest, encoding, max_size=1000)


def test_second_gzip_member_is_a_bad_reply() -> None:
    """gRPC-core refuses it too; a thousand members would be a thousand messages in one."""
    with pytest.raises(BadReply, match="behind the end"):
        inflate(gzip.compress(b"abc") + gzip.compress(b"def"), "gzip", max_size=1000)


@given(st.binary(max_size=200), st.sampled_from(_COMPRESSED))
def test_garbage_has_a_documented_outcome(garbage: bytes, encoding: str) -> None:
    """A message or one of the two errors, nothing else."""
    try:
        assert len(inflate(garbage, encoding, max_size=100)) <= 100
    except (BadReply, MessageTooLarge):
        pass


def test_unsupported_encoding_is_a_key_error() -> None:
    """The caller asks `SUPPORTED` first."""
    with pytest.raises(KeyError):
        inflate(b"", "br", max_size=1)
    with pytest.raises(KeyError):
        deflate(b"", "br")


@pytest.mark.parametrize(
    ("accept_encoding", "encoding", "answer"),
    [
        (None, IDENTITY, True),
        (None, "gzip", False),
        ("", "gzip", False),
        ("identity,deflate,gzip", "gzip", True),
        ("identity, deflate , gzip", "deflate", True),
        ("gzipped", "gzip", False),
        ("deflate", IDENTITY, True),
    ],
)
def test_accepts_what_the_peer_listed(accept_encoding: str | None, encoding: str, *, answer: bool) -> None:
    """Identity needs no listing."""
    assert answer is accepts(accept_encoding, encoding)
