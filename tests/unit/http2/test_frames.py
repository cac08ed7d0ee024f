from __future__ import annotations

from hyperframe.frame import GoAwayFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from bridge.http2 import frames
from tests.support.frames import parse


def test_frames_read_as_the_library_reads_them() -> None:
    data = (
        frames.settings({frames.MAX_CONCURRENT_STREAMS: 7})
        + frames.SETTINGS_ACK
        + frames.window_update(5, 1000)
        + frames.rst_stream(3, 8)
        + frames.goaway(9, 11, b"too_many_pings")
    )
    settings, ack, window_update, reset, goaway = parse(data)

    assert isinstance(settings, SettingsFrame)
    assert {3: 7} == settings.settings
    assert {"ACK"} == set(ack.flags)
    assert isinstance(window_update, WindowUpdateFrame)
    assert (5, 1000) == (window_update.stream_id, window_update.window_increment)
    assert isinstance(reset, RstStreamFrame)
    assert (3, 8) == (reset.stream_id, reset.error_code)
    assert isinstance(goaway, GoAwayFrame)
    assert (9, 11, b"too_many_pings") == (goaway.last_stream_id, goaway.error_code, goaway.additional_data)


def test_head_of_a_large_frame() -> None:
    head = frames.head(0x0ABCDE, frames.DATA, frames.END_STREAM, 7)

    assert bytes.fromhex("0abcde 00 01 00000007") == head
    assert (0x0ABC, 0xDE, frames.DATA, frames.END_STREAM, 7) == frames.parse_head(head, 0)
