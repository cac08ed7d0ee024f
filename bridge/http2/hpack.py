"""Header compression (RFC 7541). Decodes header blocks to checked header lists, and encodes fields to header blocks.

The decoder keeps the client's dynamic table. It remembers whole blocks while that table does not change. The encoder
has no table: every field is a reference to the static one or a literal. Neither knows frames or streams.
"""

from __future__ import annotations

import re
from array import array
from functools import lru_cache

from bridge.http2 import huffman
from bridge.http2.events import ErrorCode, Fields, ViolationKind
from bridge.http2.faults import ConnectionFault
from bridge.http2.headers import (
    FIELD_OVERHEAD,
    SPACE,
    HeaderList,
    checked_by_names,
    metadata_count,
    stripped,
    value_flaw,
    value_flaw_in,
)
from bridge.rpc.remembered import BoundedDict

Field = tuple[str, str]

TABLE_SIZE = 4096
"""Bytes that the client's dynamic table may hold. This is the protocol's default, and we never change it."""

# RFC 7541 appendix A, from index 1.
STATIC_TABLE: tuple[Field, ...] = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
)

_FIRST_DYNAMIC = len(STATIC_TABLE) + 1
_BY_INDEX: tuple[Field, ...] = (("", ""), *STATIC_TABLE)
"""Index 0 is not used (RFC 7541 6.1)."""
_SIZES = tuple([len(name) + len(value) + FIELD_OVERHEAD for name, value in _BY_INDEX])

_INDEXED = 0x80
_INSERTED = 0x40
_SIZE_UPDATE = 0x20
_HUFFMAN = 0x80
_MAX_SIZE_UPDATES = 2  # RFC 7541 4.2: the smallest size in between, then the last
_REFERENCES = re.compile(rb"[\x81-\xfe]{1,64}").match
"""Matches references to the table that have one byte each. A block of a usual call has little else."""
_TO_INDEX = bytes(byte & 0x7F for byte in range(256))
"""Translates such references to indexes."""
_MAX_INTEGER_BYTES = 4  # behind the prefix: 2^28, more than any block holds

_FIELD_WORK, _REFERENCE_WORK = 64, 16
"""The cost of a field, and of a reference to the table, in bytes of Huffman code that take as long."""
_SPARE_WORK = 64 << 10
"""Most work on the rest of a list that is already too large, in bytes of Huffman code. It allows 1,000 fields or 4,000
references.
"""
_LONGEST_HUFFMAN = 64 << 10
"""Bytes of one Huffman-coded string. A string longer than this and than four times the limit on lists is refused
without decoding.
"""

_REMEMBERED_BLOCKS = 32
_LONGEST_REMEMBERED = 512
"""Bytes of one remembered block. Together these bound what a client can make its connection hold."""


class Decoder:
    """The decoder of one connection. After a fault the table is lost, and with it the connection."""

    __slots__ = (
        "_blocks",
        "_capacity",
        "_is_tainted",
        "_longest_huffman",
        "_max_list",
        "_max_metadata",
        "_run",
        "_run_names",
        "_run_size",
        "_size",
        "_sizes",
        "_table",
    )

    def __init__(self, *, max_list: int, max_metadata: int) -> None:
        self._max_list = max_list
        # A character takes 30 bits at most.
        self._longest_huffman = max(_LONGEST_HUFFMAN, 4 * max_list)
        self._max_metadata = max_metadata
        self._table = [*_BY_INDEX]
        """Fields by index: those of the static table, then those of the dynamic table, newest first."""
        self._sizes = array("H", _SIZES)
        """The size of each. Values count as they were sent, with spaces around them."""
        self._size = 0
        """That of the dynamic table."""
        self._capacity = TABLE_SIZE
        self._blocks: BoundedDict[bytes, HeaderList] = BoundedDict(most=_REMEMBERED_BLOCKS, largest=_LONGEST_REMEMBERED)
        """The lists of blocks already read, valid while the table does not change. A block that changes the table must
        be read each time, so it is never here.
        """
        self._is_tainted = False
        """An invalid value has entered the table. From then on every value of every list is checked."""
        self._run: list[Field] = []
        """The fields of the last references in a row. A client's next block often refers to the same ones."""
        self._run_names: list[str] = []
        self._run_size = 0

    def decode(self, block: bytes) -> HeaderList:
        """Decode a whole header block to a list. Raises ConnectionFault (COMPRESSION_ERROR)."""
        known = self._blocks.get(block)
        if known is not None:
            return known
        try:
            decoded, changes_table = self._read(block)
        except IndexError:
            raise _fault("a header block that ends early or names no table entry") from None
        except ValueError as error:
            raise _fault(str(error)) from error
        if changes_table:
            self._blocks.clear()
        else:
            self._blocks.remember(block, decoded)
        return decoded

    def _read(self, block: bytes) -> tuple[HeaderList, bool]:  # noqa: PLR0915 - one loop, for every call's sake
        """Return the list, and whether the block has changed the table."""
        table = self._table
        fields: list[Field] = []
        names: list[str] = []
        flaw: str | None = None
        at = self._read_size_updates(block) if block and block[0] & 0xE0 == _SIZE_UPDATE else 0
        changes_table = at > 0
        end, room, longest = len(block), self._max_list, self._longest_huffman
        while at < end:
            byte = block[at]
            if byte < _INDEXED:
                if byte >= _INSERTED:
                    mask = 0x3F
                elif byte < _SIZE_UPDATE:
                    mask = 0x0F
                else:
                    raise ValueError("a table size update behind the beginning of a block")
                index = byte & mask
                at += 1
                if index == mask:
                    index += block[at]
                    at += 1
                    if index >= mask + 0x80:  # it has more than one further byte
                        index, at = _integer(block, at - 1, mask)
                if index:
                    name = table[index][0]
                else:
                    name, at = _string(block, at, longest)
                value, at = _string(block, at, longest)
                size = len(name) + len(value) + FIELD_OVERHEAD
                room -= size
                field = (name, value.strip(SPACE))
                if not value.isprintable():
                    flaw = value_flaw(field[1]) or flaw
                fields.append(field)
                names.append(name)
                if byte >= _INSERTED:
                    self._insert(field, size)
                    changes_table = True
                    if flaw is not None:
                        self._is_tainted = True
            elif references := _REFERENCES(block, at):
                indexes = references[0].translate(_TO_INDEX)
                at += len(indexes)
                run = [*map(table.__getitem__, indexes)]
                if run != self._run:
                    self._remember_run(run, indexes)
                fields += run
                names += self._run_names
                room -= self._run_size
            else:
                index, at = _index(block, at + 1, byte, 0x7F)
                field = self._entry(index)
                fields.append(field)
                names.append(field[0])
                room -= self._sizes[index]
            if room < 0:
                excess, work, has_inserted = self._skim(block, at, self._max_list - room)
                work += _FIELD_WORK * len(fields)
                return HeaderList((), excess=excess, work=work), changes_table or has_inserted
        if len(fields) > self._max_metadata and (excess := self._metadata_excess(fields)):
            work = end + _FIELD_WORK * len(fields)
            return HeaderList((), excess=excess, work=work), changes_table
        whole = tuple(fields)
        if self._is_tainted:
            flaw = flaw or value_flaw_in(whole)
        return checked_by_names(tuple(names), whole, flaw), changes_table

    def _remember_run(self, run: list[Field], indexes: bytes) -> None:
        self._run = run
        self._run_names = [name for name, _ in run]
        self._run_size = sum([self._sizes[index] for index in indexes])

    def _skim(self, block: bytes, at: int, size: int) -> tuple[str, int, bool]:
        """Read the rest of a list that has `size` bytes and is too large, because later blocks may refer to what this
        one inserts.

        Returns the text about the list, the work that the whole block cost, and whether it has inserted something.
        Raises ConnectionFault if there is too much to read.
        """
        spare, end, has_inserted = _SPARE_WORK, len(block), False
        while at < end:
            byte = block[at]
            at += 1
            if byte >= _INDEXED:
                spare -= _REFERENCE_WORK
                index, at = _index(block, at, byte, 0x7F)
                name, value = self._entry(index)
            elif _SIZE_UPDATE <= byte < _INSERTED:
                raise ValueError("a table size update behind the beginning of a block")
            else:
                spare -= _FIELD_WORK
                index, at = _index(block, at, byte, 0x3F if byte >= _INSERTED else 0x0F)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at, cost = _priced_string(block, at, self._longest_huffman)
                    spare -= cost
                value, at, cost = _priced_string(block, at, self._longest_huffman)
                spare -= cost
                if byte >= _INSERTED:
                    has_inserted = True
                    self._is_tainted |= value_flaw(stripped(value)) is not None
                    self._insert((name, stripped(value)), len(name) + len(value) + FIELD_OVERHEAD)
            size += len(name) + len(value) + FIELD_OVERHEAD
            if spare < 0:
                raise ConnectionFault(
                    ErrorCode.ENHANCE_YOUR_CALM,
                    ViolationKind.HEADER_LIST,
                    "header_list_far_too_large",
                )
        limit = self._max_list
        excess = f"the header list has {size} bytes, above http2.max_header_list ({limit} bytes)"
        return excess, end + _SPARE_WORK - spare, has_inserted

    def _entry(self, index: int) -> Field:
        """Return the table entry of this index. Raises IndexError, and ValueError for 0."""
        if not index:
            raise ValueError("a reference to table entry 0")
        return self._table[index]

    def _metadata_excess(self, fields: list[Field]) -> str:
        """Why the list has too many fields, or an empty text."""
        count, limit = metadata_count(fields), self._max_metadata
        if count <= limit:
            return ""
        return f"the call has {count} metadata entries, above http2.max_metadata ({limit})"

    def _read_size_updates(self, block: bytes) -> int:
        """Obey the table size updates at the block's beginning. Returns where its fields begin."""
        at = updates = 0
        while at < len(block) and block[at] & 0xE0 == _SIZE_UPDATE:
            capacity, at = block[at] & 0x1F, at + 1
            if capacity == 0x1F:
                capacity, at = _integer(block, at, 0x1F)
            updates += 1
            if capacity > TABLE_SIZE or updates > _MAX_SIZE_UPDATES:
                raise ValueError("a table size update above the limit, or one too many")
            self._capacity = capacity
            self._evict(capacity)
        return at

    def _insert(self, field: Field, size: int) -> None:
        held = self._size + size
        if held > self._capacity:
            self._evict(self._capacity - size)
            held = self._size + size
            if held > self._capacity:  # RFC 7541 4.4: a larger entry only empties the table
                return
        self._table.insert(_FIRST_DYNAMIC, field)
        self._sizes.insert(_FIRST_DYNAMIC, size)
        self._size = held

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until the rest fits."""
        table, sizes, held = self._table, self._sizes, self._size
        while held > room and len(table) > _FIRST_DYNAMIC:
            table.pop()
            held -= sizes.pop()
        self._size = held


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, ViolationKind.COMPRESSION, reason)


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """Read an integer whose prefix is full (RFC 7541 5.1). Returns it and where it ends."""
    if block[at] < 0x80:
        return prefix + block[at], at + 1
    value = prefix
    for index in range(_MAX_INTEGER_BYTES):
        byte = block[at + index]
        value += (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("an integer too large for any use")


def _index(block: bytes, at: int, byte: int, mask: int) -> tuple[int, int]:
    """Read the index that begins in this byte. Returns it and where it ends."""
    index = byte & mask
    return _integer(block, at, mask) if index == mask else (index, at)


def _string(block: bytes, at: int, longest: int) -> tuple[str, int]:
    """Read the string at this position. Returns it and where it ends. Huffman code of more than `longest` bytes is not
    decoded: a text of the same length replaces it.
    """
    first = block[at]
    at += 1
    size = first & 0x7F
    if size == 0x7F:
        size, at = _integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise ValueError("a string that ends behind its block")
    if first & _HUFFMAN:
        return (huffman.decode(block[at:end]) if size <= longest else "x" * size), end
    return block[at:end].decode("latin-1"), end


def _priced_string(block: bytes, at: int, longest: int) -> tuple[str, int, int]:
    """Read a string. Returns it, where it ends, and the work it took. Only Huffman code is counted as work."""
    is_coded = block[at] & _HUFFMAN
    text, end = _string(block, at, longest)
    return text, end, end - at if is_coded else 0


# -- out ---------------------------------------------------------------------------------------------------------------

NO_TABLE = bytes((_SIZE_UPDATE,))
"""Stands before a connection's first block and sets our table to 0 bytes. That fits any SETTINGS_HEADER_TABLE_SIZE that
the client has set or sets later, and no change of it needs an answer (RFC 9113 4.3.1).
"""

_INDEX_OF_FIELD = {field: index for index, field in enumerate(STATIC_TABLE, 1) if field[1]}
_INDEX_OF_NAME = {name: index for index, (name, _) in reversed([*enumerate(STATIC_TABLE, 1)])}


def encode(fields: Fields) -> bytes:
    """Encode these fields to a header block. Names must be lower case and values clean. Characters outside Latin-1
    become a question mark.
    """
    block = b""
    for field in fields:
        block += _remembered_field(field) if len(field[1]) <= _LONGEST_VALUE else _literal(field)
    return block


def _encoded(field: Field) -> bytes:
    index = _INDEX_OF_FIELD.get(field)
    return _literal(field) if index is None else bytes((_INDEXED | index,))


def _literal(field: Field) -> bytes:
    name, value = field
    octets = value.encode("latin-1", "replace")
    size = len(octets)
    return b"%b%b%b" % (_literal_name(name), _SHORT[size] if size < 0x7F else _encoded_integer(size, 0x7F), octets)


_SHORT = [bytes((size,)) for size in range(0x7F)]
"""The encoded lengths that take one byte."""


# Short values repeat: a status, a content type. Values that differ from call to call are longer: ids, messages.
_LONGEST_VALUE = 32
_remembered_field = lru_cache(1024)(_encoded)


@lru_cache(1024)
def _literal_name(name: str) -> bytes:
    """Return the beginning of a literal without indexing (RFC 7541 6.2.2)."""
    index = _INDEX_OF_NAME.get(name)
    if index is not None:
        return _encoded_integer(index, 0x0F)
    octets = name.encode("latin-1", "replace")
    return b"\0" + _encoded_integer(len(octets), 0x7F) + octets


def _encoded_integer(value: int, prefix: int) -> bytes:
    """RFC 7541 5.1, under a first byte whose other bits are 0."""
    if value < prefix:
        return bytes((value,))
    octets = bytearray((prefix,))
    value -= prefix
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
