"""The messages between the supervisor and a worker: one JSON line each, over a pair of connected sockets."""

from __future__ import annotations

import asyncio
import socket

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, encode

from bridge.config.problems import Problem

_MAX_LINE = 64 << 20
"""Bytes. A snapshot of 1,000 methods has about 1 MB."""


class Begin(Struct, frozen=True, tag=True):
    """The first message to a worker says what to serve."""

    file: str
    """The configuration file, which the worker reads itself."""
    overrides: dict[str, str]
    """Values from flags that replace the file's, by key path."""
    listeners: tuple[int, ...]
    """File descriptors of the listening sockets, in the order of the configuration."""
    local_endpoint: str
    number: int = 0
    """The worker's, from 1."""
    console: int | None = None
    """The file descriptor over which sockets of the call console come (SCM_RIGHTS). None: there is no console."""


class ReloadWorker(Struct, frozen=True, tag=True):
    """Asks a worker to read the configuration again."""

    local_endpoint: str


class Changed(Struct, frozen=True, tag=True):
    """Tells a worker that the files of a local function have changed."""

    function: str


class Drain(Struct, frozen=True, tag=True):
    """Asks a worker to stop accepting, finish its calls, and exit."""


class ReportFigures(Struct, frozen=True, tag=True):
    """Asks a worker for a Snapshot."""

    number: int
    recent: bool = False
    """Whether it should hold the last minutes too."""


class Serving(Struct, frozen=True, tag=True):
    """A worker says that it accepts calls."""


class StartFailed(Struct, frozen=True, tag=True):
    """A worker says why it cannot start."""

    message: str
    problems: tuple[Problem, ...] = ()
    """Those of the configuration, if it is the reason."""


class Unready(Struct, frozen=True, tag=True):
    """A worker says why calls should not be sent to it, whenever that changes."""

    reasons: tuple[str, ...]


class WorkerFigures(Struct, frozen=True, tag=True):
    """A worker's answer to Report."""

    number: int
    snapshot: Raw
    """An encoded snapshot, which is not read here."""


ControlMessage = (
    Begin | ReloadWorker | Changed | Drain | ReportFigures | Serving | StartFailed | Unready | WorkerFigures
)

_decode = Decoder(ControlMessage).decode


class Channel:
    """One end of the pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_MAX_LINE)
        return cls(reader, writer)

    def send(self, message: ControlMessage) -> None:
        """Queue a message. If the other end has gone, the message is lost, and `receive` returns None."""
        if not self._writer.is_closing():
            self._writer.write(encode(message) + b"\n")

    async def receive(self) -> ControlMessage | None:
        """Return the next message, or None when the other end has gone."""
        try:
            line = await self._reader.readline()
            return _decode(line) if line.endswith(b"\n") else None
        except (OSError, ValueError, DecodeError):
            return None

    def close(self) -> None:
        self._writer.close()
