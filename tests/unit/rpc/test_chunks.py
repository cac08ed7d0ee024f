"""Waiting bytes: small pieces are joined, large ones stay as they are."""

from __future__ import annotations

from collections import deque

from bridge.rpc.chunks import Chunks, keep


def kept(*pieces: bytes) -> list[bytes]:
    chunks: Chunks = deque()
    for piece in pieces:
        keep(chunks, piece)
    return [bytes(chunk) for chunk in chunks]


def test_small_pieces_are_joined() -> None:
    """To the one before them, whatever its size, up to 64 KiB."""
    large, full = bytes(2000), bytes(64 << 10)

    assert [b"abc"] == kept(b"a", b"b", b"c")
    assert [b"a", large + b"b"] == kept(b"a", large, b"b")
    assert [full, b"ab"] == kept(full, b"a", b"b")


def test_nothing_of_a_piece_that_others_hold_is_changed() -> None:
    first = b"first"

    assert [b"first, second"] == kept(first, b", second")
    assert b"first" == first
