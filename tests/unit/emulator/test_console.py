"""Functions' lines on stderr."""

from __future__ import annotations

from io import StringIO

from bridge.emulator.console import Console


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_is_prefixed_with_its_function() -> None:
    stream = StringIO()
    console = Console(stream)
    console("greeter", "hello")
    console("other", "")

    assert stream.getvalue() == "greeter | hello\nother | \n"


def test_only_a_terminal_gets_colours() -> None:
    """The name is coloured, always alike; the line is the function's own."""
    stream = Terminal()
    console = Console(stream)
    console("greeter", "one")
    console("greeter", "two")

    first, second = stream.getvalue().splitlines()
    assert first.startswith("\x1b[")
    assert first.endswith("greeter\x1b[0m | one")
    assert first.removesuffix("one") == second.removesuffix("two")
