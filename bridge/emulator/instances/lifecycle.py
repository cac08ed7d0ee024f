"""The Runtime API's state machine, as AWS documents and its open-source emulator runs it: the whole grammar in one
table.

1. Every transition stands here; nobody else assigns a phase by a rule of its own.
2. This file knows neither HTTP nor the process.
"""

from __future__ import annotations

from enum import Enum


class RuntimePhase(Enum):
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


NEXT_RUNTIME_PHASE = {
    (RuntimePhase.STARTED, Act.NEXT): RuntimePhase.READY,
    (RuntimePhase.STARTED, Act.INIT_ERROR): RuntimePhase.INIT_ERROR,
    (RuntimePhase.STARTED, Act.RESTORE_NEXT): RuntimePhase.STARTED,  # nothing was snapshotted: restored at once
    (RuntimePhase.READY, Act.NEXT): RuntimePhase.READY,  # the connection of the first request was lost
    (RuntimePhase.READY, Act.DELIVER): RuntimePhase.RUNNING,
    (RuntimePhase.RUNNING, Act.NEXT): RuntimePhase.RUNNING,  # likewise: the same invocation is handed out again
    (RuntimePhase.RUNNING, Act.RESPONSE): RuntimePhase.RESPONDING,
    (RuntimePhase.RUNNING, Act.ERROR): RuntimePhase.RESPONDING,
    (RuntimePhase.RESPONDING, Act.SENT): RuntimePhase.RESPONSE_SENT,
    (RuntimePhase.RESPONSE_SENT, Act.NEXT): RuntimePhase.READY,
}


class InvalidTransition(Exception):
    """A request out of turn."""

    def __init__(self, phase: RuntimePhase, act: Act) -> None:
        super().__init__(
            f"State transition from {phase.value} to {act.value} failed for runtime. Error: "
            "State transition is not allowed"
        )


def advance(phase: RuntimePhase, act: Act) -> RuntimePhase:
    """Return the phase that follows; raise InvalidTransition if `act` is out of turn."""
    try:
        return NEXT_RUNTIME_PHASE[phase, act]
    except KeyError:
        raise InvalidTransition(phase, act) from None
