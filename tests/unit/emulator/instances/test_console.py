"""Functions' lines on stderr."""

from __future__ import annotations

import asyncio
import json
import os
from io import StringIO

from bridge.emulator.instances.console import LogConsole


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_is_prefixed_with_its_function() -> None:
    stream = StringIO()
    console = LogConsole(stream)
    console("greeter", "hello")
    console("other", "")

    assert stream.getvalue() == "greeter | hello\nother | \n"


def test_where_the_log_is_json_lines_are_too() -> None:
    """With the fields of every line of the log; what is no UTF-8 is escaped."""
    stream = StringIO()
    console = LogConsole(stream, as_json=True)
    console("greeter", 'say "hello" caf\udce9')
    line = json.loads(stream.getvalue())

    assert ["time", "level", "logger", "message"] == list(line)
    assert ("info", "function.greeter", 'say "hello" caf\\udce9') == (line["level"], line["logger"], line["message"])


def test_only_a_terminal_gets_colours() -> None:
    """The name is coloured, always alike; the line is the function's own."""
    stream = Terminal()
    console = LogConsole(stream)
    console("greeter", "one")
    console("greeter", "two")

    first, second = stream.getvalue().splitlines()
    assert first.startswith("\x1b[")
    assert first.endswith("greeter\x1b[0m | one")
    assert first.removesuffix("one") == second.removesuffix("two")


async def test_functions_go_on_when_nobody_reads() -> None:
    """A full pipe is not waited for: lines wait up to a bound, more are lost, and how many is told when there is room
    again.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with open(reader, "rb", buffering=0) as screen, open(writer, "w", buffering=1) as stream:
        console = LogConsole(stream, most_waiting=100_000)
        for number in range(2000):
            console("greeter", f"{number:04} {'x' * 200}")
        received = b""
        while b"were lost" not in received:
            received += screen.read(1 << 20) or b""
            await asyncio.sleep(0.001)
        console("other", "again")
        received += screen.read(1 << 20) or b""

    taken = [line for line in received.splitlines() if line.startswith(b"greeter | ")]
    assert [f"greeter | {number:04} {'x' * 200}".encode() for number in range(len(taken))] == taken
    assert 0 < len(taken) < 2000
    [told] = [line for line in received.splitlines() if b"were lost" in line]
    assert 2000 == len(taken) + int(told.split()[0])
    assert received.endswith(b"other | again\n")


def test_functions_go_on_when_the_reader_is_gone() -> None:
    """A closed pipe loses lines and nothing else."""
    reader, writer = os.pipe()
    with open(writer, "w", buffering=1) as stream:
        console = LogConsole(stream)
        os.close(reader)
        console("greeter", "hello")
        console.close()


def test_lines_wait_while_a_debugger_has_the_terminal() -> None:
    """What came before is written first, and nothing is lost or out of order."""
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "w") as stream:
        console = LogConsole(stream)
        console("f", "before")
        console.hold()
        assert b"f | before\n" == reader.read(1000)
        console("f", "one")
        console("f", "two")
        os.set_blocking(read, False)
        assert reader.read(1000) is None
        console.resume()
        console("f", "after")

        assert b"f | one\nf | two\nf | after\n" == reader.read(1000)


def test_lines_that_wait_are_written_at_the_end() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "w") as stream:
        console = LogConsole(stream)
        console.hold()
        console("f", "last")
        console.close()

        assert b"f | last\n" == reader.read(1000)
