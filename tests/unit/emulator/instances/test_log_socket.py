"""Each process of a runtime has an output stream of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.emulator.instances.log_socket import LogSocket


async def test_lines_of_many_processes_stay_whole() -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    socket = LogSocket(lines.put_nowait, max_streams=4)
    path = await socket.open()
    writers = [(await asyncio.open_unix_connection(path))[1] for _ in range(4)]
    for part in ("one ", "two ", "three\n"):
        for number, writer in enumerate(writers):
            writer.write(f"{number}: {part}".encode() if part == "one " else part.encode())
            await writer.drain()
            await asyncio.sleep(0)
    found = sorted([await lines.get() for _ in writers])
    for writer in writers:
        writer.close()
    socket.close()

    assert [f"{number}: one two three" for number in range(4)] == found


async def test_the_end_of_a_process_ends_its_line() -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    socket = LogSocket(lines.put_nowait, max_streams=1)
    _, writer = await asyncio.open_unix_connection(await socket.open())
    writer.write(b"last words")
    writer.close()

    assert "last words" == await lines.get()
    socket.close()


async def test_streams_are_bounded_and_the_socket_goes_with_the_instance() -> None:
    socket = LogSocket(lambda _line: None, max_streams=1)
    path = await socket.open()
    _, first = await asyncio.open_unix_connection(path)
    second, writer = await asyncio.open_unix_connection(path)
    assert b"" == await second.read()
    for each in (first, writer):
        each.close()
    socket.close()

    assert not Path(path).parent.exists()
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_unix_connection(path)
