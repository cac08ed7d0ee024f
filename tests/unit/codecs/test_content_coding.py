"""Content codings undone in any chunks, within bounds, and what each fault is called."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.content_coding import PIECE, ContentDecoder, content_codings
from bridge.rpc.errors import BadReply, FunctionFailed, ReplyTooLarge
from tests.support.fakes import in_chunks

REPORT = (
    b"Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\nLambda-Runtime-Function-Error-Body: "
    + b64encode(b'{"errorMessage":"disk full"}')
    + b"\r\n"
)


def packed(data: bytes) -> bytes:
    """Gzip without the time of day, so that test ids stay the same."""
    return gzip.compress(data, mtime=0)


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def members(data: bytes) -> bytes:
    """Gzip in several members, an empty one among them."""
    return b"".join([packed(part) for part in (data[:3], b"", data[3:])])


Encode = Callable[[bytes], bytes]
Kind = tuple[tuple[str, ...], Encode]

ENCODERS: dict[tuple[str, ...], Encode] = {
    ("gzip",): packed,
    ("gzip", "gzip"): lambda data: packed(packed(data)),
    ("deflate",): zlib.compress,
    ("deflate", "gzip"): lambda data: packed(raw_deflate(data)),
    ("gzip", "deflate", "gzip"): lambda data: packed(zlib.compress(members(data))),
}
KINDS: list[Kind] = [*ENCODERS.items(), (("gzip",), members), (("deflate",), raw_deflate)]


def decoded(codings: tuple[str, ...], chunks: list[bytes], **limits: int) -> bytes:
    decoder = ContentDecoder(codings, **limits)
    plain = b"".join([piece for chunk in chunks for piece in decoder.feed(chunk)])
    decoder.finish()
    return plain


@given(
    kind=st.sampled_from(KINDS),
    data=st.binary(max_size=2000) | st.binary(max_size=9).map(lambda part: part * 9000),
    cuts=st.lists(st.integers(0, 3000), max_size=20),
)
def test_every_coding_in_any_chunks(kind: Kind, data: bytes, cuts: list[int]) -> None:
    codings, encode = kind

    assert data == decoded(codings, in_chunks(encode(data), cuts))


@pytest.mark.parametrize(("codings", "encode"), KINDS, ids=lambda each: getattr(each, "__name__", str(each)))
def test_a_body_may_be_cut_anywhere_and_is_missed(codings: tuple[str, ...], encode: Encode) -> None:
    """But where a gzip member ends: the next one may never have been meant."""
    whole = encode(b"hello, hello, hello")
    for size in range(1, len(whole)):
        if encode is members and size in (len(packed(b"hel")), len(packed(b"hel")) + 20):
            continue
        with pytest.raises(BadReply, match="cut off within its content-encoding"):
            decoded(codings, [whole[:size]])


def test_an_empty_body_needs_no_coding() -> None:
    assert b"" == decoded(("gzip",), [])
    assert b"" == decoded(("br",), [])


@pytest.mark.parametrize(
    ("codings", "body", "told"),
    [
        (
            ("br",),
            b"\x0b\x02\x80",
            "content-encoding br, which the bridge cannot decode: it asks for identity, and decodes gzip",
        ),
        (("gzip", "zstd"), b"x", "content-encoding zstd, which"),
        (("\x1b[2J",), b"x", "content-encoding [?], which"),
        (("gzip",) * 4, b"x", "4 content-encodings on top of each other, the limit is 3"),
        (("gzip",), b"plain text", "does not decode as content-encoding gzip"),
        (("gzip",), packed(b"x") + b"more", "does not decode as content-encoding gzip"),
        (("gzip",), packed(b"x")[:-8] + bytes(8), "does not decode as content-encoding gzip"),
        (("deflate",), b"\xff\xff\xff", "does not decode as content-encoding deflate"),
        (("deflate",), zlib.compress(b"x") + b"more", "behind the end of its content-encoding deflate"),
        (("deflate",), raw_deflate(b"x") + b"more", "behind the end of its content-encoding deflate"),
    ],
)
def test_what_does_not_decode(codings: tuple[str, ...], body: bytes, told: str) -> None:
    with pytest.raises(BadReply, match=told.replace("[?]", r"\?")):
        decoded(codings, [body])


@pytest.mark.parametrize("before", [packed(b"whole"), packed(b"cut" * 99)[:-9], b""])
def test_a_runtimes_report_says_why_it_does_not_decode(before: bytes) -> None:
    """Runtimes write it behind what the function had written."""
    with pytest.raises(FunctionFailed, match=r"Runtime.StreamError: disk full"):
        decoded(("gzip",), [before, REPORT])


def test_pieces_are_bounded_and_made_one_by_one() -> None:
    """A gigabyte of zeros, of which three pieces are taken."""
    deflater = zlib.compressobj(9)
    bomb = b"".join([deflater.compress(bytes(1 << 20)) for _ in range(64)]) + deflater.flush()
    pieces = list(islice(ContentDecoder(("deflate",)).feed(bomb), 3))

    assert [PIECE] * 3 == [len(piece) for piece in pieces]


def test_what_one_coding_gives_to_the_next_is_bounded() -> None:
    """Empty members inflate to nothing, however many there are: only the bytes between the codings grow."""
    bomb = packed(packed(b"") * 20_000)
    with pytest.raises(ReplyTooLarge, match="above 100000 bytes between two content-encodings"):
        decoded(("gzip", "gzip"), [bomb], max_between=100_000)


def test_work_without_output_shows() -> None:
    """So that the caller can let others get through."""
    steps = sum(1 for _ in ContentDecoder(("gzip",)).feed(packed(b"") * 20_000))

    assert steps >= 20_000 * 20 // PIECE


@pytest.mark.parametrize(
    ("headers", "codings"),
    [
        ((), ()),
        ((("content-encoding", ""),), ()),
        ((("content-encoding", " Identity "),), ()),
        ((("content-encoding", "GZip"),), ("gzip",)),
        ((("content-encoding", "deflate,\t x-gzip"),), ("deflate", "gzip")),
        ((("content-encoding", "deflate"), ("x-a", "b"), ("content-encoding", "identity, gzip")), ("deflate", "gzip")),
        ((("x-amzn-remapped-content-encoding", "gzip"),), ("gzip",)),
        ((("x-amzn-remapped-content-encoding", "gzip"), ("content-encoding", "deflate")), ("deflate",)),
        ((("content-encoding", "br"),), ("br",)),
    ],
)
def test_codings_in_order(headers: tuple[tuple[str, str], ...], codings: tuple[str, ...]) -> None:
    assert codings == content_codings(headers)
