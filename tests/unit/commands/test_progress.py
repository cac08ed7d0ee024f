"""Progress on a terminal, and without one."""

from __future__ import annotations

import io

from bridge.commands.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_terminal_has_a_bar_that_is_gone_at_the_end() -> None:
    """It is drawn ten times a second at most."""
    terminal, times = Terminal(), iter([0.2, 0.25, 0.4])
    bar = ProgressBar(terminal, lambda: next(times))
    bar.begin("packing")
    for done in (1, 2, 4):
        bar.advance(done << 20, 4 << 20)
    bar.close()

    assert [
        "",
        "packing ...",
        "packing [#######-----------------------]  25% of 4.0 MiB",
        "packing [##############################] 100% of 4.0 MiB",
        "",
    ] == terminal.getvalue().split("\r\x1b[K")


def test_without_a_terminal_each_step_has_a_line() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    bar.begin("packing")
    bar.advance(1, 2)
    bar.begin("importing the handler")
    bar.close()

    assert "packing\nimporting the handler\n" == stream.getvalue()


def test_nothing_to_pack_is_all_of_it() -> None:
    terminal = Terminal()
    bar = ProgressBar(terminal, lambda: 1.0)
    bar.advance(0, 0)

    assert "100%" in terminal.getvalue()


def test_a_reader_that_has_gone_stops_nothing() -> None:
    bar = ProgressBar(Broken())
    bar.begin("packing")
    bar.close()
