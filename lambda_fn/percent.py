"""Percent-encoding (RFC 3986 2.1) in paths and queries, read without guesses: two spellings never become one name by a
replacement.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from lambda_fn.status import INVALID_ARGUMENT, Refused

_broken = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_slash = re.compile("(%2[Ff])").split


def decode(text: str) -> bytes:
    """Decode percent signs. Raises Refused for one without two hexadecimal digits."""
    if _broken(text):
        raise Refused(INVALID_ARGUMENT, f"{text[:100]!r}: two hexadecimal digits follow a percent sign")
    # An event's text may hold half a surrogate pair, which no encoding has.
    return unquote_to_bytes(text.encode("utf-8", "surrogatepass"))


def text_in(text: str) -> str:
    """Return the decoded text. Raises Refused, also for what is not UTF-8."""
    return _utf8(decode(text), text)


def segments_in(text: str) -> str:
    """As `text_in`, for several segments of a path: an encoded slash stays as it is (google/api/http.proto)."""
    parts = _slash(text)
    return "".join(part if at % 2 else text_in(part) for at, part in enumerate(parts))


def pairs_in(query: str) -> tuple[tuple[str, bytes], ...]:
    """Return the names and values of a query string, in the order sent. A plus is a space. Raises Refused."""
    found = []
    for pair in query.split("&"):
        name, _, value = pair.replace("+", " ").partition("=")
        if pair:
            found.append((text_in(name), decode(value)))
    return tuple(found)


def utf8_pairs_in(query: str) -> tuple[tuple[str, str], ...]:
    """As `pairs_in`, with values that are text. Raises Refused."""
    return tuple((name, _utf8(value, name)) for name, value in pairs_in(query))


def _utf8(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(INVALID_ARGUMENT, f"{where[:100]!r} is not UTF-8 when decoded") from error
