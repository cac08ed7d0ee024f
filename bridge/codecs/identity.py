"""`compression: identity`: a request body with every message inflated, for backends that shall see no compression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge.rpc.buffers import Account
from bridge.rpc.compression import ACCEPT_ENCODING, IDENTITY, SUPPORTED, inflate_pieces
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE
from bridge.rpc.errors import BadReply, MalformedRequest, MessageTooLarge, UnsupportedCompression
from bridge.rpc.metadata import Metadata, value_of

_ENCODINGS = frozenset(("grpc-encoding", "grpc-accept-encoding"))
_PLACE = "here (compression: identity)"


def uncompressed(
    metadata: Metadata, body: bytes, *, max_message: int, max_body: int, account: Account
) -> tuple[Metadata, Iterable[bytes | bytearray]]:
    """Return the same request without compression, in its metadata too, its body in parts. `body` is whole and checked;
    limits are bytes, inflated. There may be very many parts, each inflated when it is taken; join them when all are
    there. `account` counts what was inflated.

    Raises UnsupportedCompression; taking the parts raises MalformedRequest, MessageTooLarge, BuffersFull.
    """
    encoding = value_of(metadata, "grpc-encoding") or IDENTITY
    refuse_unknown(encoding, place=_PLACE)
    metadata = tuple([field for field in metadata if field[0] not in _ENCODINGS])
    if encoding == IDENTITY:
        return metadata, (body,)
    return metadata, _inflate_each(body, encoding, max_message, max_body, account)


def _inflate_each(
    body: bytes, encoding: str, max_message: int, max_body: int, account: Account
) -> Iterator[bytes | bytearray]:
    room = max_body
    at = 0
    while at < len(body):
        start, flags = at + PREFIX_SIZE, body[at]
        at = start + int.from_bytes(body[at + 1 : start], "big")
        if flags & COMPRESSED:
            prefix, size = bytearray(PREFIX_SIZE), 0
            yield prefix
            for piece in _pieces(body[start:at], encoding, min(max_message, room)):
                account.hold(len(piece))
                size += len(piece)
                yield piece
            prefix[1:] = size.to_bytes(PREFIX_SIZE - 1, "big")
            room -= PREFIX_SIZE + size
        else:
            room -= at - start + PREFIX_SIZE
            yield body[start - PREFIX_SIZE : at]
        if room < 0:
            raise MessageTooLarge(f"the request inflates to more than max_buffered ({max_body} bytes)")


def _pieces(data: bytes, encoding: str, limit: int) -> Iterator[bytes]:
    try:
        yield from inflate_pieces(data, encoding, max_size=limit)
    except BadReply as error:
        raise undecodable(encoding) from error


def undecodable(encoding: str) -> MalformedRequest:
    """Return the error for a request message that does not decode."""
    return MalformedRequest(f"a request message does not decode as {encoding}")


def refuse_unknown(encoding: str, *, place: str) -> None:
    """Refuse an encoding that the bridge cannot undo. Raises UnsupportedCompression.

    It counts that the call names it, compressed messages or not (gRPC compression.md).
    """
    if encoding not in SUPPORTED:
        raise UnsupportedCompression(f"the bridge cannot undo {encoding[:40]} {place}; it reads {ACCEPT_ENCODING}")
