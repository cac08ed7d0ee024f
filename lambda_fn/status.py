"""How calls end: the codes, and the errors that carry a status. No I/O, no grpc import."""

from __future__ import annotations

from typing import NamedTuple

Metadata = tuple[tuple[str, str | bytes], ...]
"""Names in lower case; values of names in `-bin` are bytes, all others text."""

# The codes of gRPC's statuscodes.md that this package gives by itself.
OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13


class Status(NamedTuple):
    """How a call ended."""

    code: int
    message: str = ""


class Refused(Exception):
    """The request cannot be served. The error carries the status that says why."""

    def __init__(self, code: int, message: str, trailing: Metadata = ()) -> None:
        super().__init__(message)
        self.status = Status(code, message)
        self.trailing = trailing


class Unannounced(Refused):
    """A message is flagged as compressed where no compression is named: INTERNAL, in gRPC and in Connect."""

    def __init__(self) -> None:
        super().__init__(INTERNAL, "a message is flagged as compressed, and grpc-encoding names no compression")


class CutOff(Exception):
    """A streamed body ends early, because its protocol has no form for how the call ended."""
