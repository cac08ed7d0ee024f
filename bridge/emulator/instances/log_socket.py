"""Gives each process of a runtime an output stream of its own, so that their lines do not mix.

A runtime with many worker processes connects each one's stdout and stderr to this Unix socket. AWS's Python runtime
does so on Lambda Managed Instances: the path is in _LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

from bridge.emulator.instances.logs import LineSplitter


class LogSocket:
    """The socket of one instance."""

    def __init__(self, write_line: Callable[[str], None], *, max_streams: int) -> None:
        """`write_line` gets each line. Above `max_streams` connections further ones are closed."""
        self._write_line = write_line
        self._max_streams = max_streams
        self._folder: Path | None = None
        self._server: asyncio.Server | None = None
        self._streams: set[_Stream] = set()

    async def open(self) -> str:
        """Listen, and return the path. Raises OSError."""
        self._folder = Path(tempfile.mkdtemp(prefix="lambda-log-"))  # only this user may enter it
        path = str(self._folder / "socket")
        self._server = await asyncio.get_running_loop().create_unix_server(self._stream, path)
        return path

    def _stream(self) -> _Stream:
        return _Stream(self._write_line, self._streams, self._max_streams)

    def close(self) -> None:
        """Stop listening. The streams' last lines are written when their processes have ended."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._streams):
            stream.finish()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Stream(asyncio.Protocol):
    """The output of one process."""

    def __init__(self, write_line: Callable[[str], None], siblings: set[_Stream], max_siblings: int) -> None:
        self._write_line = write_line
        self._siblings = siblings
        self._max_siblings = max_siblings
        self._lines = LineSplitter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._siblings) >= self._max_siblings:
            self._transport.abort()
            return
        self._siblings.add(self)

    def data_received(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._write_line(line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._siblings.discard(self)
        self.finish()

    def finish(self) -> None:
        for line in self._lines.finish():
            self._write_line(line)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
