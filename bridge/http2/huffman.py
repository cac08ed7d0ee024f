"""Decodes Huffman-coded strings of header blocks (RFC 7541 5.2 and appendix B) from bytes to Latin-1 text. It does not
encode.

Short strings are decoded byte by byte with a table. For long ones zlib does the work: the code is one that DEFLATE can
describe.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TypeAlias

# The code is canonical, so the lengths define it. Codes of one length are consecutive, in the order of their symbols.
_SYMBOLS_BY_LENGTH = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: bytes.fromhex("5c c3 d0"),
    20: bytes.fromhex("80 82 83 a2 b8 c2 e0 e2"),
    21: bytes.fromhex("99 a1 a7 ac b0 b1 b3 d1 d8 d9 e3 e5 e6"),
    22: bytes.fromhex("81 84 85 86 88 92 9a 9c a0 a3 a4 a9 aa ad b2 b5 b9 ba bb bd be c4 c6 e4 e8 e9"),
    23: bytes.fromhex("01 87 89 8a 8b 8c 8d 8f 93 95 96 97 98 9b 9d 9e a5 a6 a8 ae af b4 b6 b7 bc bf c5 e7 ef"),
    24: bytes.fromhex("09 8e 90 91 94 9f ab ce d7 e1 ec ed"),
    25: bytes.fromhex("c7 cf ea eb"),
    26: bytes.fromhex("c0 c1 c8 c9 ca cd d2 d5 da db ee f0 f2 f3 ff"),
    27: bytes.fromhex("cb cc d3 d4 d6 dd de df f1 f4 f5 f6 f7 f8 fa fb fc fd fe"),
    28: bytes.fromhex("02 03 04 05 06 07 08 0b 0c 0e 0f 10 11 12 13 14 15 17 18 19 1a 1b 1c 1d 1e 1f 7f dc f9"),
    30: bytes.fromhex("0a 0d 16"),
}
_EOS = 256
_EOS_LENGTH = 30
_LONGEST_PADDING = 7

# Clients repeat strings, so strings are remembered. The shortest are not: decoding them costs less than a look-up
# (timeouts). The longest are
# not either: they rarely repeat (trace ids, tokens). This takes about 1 MiB in a process.
_REMEMBERED = 4096
_SHORTEST_REMEMBERED, _LONGEST_REMEMBERED = 8, 32


def _build_tree() -> list[list[int]]:
    """Each node's successors on 0 and 1: another node's index, or ~symbol for a leaf."""
    codes = [(length, symbol) for length, symbols in _SYMBOLS_BY_LENGTH.items() for symbol in symbols]
    codes.append((_EOS_LENGTH, _EOS))
    tree = [[0, 0]]
    code = previous = 0
    for length, symbol in codes:
        code <<= length - previous
        previous = length
        node = 0
        for bit in range(length - 1, 0, -1):
            branch = code >> bit & 1
            if not tree[node][branch]:
                tree[node][branch] = len(tree)
                tree.append([0, 0])
            node = tree[node][branch]
        tree[node][code & 1] = ~symbol
        code += 1
    return tree


_TREE = _build_tree()

_Row: TypeAlias = "list[tuple[_Row, str]]"
# Each node has a row. For each byte it holds the next node's row and the characters that the byte completes. A row is
# empty until some string leads there. Text needs about fifty rows.
_ROWS: list[_Row] = [[] for _ in _TREE]
_DEAD: _Row = []
"""The state after EOS, which no string may hold. Nothing leads out of it."""
_DEAD.extend([(_DEAD, "")] * 256)


def _step(node: int, byte: int) -> tuple[int | None, str]:
    """Return the node that the byte leads to (None: it completes EOS), and the characters it completes."""
    completed = ""
    for bit in range(7, -1, -1):
        node = _TREE[node][byte >> bit & 1]
        if node == ~_EOS:
            return None, ""
        if node < 0:
            completed += chr(~node)
            node = 0
    return node, completed


def _fill_rows_for(data: bytes) -> None:
    node: int | None = 0
    for byte in data:
        if node is None:
            return
        if not _ROWS[node]:
            steps = [_step(node, each) for each in range(256)]
            _ROWS[node].extend([(_DEAD if to is None else _ROWS[to], completed) for to, completed in steps])
        node = _step(node, byte)[0]


def _rows_that_may_end() -> frozenset[int]:
    """Return the ids of the rows where a string may end: after up to 7 ones, which begin EOS (RFC 7541 5.2)."""
    node, ends = 0, [id(_ROWS[0])]
    for _ in range(_LONGEST_PADDING):
        node = _TREE[node][1]
        ends.append(id(_ROWS[node]))
    return frozenset(ends)


_ENDS = _rows_that_may_end()


def _decode(data: bytes) -> str:
    row = _ROWS[0]
    text = ""
    try:
        for byte in data:
            row, completed = row[byte]
            text += completed
    except IndexError:  # an empty row on the way
        _fill_rows_for(data)
        return _decode(data)
    if id(row) not in _ENDS:
        raise ValueError("a Huffman string that ends wrongly")
    return text


# -- long strings
# -------------------------------------------------------------------------------------------------------

_SHORTEST_INFLATED = 24
"""Bytes from which zlib is faster than the table."""
_LONGEST_DEFLATE_CODE = 15
"""Bits. All visible ASCII but the backslash has a code of this length or less."""
_END_OF_BLOCK = 256
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""DEFLATE reads a byte from its lowest bit, and HPACK from its highest."""
_FIFTEEN_ONES = b"\xff\x7f"
"""As DEFLATE reads them. A zero follows, so that they are not also the end of a symbol and then the end of the block.
"""


_LENGTH_OF = {symbol: length for length, symbols in _SYMBOLS_BY_LENGTH.items() for symbol in symbols}
_LENGTHS = bytes([_LENGTH_OF[symbol] for symbol in range(256)])
"""The length of each symbol's code in bits."""


def _deflate_header() -> bytes:
    """Return the beginning of a DEFLATE block with HPACK's code (RFC 1951 3.2.7). A string's bytes may follow it.

    Both codes are canonical, so equal lengths give equal codes. The symbols with longer codes are left out. The end of
    the block takes the one code of 15 bits that this frees: fifteen ones, the beginning of EOS.
    """
    lengths = [0] * _END_OF_BLOCK + [_LONGEST_DEFLATE_CODE]
    for length, symbols in _SYMBOLS_BY_LENGTH.items():
        if length <= _LONGEST_DEFLATE_CODE:
            for symbol in symbols:
                lengths[symbol] = length
    distances = [1, 1]  # never used, because no symbol stands for a distance
    bits = "0" + "10" + "0" * 7  # an empty block with the fixed code, so that the header ends with a whole byte
    bits += "1" + "01"  # the last block, with a code of its own
    bits += _number(0, 5) + _number(len(distances) - 1, 5) + _number(15, 4)
    # The lengths 0 to 15 have codes of 4 bits each. Those of 16 to 18, which stand for repetitions, come first.
    bits += _number(0, 3) * 3 + _number(4, 3) * 16
    bits += "".join([f"{length:04b}" for length in (*lengths, *distances)])
    return int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")


def _number(value: int, size: int) -> str:
    """Return an integer in `size` bits, the lowest one first."""
    return f"{value:0{size}b}"[::-1]


_BEGUN = zlib.decompressobj(wbits=-9)  # raw DEFLATE, with the smallest window that zlib has
_BEGUN.decompress(_deflate_header())


def _inflate(data: bytes) -> str | None:
    """Return what `_decode` returns. None: only `_decode` can judge the string, for a rare symbol or its padding."""
    inflating = _BEGUN.copy()
    # The padding and these ones together are the code that ends the block. If bytes are left, it was at least 7 bits.
    text = inflating.decompress(data.translate(_REVERSED_BITS) + _FIFTEEN_ONES, 2 * len(data))
    if inflating.eof:
        padding = 8 * len(data) - sum(text.translate(_LENGTHS)) if inflating.unused_data else 0
        if padding <= _LONGEST_PADDING:
            return text.decode("latin-1")
    return None


def _decode_any(data: bytes) -> str:
    if len(data) >= _SHORTEST_INFLATED and (text := _inflate(data)) is not None:
        return text
    return _decode(data)


_remembered = lru_cache(_REMEMBERED)(_decode_any)


def decode(data: bytes) -> str:
    """Decode to text. Raises ValueError."""
    size = len(data)
    if size > _LONGEST_REMEMBERED:
        return _decode_any(data)
    return _remembered(data) if size >= _SHORTEST_REMEMBERED else _decode(data)
