"""Message compression (gRPC compression.md): identity, deflate and gzip, inflated with a bound."""

from __future__ import annotations

import zlib

from lambda_fn.rpc import IDENTITY
from lambda_fn.status import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED, Refused, Unannounced

SUPPORTED = (IDENTITY, "deflate", "gzip")
ACCEPT_ENCODING = ", ".join(SUPPORTED)

# zlib's window argument: 16 added means a gzip header; "deflate" is in gRPC the zlib format.
_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def check(encoding: str) -> None:
    """Check the encoding. Raises Refused for one that cannot be undone here, saying which can."""
    if encoding not in SUPPORTED:
        raise Refused(
            UNIMPLEMENTED,
            f"messages compressed with {encoding[:40]!r} cannot be read; known: {ACCEPT_ENCODING}",
            (("grpc-accept-encoding", ACCEPT_ENCODING),),
        )


def inflate(data: bytes, encoding: str, *, max_size: int | None) -> bytes:
    """Return the plain message. Never more than `max_size` bytes of it are held. Raises Refused."""
    if encoding == IDENTITY:
        raise Unannounced
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = inflater.decompress(data, 0 if max_size is None else max_size + 1)
    except zlib.error as error:
        raise Refused(INTERNAL, f"a message does not decode as {encoding}") from error
    if max_size is not None and len(plain) > max_size:
        raise Refused(RESOURCE_EXHAUSTED, "Decompressed message larger than max")
    if not inflater.eof:
        raise Refused(INTERNAL, f"a message compressed with {encoding} is cut off")
    if inflater.unused_data:
        # A second gzip member too, as with gRPC-core.
        raise Refused(INTERNAL, f"a message has bytes behind the end of its {encoding} data")
    return plain


def deflate(message: bytes, encoding: str) -> bytes | None:
    """Return the message compressed, or None if that makes it no smaller."""
    if encoding == IDENTITY:
        return None
    deflater = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    packed = deflater.compress(message) + deflater.flush()
    return packed if len(packed) < len(message) else None


def accepted(header: str | None) -> frozenset[str]:
    """Return what a caller that sent this `grpc-accept-encoding`, or this `accept-encoding` of HTTP, reads."""
    parts = (part.partition(";")[0].strip() for part in (header or "").split(","))
    return frozenset((IDENTITY, *parts))
