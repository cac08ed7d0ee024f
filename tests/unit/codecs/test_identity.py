from __future__ import annotations

import gzip
import zlib

import pytest

from bridge.codecs.identity import uncompressed
from bridge.rpc.buffers import Account, Buffers, OpenAccount
from bridge.rpc.envelope import COMPRESSED, envelope
from bridge.rpc.errors import MalformedRequest, MessageTooLarge, UnsupportedCompression
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import StatusCode

GZIP: Metadata = (("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip"), ("x-a", "1"))


def undo(
    body: bytes,
    metadata: Metadata = GZIP,
    *,
    max_message: int = 100,
    max_body: int = 1000,
    account: Account | None = None,
) -> tuple[Metadata, bytes]:
    metadata, parts = uncompressed(
        metadata,
        body,
        max_message=max_message,
        max_body=max_body,
        account=account or OpenAccount(Buffers(1 << 30)),
    )
    return metadata, b"".join(parts)


def test_messages_are_inflated_and_the_metadata_forgets() -> None:
    """Plain messages between compressed ones stay."""
    body = envelope(gzip.compress(b"one"), flags=COMPRESSED) + envelope(b"two") + envelope(b"")

    assert ((("x-a", "1"),), envelope(b"one") + envelope(b"two") + envelope(b"")) == undo(body)


def test_plain_request_keeps_its_body() -> None:
    body = envelope(b"one")

    assert ((), body) == undo(body, (("grpc-accept-encoding", "gzip"),))


@pytest.mark.parametrize("encoding", ["zstd", "br", "GZIP", "gzip,deflate", "x" * 1000])
@pytest.mark.parametrize(
    "body", [b"", envelope(b"x"), envelope(b"x", flags=COMPRESSED)], ids=["none", "plain", "compressed"]
)
def test_unknown_encoding(body: bytes, encoding: str) -> None:
    """It is refused whether a message uses it or not, and the client learns which ones there are (gRPC
    compression.md).
    """
    with pytest.raises(UnsupportedCompression, match="identity,deflate,gzip") as raised:
        undo(body, (("grpc-encoding", encoding),))

    assert StatusCode.UNIMPLEMENTED is raised.value.code
    assert (("grpc-accept-encoding", "identity,deflate,gzip"),) == raised.value.trailing


def test_message_that_does_not_inflate() -> None:
    """It is the client's fault, not the function's."""
    with pytest.raises(MalformedRequest):
        undo(envelope(b"nonsense", flags=COMPRESSED))


def test_message_that_inflates_beyond_max_request() -> None:
    with pytest.raises(MessageTooLarge):
        undo(envelope(gzip.compress(bytes(101)), flags=COMPRESSED))


def test_messages_that_inflate_beyond_max_buffered() -> None:
    """Many small ones can do it too."""
    body = envelope(zlib.compress(bytes(95)), flags=COMPRESSED) * 11

    with pytest.raises(MessageTooLarge):
        undo(body, (("grpc-encoding", "deflate"),))
