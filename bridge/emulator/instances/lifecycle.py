"""The Runtime API's state machine, as AWS documents and its open-source emulator runs it: the whole grammar in one
table.

1. Every transition stands here; nobody else assigns a phase by a rule of its own.
2. This file knows neither HTTP nor the process.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where a runtime stands. The values are the names that AWS puts into its messages."""

    STARTED = "Started"
    INIT_ERROR = "InitError"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDING = "InvocationResponse"
    RESPONSE_SENT = "ResponseSent"


class Act(Enum):
    """What moves it on: the runtime's requests, and the two things that the emulator does."""

    NEXT = "Ready"
    RESPONSE = "InvocationResponse"
    ERROR = "InvocationErrorResponse"
    INIT_ERROR = "InitError"
    RESTORE_NEXT = "RestoreReady"
    DELIVER = "Running"
    SENT = "ResponseSent"


NEXT_PHASE = {
    (Phase.STARTED, Act.NEXT): Phase.READY,
    (Phase.STARTED, Act.INIT_ERROR): Phase.INIT_ERROR,
    (Phase.STARTED, Act.RESTORE_NEXT): Phase.STARTED,  # nothing was snapshotted: restored at once
    (Phase.READY, Act.NEXT): Phase.READY,  # the connection of the first request was lost
    (Phase.READY, Act.DELIVER): Phase.RUNNING,
    (Phase.RUNNING, Act.NEXT): Phase.RUNNING,  # likewise: the same invocation is handed out again
    (Phase.RUNNING, Act.RESPONSE): Phase.RESPONDING,
    (Phase.RUNNING, Act.ERROR): Phase.RESPONDING,
    (Phase.RESPONDING, Act.SENT): Phase.RESPONSE_SENT,
    (Phase.RESPONSE_SENT, Act.NEXT): Phase.READY,
}


class InvalidTransition(Exception):
    """A request out of turn."""

    def __init__(self, phase: Phase, act: Act) -> None:
        super().__init__(
            f"State transition from {phase.value} to {act.value} failed for runtime. Error: State transition is not allowed"
        )


def advance(phase: Phase, act: Act) -> Phase:
    """Return the phase that follows; raise InvalidTransition if `act` is out of turn."""
    try:
        return NEXT_PHASE[phase, act]
    except KeyError:
        raise InvalidTransition(phase, act) from None
