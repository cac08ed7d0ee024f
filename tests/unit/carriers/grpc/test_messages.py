from __future__ import annotations

import gzip

import pytest

from bridge.carriers.grpc.messages import MessageReader
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import BadReply, BuffersFull, ReplyTooLarge


def reader(*, limit: int = 1000, buffers: int = 1 << 20) -> tuple[MessageReader, OpenAccount]:
    account = OpenAccount(Buffers(buffers))
    return MessageReader("grpc://server:1", limit=limit, account=account), account


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_envelopes_do_not_depend_on_the_chunks(size: int) -> None:
    messages, _ = reader()
    sent = [envelope(b"a"), envelope(b""), envelope(b"b" * 40)]
    body = b"".join(sent)
    found = []

    for at in range(0, len(body), size):
        messages.add(body[at : at + size])
        while (each := messages.next_envelope()) is not None:
            found.append(each)

    assert sent == found
    assert len(body) == messages.uncredited
    assert not messages.is_inside


def test_a_cut_message_is_seen() -> None:
    messages, _ = reader()

    messages.add(envelope(b"abc")[:-1])

    assert messages.next_envelope() is None
    assert messages.is_inside


def test_a_message_above_the_limit_is_refused_by_its_prefix() -> None:
    messages, _ = reader(limit=10)
    messages.add(envelope(b"x" * 11)[:5])

    with pytest.raises(ReplyTooLarge, match=r"11 bytes from grpc://server:1 is above max_response \(10 bytes\)"):
        messages.next_envelope()


def test_waiting_bytes_count_in_the_buffers_until_they_are_taken() -> None:
    messages, account = reader(limit=1 << 20, buffers=64 << 10)
    messages.add(envelope(b"x" * 20_000))
    held = account.held

    with pytest.raises(BuffersFull):
        messages.add(b"x" * (64 << 10))
    assert messages.next_envelope() is not None

    assert held > 15_000
    assert account.held == 0


async def test_compressed_messages_are_inflated_within_the_limit() -> None:
    messages, _ = reader(limit=100)
    messages.encoding = "gzip"

    assert envelope(b"y" * 100) == await messages.plain(envelope(gzip.compress(b"y" * 100), flags=1))
    with pytest.raises(ReplyTooLarge, match="once inflated"):
        await messages.plain(envelope(gzip.compress(b"y" * 101), flags=1))
    with pytest.raises(BadReply, match="does not decode as gzip"):
        await messages.plain(envelope(b"junk", flags=1))


async def test_a_compressed_message_without_an_encoding_is_refused() -> None:
    messages, _ = reader()

    with pytest.raises(BadReply, match="names no grpc-encoding"):
        await messages.plain(envelope(b"", flags=1))
