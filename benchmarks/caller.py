"""A gRPC client of raw frames, for what h2load cannot do: header blocks that all differ, connections that stay, the
first answer.

All bytes that are sent are made before the clock runs. What comes back is only counted: messages' bytes and ended
streams; that the answers are right, benchmarks/answers.py has seen with a real client before.
"""

from __future__ import annotations

import random
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hpack import Encoder

from benchmarks.load import REPLY_BODY, Load, Shape

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _WINDOW_UPDATE = 0x0, 0x1, 0x4, 0x8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_HEAD = struct.Struct(">HBBBL")
_MESSAGE = b"\0\0\0\0\x07\n\x05world"
_LONGEST_WAIT = 30.0


def varied(port: int, path: str, shape: Shape) -> Load:
    """Calls as grpc-go sends them: each with the time left to its deadline and a span of its own, entered into the
    header table.
    """
    each = shape.calls // shape.connections
    clients = [_Client(port, _varied_calls(path, each)) for _ in range(shape.connections)]
    try:
        return _run(clients, shape.streams)
    finally:
        for client in clients:
            client.close()


@contextmanager
def staying(port: int, path: str, connections: int) -> Iterator[None]:
    """So many connections, each of which has had one call answered, open until the block ends."""
    clients = [_Client(port, _plain_calls(path, 1)) for _ in range(connections)]
    try:
        _run(clients, 1)
        yield
    finally:
        for client in clients:
            client.close()


def wait_for_first_answer(port: int, path: str) -> None:
    """Try until a call is answered with a message, every 5 ms."""
    until = time.monotonic() + _LONGEST_WAIT
    while time.monotonic() < until:
        try:
            client = _Client(port, _plain_calls(path, 1))
        except OSError:
            time.sleep(0.005)
            continue
        try:
            _run([client], 1)
        except (OSError, _Failed):
            time.sleep(0.005)
            continue
        finally:
            client.close()
        return
    raise RuntimeError(f"no answer on port {port} within {_LONGEST_WAIT:g} s")


class _Failed(RuntimeError):
    """Calls ended without a message."""


class _Client:
    """One connection and the calls that it will send."""

    def __init__(self, port: int, calls: list[bytes]) -> None:
        self.ended = 0
        """Streams."""
        self.body = 0
        """Bytes of messages received."""
        self.total = len(calls)
        self._calls = calls
        self._sent = 0
        self._partial = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        window = struct.pack(">HL", 0x4, (1 << 31) - 1)
        settings = _frame(_SETTINGS, 0, 0, window)
        wide = _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">L", 1 << 30))
        self.socket.sendall(_PREFACE + settings + wide)

    def send(self, in_flight: int) -> None:
        """Fill up to so many calls in flight."""
        upto = min(self.total, self.ended + in_flight)
        if upto > self._sent:
            self.socket.sendall(b"".join(self._calls[self._sent : upto]))
            self._sent = upto

    def receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise _Failed("the connection was closed")
        if self._partial:
            data = self._partial + data
        at, end = 0, len(data)
        while end - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            size = high << 8 | low
            if end - at - 9 < size:
                break
            at += 9 + size
            if kind == _DATA:
                self.body += size
            elif kind == _SETTINGS and not flags & _ACK:
                self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
            if stream and flags & _END_STREAM and kind in (_DATA, _HEADERS):
                self.ended += 1
        self._partial = data[at:]

    def close(self) -> None:
        self.socket.close()


def _run(clients: list[_Client], in_flight: int) -> Load:
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        began = time.monotonic()
        left = len(clients)
        for client in clients:
            client.send(in_flight)
        while left:
            ready = selector.select(_LONGEST_WAIT)
            if not ready:
                raise RuntimeError("no answer any more")
            for key, _ in ready:
                client = key.data
                client.receive()
                if client.ended == client.total:
                    selector.unregister(client.socket)
                    left -= 1
                else:
                    client.send(in_flight)
        seconds = time.monotonic() - began
    calls = sum(client.total for client in clients)
    if sum(client.body for client in clients) != calls * REPLY_BODY:
        raise _Failed("calls ended without their message")
    return Load(calls, seconds, ())


# -- bytes -------------------------------------------------------------------------------------------------------------


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def _fields(path: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-go/1.66.0"),
        ("te", "trailers"),
    ]


def _plain_calls(path: str, count: int) -> list[bytes]:
    encoder = Encoder()
    return [_call(encoder, number, _fields(path)) for number in range(count)]


def _varied_calls(path: str, count: int) -> list[bytes]:
    encoder, chance = Encoder(), random.Random(count)
    trace = f"{chance.getrandbits(128):032x}"
    return [
        _call(
            encoder,
            number,
            [
                *_fields(path),
                ("grpc-timeout", f"{chance.randrange(4_990_000, 4_999_999)}u"),
                ("traceparent", f"00-{trace}-{chance.getrandbits(64):016x}-01"),
            ],
        )
        for number in range(count)
    ]


def _call(encoder: Encoder, number: int, fields: list[tuple[str, str]]) -> bytes:
    stream = 2 * number + 1
    block = encoder.encode(fields)
    return _frame(_HEADERS, _END_HEADERS, stream, block) + _frame(_DATA, _END_STREAM, stream, _MESSAGE)
