"""The Runtime API's state machine."""

from __future__ import annotations

from itertools import product

import pytest

from bridge.emulator.instances.lifecycle import NEXT_RUNTIME_PHASE, Act, InvalidTransition, RuntimePhase, advance


def test_a_normal_life() -> None:
    """Start, ask, serve, answer, ask again."""
    phase = RuntimePhase.STARTED
    seen = []
    for act in (Act.NEXT, Act.DELIVER, Act.RESPONSE, Act.SENT, Act.NEXT, Act.DELIVER, Act.ERROR):
        phase = advance(phase, act)
        seen.append(phase)

    ready, running, responding = RuntimePhase.READY, RuntimePhase.RUNNING, RuntimePhase.RESPONDING
    assert [ready, running, responding, RuntimePhase.RESPONSE_SENT, ready, running, responding] == seen


@pytest.mark.parametrize(("phase", "act"), sorted(set(product(RuntimePhase, Act)) - NEXT_RUNTIME_PHASE.keys(), key=str))
def test_everything_else_is_refused_in_the_words_of_aws(phase: RuntimePhase, act: Act) -> None:
    with pytest.raises(InvalidTransition) as caught:
        advance(phase, act)

    assert (
        f"State transition from {phase.value} to {act.value} failed for runtime. Error: State transition is not allowed"
    ) == str(caught.value)


def test_nothing_follows_an_init_error() -> None:
    assert not [act for phase, act in NEXT_RUNTIME_PHASE if phase is RuntimePhase.INIT_ERROR]
