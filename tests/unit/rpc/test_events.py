"""The grammar of a response: every event in every phase."""

import pytest

from bridge.rpc.events import (
    EMPTY_HEADERS,
    NEXT_PHASE,
    OK_TRAILERS,
    Headers,
    Message,
    Phase,
    Trailers,
)
from bridge.rpc.status import StatusCode

_ALLOWED: dict[tuple[Phase, type[Headers | Message | Trailers]], Phase] = {
    (Phase.NEW, Headers): Phase.OPEN,
    (Phase.NEW, Trailers): Phase.DONE,
    (Phase.OPEN, Message): Phase.OPEN,
    (Phase.OPEN, Trailers): Phase.DONE,
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", [Headers, Message, Trailers])
def test_event_leads_to_its_phase_or_nowhere(phase: Phase, event: type[Headers | Message | Trailers]) -> None:
    """Headers once, then messages, then trailers; trailers alone; nothing after them."""
    assert _ALLOWED.get((phase, event)) is NEXT_PHASE[phase].get(event)


def test_shared_events_say_what_their_names_say() -> None:
    """No metadata, and OK."""
    assert Headers(()) == EMPTY_HEADERS
    assert StatusCode.OK is OK_TRAILERS.status.code
