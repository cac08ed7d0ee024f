"""The three response events, all that crosses from a target back to the client, and the grammar of their order."""

from __future__ import annotations

from enum import Enum, auto

from bridge.rpc import status
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.rpc.status import Status
from bridge.rpc.value import FrozenValue


class Headers(FrozenValue, frozen=True):
    """Response-Headers: the initial metadata."""

    metadata: Metadata = EMPTY


class Message(FrozenValue, frozen=True):
    """Length-Prefixed-Message, as it travels: prefix and data."""

    envelope: bytes


class Trailers(FrozenValue, frozen=True):
    """The end of the call; alone, it is trailers-only."""

    status: Status
    metadata: Metadata = EMPTY


ResponseEvent = Headers | Message | Trailers


EMPTY_HEADERS = Headers()
OK_TRAILERS = Trailers(status.OK)


class Phase(Enum):
    """How far a call's response has come."""

    # Enum's own hash is a Python function, and every event of a call looks its phase up; members are singletons.
    __hash__ = object.__hash__

    NEW = auto()
    OPEN = auto()
    DONE = auto()


NEXT_PHASE: dict[Phase, dict[type, Phase]] = {
    Phase.NEW: {Headers: Phase.OPEN, Trailers: Phase.DONE},  # Trailers alone: trailers-only
    Phase.OPEN: {Message: Phase.OPEN, Trailers: Phase.DONE},
    Phase.DONE: {},
}
"""The whole grammar of a gRPC response; a missing entry is a bug in the bridge (KeyError)."""
