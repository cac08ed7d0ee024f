"""Metadata: the key/value pairs of a call, in order, as they travel.

Names are lower case. Values are text; those of names in `-bin` stay base64 inside the bridge, which never needs their
bytes.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter

Metadata = tuple[tuple[str, str], ...]

EMPTY: Metadata = ()

PASSED_GRPC_REQUEST = frozenset(
    (
        "grpc-encoding",
        "grpc-accept-encoding",
        "grpc-previous-rpc-attempts",
        "grpc-trace-bin",
        "grpc-tags-bin",
    ),
)
"""The `grpc-*` request names that travel on; every other one is gRPC's own and remade or dropped."""

PUSHBACK = "grpc-retry-pushback-ms"
"""When a client may repeat a call, in milliseconds (gRFC A6)."""

PASSED_GRPC_RESPONSE = frozenset(("grpc-encoding", "grpc-accept-encoding", PUSHBACK))
"""The `grpc-*` response names that are metadata on the way back; status, message and details are the Status."""

REQUEST_ID = "x-amzn-requestid"
"""Trailing metadata: AWS's id of the request that a call became."""

EXECUTION_ARN = "x-amzn-durable-execution-arn"
"""Trailing metadata: the ARN of the durable execution that a call became."""

_NAME = re.compile(r"[0-9a-z_.-]+").fullmatch
_PUSHBACK = re.compile(r"-?[0-9]{1,9}").fullmatch
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3})?={0,2}").fullmatch
_UNSAFE = re.compile(r"[^\x20-\x7e]")


def is_binary(name: str) -> bool:
    return name.endswith("-bin")


def is_name(name: str) -> bool:
    """Whether gRPC allows this as a metadata name (PROTOCOL-HTTP2, "Header-Name")."""
    return _NAME(name) is not None


def clean_value(value: str) -> str:
    """Return the value with all that gRPC's ASCII-Value forbids taken out, CR, LF and NUL among it."""
    if value.isascii() and value.isprintable():
        return value.strip(" ")
    return _UNSAFE.sub("", value).strip(" ")


def split_binary(value: str, most: int = -1) -> list[str]:
    """Return the values in one `-bin` field: joined by commas on the wire, split before they are decoded. `most`: so
    many of them; -1: all.
    """
    parts = value.split(",", most)
    return [part.strip(" ") for part in (parts[:most] if most >= 0 else parts)]


def binary_values(value: str, most: int = -1) -> list[str]:
    """Each value of a `-bin` field by itself, without padding; at most so many of them (-1: all).

    One that is not base64 is left out: nobody could read it, and some clients break over it.
    """
    return [part.rstrip("=") for part in split_binary(value, most) if _BASE64(part)]


def encode_binary(value: bytes) -> str:
    """Base64 as gRPC sends it: without padding."""
    return b2a_base64(value, newline=False).rstrip(b"=").decode("ascii")


def decode_binary(value: str) -> bytes:
    """Return the bytes of one `-bin` value, padded or not. Raises ValueError."""
    stripped = value.rstrip("=")
    try:
        return a2b_base64(stripped + "=" * (-len(stripped) % 4), strict_mode=True)
    except Base64Error as error:
        raise ValueError(f"not base64: {error}") from error


def valid_pushback(value: str) -> str:
    """Return a `grpc-retry-pushback-ms` that every client can read. What is no number means what a negative one does:
    do not repeat (gRFC A6).
    """
    return value if _PUSHBACK(value) else "-1"


def value_of(metadata: Metadata, name: str) -> str | None:
    """Return the first value under this name."""
    for key, value in metadata:
        if key == name:
            return value
    return None


def size_of(metadata: Metadata) -> int:
    """Bytes as header limits count them: name, value and 32 each (RFC 9113 6.5.2)."""
    return 32 * len(metadata) + sum(map(len, chain.from_iterable(metadata)))


def picker(places: Sequence[int]) -> Callable[[Metadata], Metadata]:
    """Return a function that picks the fields in these places, which are in ascending order."""
    if not places:
        return itemgetter(slice(0))
    if places[-1] - places[0] == len(places) - 1:
        return itemgetter(slice(places[0], places[-1] + 1))
    return itemgetter(*places)
