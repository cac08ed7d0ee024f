"""Message compression (gRPC compression.md): identity, gzip and deflate, inflated with a bound."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from bridge.rpc.errors import BadReply, MessageTooLarge

IDENTITY = "identity"
SUPPORTED = ("identity", "deflate", "gzip")
"""What the bridge itself can undo; what it merely passes on may be anything both ends speak."""

ACCEPT_ENCODING = ",".join(SUPPORTED)

# zlib's window argument: 16 added means a gzip header, plain means zlib's own ("deflate" in gRPC is the zlib format).
_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


INFLATED_PIECE = 64 << 10
"""Bytes that are inflated in one step: some tenth of a millisecond."""


def inflate(data: bytes, encoding: str, *, max_size: int) -> bytes:
    """Return the message in `data`, at most `max_size` bytes of it ever held.

    Raises MessageTooLarge, BadReply for a stream that does not decode, KeyError for an encoding not in SUPPORTED.
    """
    pieces = list(inflate_pieces(data, encoding, max_size=max_size))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def inflate_pieces(data: bytes, encoding: str, *, max_size: int) -> Iterator[bytes]:
    """Yield the message in `data` in pieces of INFLATED_PIECE bytes at most, each inflated when it is taken. Taking
    them raises as `inflate` does.
    """
    if encoding == IDENTITY:
        yield data
        return
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    left = max_size
    while not inflater.eof:
        try:
            plain = inflater.decompress(data, min(left + 1, INFLATED_PIECE))
        except zlib.error as error:
            raise BadReply(f"a message does not decode as {encoding}") from error
        if len(plain) > left:
            raise MessageTooLarge(f"a message inflates to more than {max_size} bytes")
        if not plain and not inflater.eof:
            raise BadReply(f"a message compressed with {encoding} is cut off")
        left -= len(plain)
        data = inflater.unconsumed_tail
        if plain:
            yield plain
    if inflater.unused_data:
        # A second gzip member would be one too. gRPC-core refuses both, and following members has no bound but their
        # number.
        raise BadReply(f"a message has bytes behind the end of its {encoding} data")


def deflate(message: bytes, encoding: str) -> bytes:
    """Return the message compressed. Raises KeyError for an encoding not in SUPPORTED."""
    if encoding == IDENTITY:
        return message
    deflater = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    return deflater.compress(message) + deflater.flush()


def accepts(accept_encoding: str | None, encoding: str) -> bool:
    """Whether a peer that sent this `grpc-accept-encoding` reads messages in `encoding`."""
    if encoding == IDENTITY:
        return True
    if accept_encoding is None:
        return False
    return any(part.strip() == encoding for part in accept_encoding.split(","))
