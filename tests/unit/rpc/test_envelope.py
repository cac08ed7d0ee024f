"""Length-prefixed messages: made, followed across chunks, cut apart."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.envelope import EnvelopeReader, EnvelopeScanner, data_of, envelope
from bridge.rpc.errors import MalformedRequest, MessageTooLarge
from tests.support.fakes import in_chunks

_MESSAGES = st.lists(st.binary(max_size=40), max_size=6)
_CUTS = st.lists(st.integers(min_value=0, max_value=300), max_size=12)
_LIMIT = 100


def _read_all(reader: EnvelopeReader) -> list[bytes]:
    return list(iter(reader.next_envelope, None))


def test_envelope_is_a_flag_a_length_and_the_data() -> None:
    """Five bytes stand in front."""
    assert b"\x00\x00\x00\x00\x03abc" == envelope(b"abc")
    assert b"\x80\x00\x00\x00\x00" == envelope(b"", flags=0x80)
    assert b"abc" == data_of(envelope(b"abc"))


@given(_MESSAGES, _CUTS)
def test_reader_gives_the_same_envelopes_for_any_chunking(messages: list[bytes], cuts: list[int]) -> None:
    """Prefixes and messages may be cut anywhere."""
    reader = EnvelopeReader(_LIMIT)
    found = []
    for chunk in in_chunks(b"".join(map(envelope, messages)), cuts):
        reader.feed(chunk)
        found += _read_all(reader)
    reader.finish()

    assert [envelope(message) for message in messages] == found


@given(_MESSAGES, _CUTS)
def test_scanner_counts_the_same_for_any_chunking(messages: list[bytes], cuts: list[int]) -> None:
    """Prefixes and messages may be cut anywhere."""
    scanner = EnvelopeScanner(_LIMIT)
    for chunk in in_chunks(b"".join(map(envelope, messages)), cuts):
        scanner.feed(chunk)
    scanner.finish()

    assert len(messages) == scanner.count
    assert not scanner.has_compressed


@given(st.binary(max_size=200), _CUTS)
def test_scanner_and_reader_agree_on_garbage(garbage: bytes, cuts: list[int]) -> None:
    """Whatever the bytes and however they are cut: both accept them, or both refuse them for the same reason."""
    chunks = in_chunks(garbage, cuts)

    def scan() -> int:
        scanner = EnvelopeScanner(_LIMIT)
        for chunk in chunks:
            scanner.feed(chunk)
        scanner.finish()
        return scanner.count

    def read() -> int:
        reader = EnvelopeReader(_LIMIT)
        count = 0
        for chunk in chunks:
            reader.feed(chunk)
            count += len(_read_all(reader))
        reader.finish()
        return count

    assert _outcome(scan) == _outcome(read)


def _outcome(act: Callable[[], int]) -> object:
    try:
        return act()
    except (MalformedRequest, MessageTooLarge) as error:
        return str(error)


def test_message_at_the_limit_passes() -> None:
    """The limit itself is allowed."""
    body = envelope(b"x" * _LIMIT)
    scanner, reader = EnvelopeScanner(_LIMIT), EnvelopeReader(_LIMIT)
    scanner.feed(body)
    scanner.finish()
    reader.feed(body)

    assert body == reader.next_envelope()


@pytest.mark.parametrize("size", [_LIMIT + 1, 2**32 - 1])
def test_declared_length_is_enough_to_refuse(size: int) -> None:
    """Not a byte of the message has arrived, and it is refused, with both numbers."""
    prefix = b"\x00" + size.to_bytes(4, "big")
    reader = EnvelopeReader(_LIMIT)
    reader.feed(prefix)

    with pytest.raises(MessageTooLarge, match=rf"{size} bytes is above max_request \(100 bytes\)"):
        EnvelopeScanner(_LIMIT).feed(prefix)
    with pytest.raises(MessageTooLarge, match=str(size)):
        reader.next_envelope()


@pytest.mark.parametrize("flags", [0x02, 0x80, 0x81, 0xFF])
def test_unknown_flag_is_refused(flags: int) -> None:
    """Native gRPC knows 0 and 1; 0x80 is gRPC-Web's."""
    reader = EnvelopeReader(_LIMIT)
    reader.feed(envelope(b"", flags=flags))

    with pytest.raises(MalformedRequest, match=f"0x{flags:02x}"):
        EnvelopeScanner(_LIMIT).feed(envelope(b"", flags=flags))
    with pytest.raises(MalformedRequest):
        reader.next_envelope()


@pytest.mark.parametrize("body", [b"\x00", b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x02a"])
def test_body_that_ends_inside_a_message_is_refused(body: bytes) -> None:
    """Whether the prefix or the data is cut."""
    scanner, reader = EnvelopeScanner(_LIMIT), EnvelopeReader(_LIMIT)
    scanner.feed(body)
    reader.feed(body)

    assert reader.next_envelope() is None
    with pytest.raises(MalformedRequest, match="middle of a message"):
        scanner.finish()
    with pytest.raises(MalformedRequest, match="middle of a message"):
        reader.finish()


def test_compressed_message_is_noticed() -> None:
    """One is enough."""
    scanner = EnvelopeScanner(_LIMIT)
    scanner.feed(envelope(b"a") + envelope(b"b", flags=1) + envelope(b"c"))

    assert scanner.has_compressed
    assert 3 == scanner.count


def test_reader_lets_go_of_what_was_taken() -> None:
    """A stream may run for days."""
    reader = EnvelopeReader(_LIMIT)
    for _ in range(100):
        reader.feed(envelope(b"x" * 50))
        reader.next_envelope()

    assert len(reader._buffer) <= 55


def test_many_small_messages_in_one_chunk_are_read_in_linear_time() -> None:
    """The buffer is not cut anew for each of 50,000 messages, which would take a minute."""
    reader = EnvelopeReader(_LIMIT)
    reader.feed(envelope(b"x" * 20) * 50_000)

    assert 50_000 == len(_read_all(reader))
