from __future__ import annotations

import pytest
from hpack import Decoder as LibraryDecoder
from hpack import Encoder, NeverIndexedHeaderTuple
from hpack.hpack import encode_integer
from hypothesis import given
from hypothesis import strategies as st

from bridge.http2 import hpack
from bridge.http2.events import ErrorCode, Fields
from bridge.http2.faults import ConnectionFault
from bridge.http2.hpack import Decoder
from tests.support.frames import REQUEST


def decoder(max_list: int = 16 << 10, max_metadata: int = 100) -> Decoder:
    return Decoder(max_list=max_list, max_metadata=max_metadata)


def entries(ours: Decoder) -> list[tuple[tuple[str, str], int]]:
    """The dynamic table, newest first, each field with its size."""
    first = len(hpack.STATIC_TABLE) + 1
    return list(zip(ours._table[first:], ours._sizes[first:], strict=True))


def refusal(block: bytes) -> ConnectionFault:
    with pytest.raises(ConnectionFault) as caught:
        decoder().decode(block)
    return caught.value


# -- in ----------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["x-a", "x-b", "content-type", "grpc-timeout", "authorization", "accept", "x-long-" + "n" * 90])
VALUES = st.one_of(
    st.sampled_from(["", "1", "application/grpc", "v" * 130, "v" * 1500]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60),
)
LISTS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=8)


@given(lists=st.lists(st.tuples(LISTS, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=8))
def test_whatever_an_encoder_does_is_undone(
    lists: list[tuple[list[tuple[str, str, bool]], bool, int | None]],
) -> None:
    """Random lists with Huffman coding and without, never indexed or not, the table resized and evicting, each block
    read twice.
    """
    encoder, ours = Encoder(), decoder(max_list=1 << 20)
    for fields, huffman, resize in lists:
        if resize is not None:
            encoder.header_table_size = resize
        for _ in range(2):
            expected = tuple([(name, value) for name, value, _ in fields])
            block = encoder.encode(
                [
                    NeverIndexedHeaderTuple(name.encode(), value.encode()) if sensitive else (name, value)
                    for name, value, sensitive in fields
                ],
                huffman=huffman,
            )

            assert expected == ours.decode(block).fields
            assert [(name.decode(), value.decode()) for name, value in encoder.header_table.dynamic_entries] == [
                field for field, _ in entries(ours)
            ]


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_garbage_is_a_compression_error_or_a_list(blocks: list[bytes]) -> None:
    """Nothing else comes of any bytes, and the table keeps to its size."""
    ours = decoder()
    codes: set[int] = set()
    for block in blocks:
        try:
            ours.decode(block)
        except ConnectionFault as fault:
            codes.add(fault.code)
            break

    assert codes <= {ErrorCode.COMPRESSION_ERROR}
    assert ours._size == sum(size for _, size in entries(ours)) <= hpack.TABLE_SIZE


def test_examples_of_the_rfc() -> None:
    """RFC 7541 C.4: three requests on one connection, Huffman coded."""
    ours = decoder()
    first = ours.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")).fields
    second = ours.decode(bytes.fromhex("828684be5886a8eb10649cbf")).fields
    third = ours.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")).fields

    assert (":authority", "www.example.com") == first[-1]
    assert (":authority", "www.example.com") == second[3]
    assert ("cache-control", "no-cache") == second[4]
    assert ("custom-key", "custom-value") == third[-1]


BAD_BLOCKS = {
    "index 0": b"\x80",
    "index above the table": b"\xbe",
    "index cut off": b"\xff",
    "index without end": b"\xff\xff\xff\xff\xff\xff\xff\x01",
    "name index above the table": b"\x7f\x40\x01a",
    "literal cut off behind its name": b"\x00\x01a",
    "literal cut off in its name": b"\x00\x05ab",
    "string longer than its block": b"\x00\x01a\x7f\xff\xff\x01",
    "Huffman string with bad padding": b"\x00\x01a\x82\x1f\xff",
    "size update above the limit": b"\x3f\xe2\x1f\x82",
    "size update behind a field": b"\x82\x20",
    "three size updates": b"\x20\x20\x20\x82",
    "size update cut off": b"\x3f",
}


@pytest.mark.parametrize("block", BAD_BLOCKS.values(), ids=BAD_BLOCKS.keys())
def test_bad_blocks(block: bytes) -> None:
    assert ErrorCode.COMPRESSION_ERROR == refusal(block).code


@pytest.mark.parametrize("updates", [b"\x20", b"\x20\x3f\xe1\x1f"], ids=["one", "down and up again"])
def test_size_updates_at_the_beginning(updates: bytes) -> None:
    """RFC 7541 4.2: the smallest in between and the last."""
    assert ((":method", "GET"),) == decoder().decode(updates + b"\x82").fields


def test_size_update_evicts() -> None:
    ours = decoder()
    ours.decode(b"\x40\x01a\x01b")
    ours.decode(b"\x20")

    with pytest.raises(ConnectionFault):
        ours.decode(b"\xbe")


def test_entry_larger_than_the_table_empties_it() -> None:
    """RFC 7541 4.4: not an error."""
    ours = decoder()
    ours.decode(b"\x40\x01a\x01b")
    large = ours.decode(b"\x40\x01x" + encode_integer(5000, 7) + b"v" * 5000)

    assert (("x", "v" * 5000),) == large.fields
    assert [] == entries(ours)


# -- the remembered blocks ---------------------------------------------------------------------------------------------

INSERT_A, INSERT_B = b"\x40\x01a\x011", b"\x40\x01b\x012"
NEWEST = b"\xbe"


def test_repeated_block_is_the_same_list() -> None:
    ours = decoder()
    block = b"\x82\x86\x84"

    assert ours.decode(block) is ours.decode(block)


def test_block_that_inserts_inserts_each_time() -> None:
    """Its bytes may repeat; the table must change all the same."""
    ours = decoder()
    ours.decode(INSERT_A)
    ours.decode(INSERT_A)

    assert 2 == len(entries(ours))


def test_insertion_changes_what_a_block_means() -> None:
    ours = decoder()
    ours.decode(INSERT_A)
    before = ours.decode(NEWEST).fields
    ours.decode(INSERT_B)

    assert (("a", "1"),) == before
    assert (("b", "2"),) == ours.decode(NEWEST).fields


def test_insertion_that_evicts_leaves_the_count_but_not_the_meaning() -> None:
    """One comes, one goes: the table is as long as before."""
    ours = decoder()
    one_entry = bytes([0x20 | encode_integer(34, 5)[0]]) + encode_integer(34, 5)[1:]
    ours.decode(one_entry + INSERT_A)
    before = ours.decode(NEWEST).fields
    ours.decode(INSERT_B)

    assert 1 == len(entries(ours))
    assert (("a", "1"),) == before
    assert (("b", "2"),) == ours.decode(NEWEST).fields


def test_size_update_changes_what_a_block_means() -> None:
    ours = decoder()
    ours.decode(INSERT_A)
    ours.decode(NEWEST)
    ours.decode(b"\x20\x3f\xe1\x1f")

    with pytest.raises(ConnectionFault):
        ours.decode(NEWEST)


def test_block_too_large_still_changes_the_table() -> None:
    ours = decoder(max_list=100)
    ours.decode(INSERT_A)
    ours.decode(NEWEST)
    refused = ours.decode(INSERT_B + b"\x82" * 10)

    assert "above http2.max_header_list (100 bytes)" in refused.excess
    assert () == refused.fields
    assert (("b", "2"),) == ours.decode(NEWEST).fields


def test_memory_for_blocks_is_bounded() -> None:
    """32 blocks of at most 512 bytes."""
    ours = decoder()
    for number in range(200):
        ours.decode(b"\x00\x01x" + bytes([3]) + b"%03d" % number)
    ours.decode(b"\x00\x01x" + encode_integer(600, 7) + b"v" * 600)

    assert len(ours._blocks) <= 32
    assert max(len(block) for block in ours._blocks) <= 512


# -- limits and flaws --------------------------------------------------------------------------------------------------


METHOD_AGAIN, CUSTOM = b"\x82", b"\x00\x01x\x01y"


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (CUSTOM * 100, 0),
        (METHOD_AGAIN + CUSTOM * 100, 0),
        (CUSTOM * 101, 101),
        (METHOD_AGAIN + CUSTOM * 101, 101),
        (METHOD_AGAIN * 101, 0),
        (METHOD_AGAIN * 102, 101),
    ],
)
def test_metadata_is_counted(block: bytes, count: int) -> None:
    """A name that HTTP/2 or a gRPC library sends counts from its second time on."""
    said = f"the call has {count} metadata entries, above http2.max_metadata (100)"

    assert (said if count else "") == decoder().decode(block).excess


def test_nothing_that_a_library_sends_counts_as_metadata() -> None:
    names = [
        "user-agent",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-accept-encoding",
        "content-length",
        "accept-encoding",
        "host",
        "grpc-previous-rpc-attempts",
    ]
    sent = dict(REQUEST) | dict.fromkeys(names, "1") | {"x": "y"}
    block = hpack.encode(tuple(sent.items()))
    allowed, refused = decoder(max_metadata=1).decode(block), decoder(max_metadata=1).decode(block + CUSTOM)

    assert "" == allowed.excess
    assert "has 2 metadata entries, above http2.max_metadata (1)" in refused.excess


@pytest.mark.parametrize(("max_list", "is_too_large"), [(42 * 3, False), (42 * 3 - 1, True)])
def test_list_is_measured_as_the_rfc_says(max_list: int, is_too_large: bool) -> None:
    """Name, value and 32 for each: `:method GET` is 42."""
    assert is_too_large == bool(decoder(max_list=max_list).decode(b"\x82\x82\x82").excess)


def test_flaw_stays_with_its_table_entry() -> None:
    """A bad field that was inserted makes every list bad that refers to it, and no other; its name may be used."""
    ours = decoder()
    inserted = ours.decode(b"\x40\x01a\x01\0")
    referred = ours.decode(NEWEST)
    named = ours.decode(b"\x0f\x2f\x01b")
    other = ours.decode(b"\x82")

    assert inserted.flaw
    assert referred.flaw
    assert (None, (("a", "b"),)) == (named.flaw, named.fields)
    assert other.flaw is None


def test_spaces_count_in_the_table_as_sent() -> None:
    """What is taken off a value must not make our table differ from the client's."""
    ours = decoder()
    ours.decode(b"\x40\x01a\x04 b  ")

    assert [(("a", "b"), 37)] == entries(ours)


def test_values_are_latin_1() -> None:
    assert (("x", "\xe9"),) == decoder().decode(b"\x00\x01x\x01\xe9").fields


# -- out ---------------------------------------------------------------------------------------------------------------

SENT = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([":status", "content-type", "grpc-status", "grpc-message", "set-cookie"]),
            st.from_regex(r"[a-z0-9_.-]{1,200}", fullmatch=True),
        ),
        st.one_of(
            st.sampled_from(["200", "0", "application/grpc", "m" * 126, "m" * 127, "m" * 128, "m" * 9000]),
            st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300),
        ),
    ),
    max_size=12,
)


@given(SENT)
def test_the_library_reads_what_we_write(fields: list[tuple[str, str]]) -> None:
    """And its table stays empty."""
    library = LibraryDecoder()
    library.max_header_list_size = 1 << 20

    assert fields == [(str(name), str(value)) for name, value in library.decode(hpack.encode(tuple(fields)))]
    assert 0 == len(library.header_table.dynamic_entries)


@given(SENT)
def test_we_read_what_we_write(fields: list[tuple[str, str]]) -> None:
    stripped = [(name, value.strip(" ")) for name, value in fields]

    assert tuple(stripped) == decoder(max_list=1 << 20).decode(hpack.encode(tuple(fields))).fields


def test_static_table_is_used() -> None:
    fields: Fields = ((":status", "200"), ("content-type", "x"))

    assert b"\x88\x0f\x10\x01x" == hpack.encode(fields)


def test_what_is_not_latin_1_becomes_a_question_mark() -> None:
    assert b"\x00\x01x\x01?" == hpack.encode((("x", "\u20ac"),))


def test_static_table_is_the_libraries() -> None:
    table = LibraryDecoder().header_table

    assert [table.get_by_index(index) for index in range(1, 62)] == [
        (name.encode(), value.encode()) for name, value in hpack.STATIC_TABLE
    ]


def test_request_of_a_client_is_read_with_its_verdict() -> None:
    request = decoder().decode(bytes(Encoder().encode(list(REQUEST))))

    assert (REQUEST, None, None) == (request.fields, request.flaw, request.fault)
