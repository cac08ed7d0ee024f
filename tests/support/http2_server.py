"""A gRPC server in frames, which may answer as no library would."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from hpack import Decoder

from tests.support.frames import PREFACE, RESPONSE, TRAILERS, FrameFactory
from tests.support.stream_server import stream_server

END = ("END_HEADERS", "END_STREAM")

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9


class Stream:
    """A request, as far as it has come."""

    def __init__(self, stream_id: int, fields: dict[str, str]) -> None:
        self.stream_id = stream_id
        self.fields = fields
        self.body = b""
        self.has_ended = False

    @property
    def method(self) -> str:
        return self.fields[":path"].rpartition("/")[2]


class ServerConnection:
    """One connection. `answer` is asked when a request is whole, and if `early` also when its headers have come."""

    def __init__(self, server: FrameServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.make = FrameFactory()
        self.streams: dict[int, Stream] = {}
        self.resets: list[tuple[int, int]] = []
        """Stream and code of each RST_STREAM that has come."""
        self.pings = 0
        self.goaways: list[int] = []
        """The code of each GOAWAY that has come."""
        self.is_over = asyncio.Event()
        self._server = server
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()
        self._block = b""

    def write(self, *frames: bytes) -> None:
        self._writer.write(b"".join(frames))

    def reply(self, stream_id: int, body: bytes = b"\0\0\0\0\5hello") -> None:
        """A whole, honest response."""
        self.write(
            self.make.headers(stream_id, RESPONSE),
            self.make.data(stream_id, body),
            self.make.headers(stream_id, TRAILERS, flags=END),
        )

    def close(self) -> None:
        self._writer.close()

    async def serve(self) -> None:
        try:
            assert PREFACE == await self._reader.readexactly(len(PREFACE))
            if self._server.settings is not None:
                self.write(self.make.settings(self._server.settings))
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                await self._writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.is_over.set()
            self._writer.close()

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & 1 and self._server.settings is not None:
            self.write(self.make.settings_ack())
        elif kind == _PING and not flags & 1:
            self.pings += 1
            if self._server.answers_pings:
                self.write(self.make.ping(payload, flags=["ACK"]))
        elif kind == _RST:
            self.resets.append((stream_id, int.from_bytes(payload, "big")))
        elif kind == _GOAWAY:
            self.goaways.append(int.from_bytes(payload[4:8], "big"))
        elif kind in (_HEADERS, _CONTINUATION):
            self._block += payload
            if flags & 4:
                fields = {str(name): str(value) for name, value in self._decoder.decode(self._block)}
                self._block = b""
                self.streams[stream_id] = Stream(stream_id, fields)
                self._ask(stream_id, ended=bool(flags & 1))
        elif kind == _DATA:
            if payload and self._server.opens_windows:
                self.write(*[self.make.window_update(each, len(payload)) for each in (0, stream_id)])
            self.streams[stream_id].body += payload
            if flags & 1:
                self._ask(stream_id, ended=True)

    def _ask(self, stream_id: int, *, ended: bool) -> None:
        stream = self.streams[stream_id]
        stream.has_ended = ended
        if ended or self._server.is_early:
            self._server.answer(self, stream)


Answer = Callable[[ServerConnection, Stream], None]


class FrameServer:
    def __init__(
        self,
        answer: Answer,
        *,
        settings: dict[int, int] | None,
        is_early: bool,
        answers_pings: bool,
        opens_windows: bool,
    ) -> None:
        self.answer = answer
        self.settings = settings
        """None: it never says any."""
        self.is_early = is_early
        self.answers_pings = answers_pings
        self.opens_windows = opens_windows
        self.connections: list[ServerConnection] = []
        self.address = ""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ServerConnection(self, reader, writer)
        self.connections.append(connection)
        await connection.serve()

    @property
    def requests(self) -> list[Stream]:
        return [stream for each in self.connections for stream in each.streams.values()]


@asynccontextmanager
async def frame_server(
    answer: Answer | None = None,
    *,
    settings: dict[int, int] | None = {},  # noqa: B006 - read only
    is_early: bool = False,
    answers_pings: bool = True,
    opens_windows: bool = True,
    tls: ssl.SSLContext | None = None,
    path: Path | None = None,
    port: int = 0,
) -> AsyncIterator[FrameServer]:
    """Listens on a free port of 127.0.0.1. Answers honestly if nothing else is said."""
    server = FrameServer(
        answer or (lambda connection, stream: connection.reply(stream.stream_id)),
        settings=settings,
        is_early=is_early,
        answers_pings=answers_pings,
        opens_windows=opens_windows,
    )
    async with stream_server(server.accept, port=port, path=path, tls=tls) as listener:
        server.address = listener.address
        yield server
