"""Checks the metadata and the deadline that a person has typed, before a call is made of them."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.config.units import parse_duration
from bridge.rpc.hop import Leg, not_passed
from bridge.rpc.metadata import Metadata, decode_binary, is_binary, is_name

MOST_ENTRIES = 100

_NOT_METADATA = not_passed(Leg.CALL)


class BadMetadata(ValueError):
    """What was typed cannot be sent. The text says why."""


def checked_metadata(entries: Iterable[tuple[str, str]]) -> Metadata:
    """Return the entries as they travel, names in lower case. Raises BadMetadata."""
    checked = tuple(_checked(name.strip().lower(), value.strip(" ")) for name, value in entries)
    if len(checked) > MOST_ENTRIES:
        raise BadMetadata(f"{len(checked)} entries of metadata are more than {MOST_ENTRIES}")
    return checked


def _checked(name: str, value: str) -> tuple[str, str]:
    shown = repr(name[:60])
    if not is_name(name):
        raise BadMetadata(f"{shown} is not a name of metadata: it takes a-z, 0-9, _, - and .")
    if name.startswith("grpc-") or name in _NOT_METADATA:
        raise BadMetadata(f"{shown} is not metadata: gRPC or HTTP itself uses this name")
    if is_binary(name):
        try:
            decode_binary(value)
        except ValueError as error:
            raise BadMetadata(f"the value of {shown} is not base64, which names in -bin need") from error
    elif not (value.isascii() and (value.isprintable() or not value)):
        raise BadMetadata(
            f"the value of {shown} has characters that metadata cannot carry: use printable ASCII, or a name in -bin"
        )
    return name, value


def timeout_of(text: str) -> float | None:
    """Return seconds, or None for an empty text. Raises BadMetadata."""
    if not text.strip():
        return None
    try:
        seconds = parse_duration(text.strip())
    except ValueError as error:
        raise BadMetadata(f"the deadline: {error}") from error
    if seconds <= 0:
        raise BadMetadata("the deadline: it has passed before the call begins")
    return seconds
