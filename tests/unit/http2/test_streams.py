from __future__ import annotations

import pytest

from bridge.http2 import frames
from bridge.http2.streams import IGNORED, RULINGS, State

STREAM_FRAMES = {frames.HEADERS, frames.DATA, frames.RST_STREAM, frames.WINDOW_UPDATE}


@pytest.mark.parametrize("state", State)
def test_every_state_rules_on_every_frame(state: State) -> None:
    assert STREAM_FRAMES == set(RULINGS[state])


def test_all_frames_are_in_place_on_an_open_stream() -> None:
    assert {None} == set(RULINGS[State.OPEN].values())


def test_only_headers_begin_a_stream() -> None:
    """RFC 9113 5.1, idle: anything else is a connection error."""
    rulings = RULINGS[State.IDLE]

    assert [frames.HEADERS] == [kind for kind, ruling in rulings.items() if ruling is None]
    assert all(ruling.ends_connection for ruling in rulings.values() if ruling is not None)


def test_late_frames_are_forgiven_where_we_reset() -> None:
    """RFC 9113 5.1, closed: they may have been on their way."""
    assert {IGNORED} == set(RULINGS[State.RESET].values())


@pytest.mark.parametrize("state", [State.HALF_CLOSED, State.CLOSED])
def test_windows_and_resets_are_never_late(state: State) -> None:
    assert {RULINGS[state][kind] for kind in (frames.RST_STREAM, frames.WINDOW_UPDATE)} <= {None, IGNORED}
