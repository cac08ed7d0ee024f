"""The header or trailer fields of a reply, sorted: what reaches the client as metadata, what is gRPC's own, what goes
no further.

In go fields with names in lower case, as a backend sent them; out come values that any HTTP/2 client takes.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.rpc import status
from bridge.rpc.hop import Leg, not_passed
from bridge.rpc.metadata import (
    PASSED_GRPC_RESPONSE,
    PUSHBACK,
    Metadata,
    binary_values,
    clean_value,
    decode_binary,
    is_name,
    valid_pushback,
)
from bridge.rpc.status import Status, StatusCode, decode_message, parse_code
from bridge.rpc.value import FrozenValue

_OWN = frozenset(("content-type", "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-encoding"))
"""Fields that say something about the reply itself."""

_DROPPED = not_passed(Leg.REPLY)
_DROPPED_PREFIXES = ("content-", "x-amz", "apigw-", "lambda-web-")
_GRPC = "grpc-"

# API Gateway and function URLs rename some of the headers that a function returns.
_REMAPPED = "x-amzn-remapped-"

MOST_METADATA = 1000
"""Entries of metadata that are read; what comes behind them is left out. An HTTP head has fewer, but a Lambda reply has
room for a million.
"""

LONGEST_VALUE = 1 << 20
"""Characters of one value. A longer one fits no `max_trailers`."""


class ReplyFields(FrozenValue, frozen=True):
    """Fields by what they mean."""

    metadata: Metadata
    """For the client. Without grpc-encoding, which only stays true if the messages pass unchanged."""
    status: Status | None
    """None without grpc-status."""
    content_type: str = ""
    """In lower case, without parameters."""
    encoding: str = ""
    """grpc-encoding; empty if absent."""


def sort_fields(fields: Iterable[tuple[str, str]]) -> ReplyFields:
    """Never fails. Fields that cannot reach a client, or are far too many, are left out. An invalid grpc-status counts
    as UNKNOWN.
    """
    metadata: list[tuple[str, str]] = []
    own: dict[str, str] = {}
    for sent_name, value in fields:
        name = sent_name.removeprefix(_REMAPPED)
        if name in _OWN:
            own.setdefault(name, value.strip())
        elif len(metadata) < MOST_METADATA and len(value) <= LONGEST_VALUE and _is_passed(name):
            if name.endswith("-bin"):
                metadata += [(name, part) for part in binary_values(value, MOST_METADATA)]
            elif name == PUSHBACK:
                metadata.append((name, valid_pushback(value)))
            else:
                metadata.append((name, clean_value(value)))
    return ReplyFields(
        tuple(metadata[:MOST_METADATA]),
        _status_of(own) if "grpc-status" in own else None,
        own.get("content-type", "").partition(";")[0].strip().lower(),
        clean_value(own.get("grpc-encoding", "")),
    )


def _is_passed(name: str) -> bool:
    if name in _DROPPED or name.startswith(_DROPPED_PREFIXES):
        return False
    if name.startswith(_GRPC):
        return name in PASSED_GRPC_RESPONSE
    return is_name(name)


def _status_of(own: dict[str, str]) -> Status:
    code = parse_code(own["grpc-status"])
    message = own.get("grpc-message", "")
    details = own.get("grpc-status-details-bin", "")
    if code is StatusCode.OK and not message and not details:
        return status.OK
    return Status(code, decode_message(message), _bytes_of(details))


def _bytes_of(details: str) -> bytes:
    try:
        return decode_binary(details)
    except ValueError:
        return b""  # the code and the message must not be lost with them
