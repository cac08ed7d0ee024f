"""A client of the Debug Adapter Protocol, as an editor is one: JSON with a Content-Length, over TCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

PATIENCE = 30
"""Seconds for each answer."""


class Editor:
    """An editor that has connected to a debugger."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}

    async def attach(self, *breakpoints: tuple[Path, int]) -> None:
        """Attach, with breakpoints in lines of files."""
        await self.ask("initialize", adapterID="tests", pathFormat="path", linesStartAt1=True)
        attached = self._send("attach", justMyCode=False)
        await self.event("initialized")
        for file in {file for file, _ in breakpoints}:
            lines = [{"line": line} for where, line in breakpoints if where == file]
            await self.ask("setBreakpoints", source={"path": str(file)}, breakpoints=lines)
        await self.ask("configurationDone")
        await self._answer(attached)

    async def stopped(self) -> dict[str, Any]:
        """Wait for a stop, and return the frame on top, with its variables under `variables`."""
        body = (await self.event("stopped"))["body"]
        self._thread = body["threadId"]
        stack = await self.ask("stackTrace", threadId=self._thread)
        frame: dict[str, Any] = stack["stackFrames"][0]
        scopes = await self.ask("scopes", frameId=frame["id"])
        found = await self.ask("variables", variablesReference=scopes["scopes"][0]["variablesReference"])
        return frame | {"variables": {each["name"]: each["value"] for each in found["variables"]}}

    async def go_on(self) -> None:
        await self.ask("continue", threadId=self._thread)

    async def ended(self) -> None:
        """Wait until the debugger says that the process has ended, or closes the connection."""
        try:
            await self.event("terminated")
        except EOFError:
            return

    async def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        """Return the body of the answer."""
        return await self._answer(self._send(command, **arguments))

    async def event(self, name: str) -> dict[str, Any]:
        """Return the next event of this name."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self._events:
                    if event["event"] == name:
                        self._events.remove(event)
                        return event
                await self._receive()

    def close(self) -> None:
        self._writer.close()

    def _send(self, command: str, **arguments: object) -> int:
        self._number += 1
        request = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        text = json.dumps(request).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(text), text))
        return self._number

    async def _answer(self, number: int) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while number not in self._answers:
                await self._receive()
        answer = self._answers.pop(number)
        assert answer["success"], answer
        body: dict[str, Any] = answer.get("body", {})
        return body

    async def _receive(self) -> None:
        """Raises EOFError."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        message = json.loads(await self._reader.readexactly(int(head.split(b":")[1])))
        if message["type"] == "response":
            self._answers[message["request_seq"]] = message
        elif message["type"] == "event":
            self._events.append(message)


@asynccontextmanager
async def editor(port: int) -> AsyncIterator[Editor]:
    """Connect to a debugger on this machine."""
    connected = Editor(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield connected
    finally:
        connected.close()
