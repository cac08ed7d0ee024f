"""One request to the HTTP/1.1 server of a Web Function, and its response.

Half duplex, as on AWS: the whole request is forwarded before any of the response is read. So a server that answers a
large request before it has read it makes both sides wait, until the timeout. Trailers of the response are dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_WEB_HEAD = 64 << 10
"""Bytes of a response's head."""
_READ_SIZE = 64 << 10

WebFields = list[tuple[str, str]]


class BadResponse(Exception):
    """The answer is not an HTTP response, or it ends too early. `str` says what, for the function's log."""


class WebExchange:
    """One connection to the server, for one request. The parser calls its methods `on_…`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, has_body: bool) -> None:
        """`has_body`: whether the response to this request's method can have one. Those to HEAD cannot."""
        self._reader = reader
        self._writer = writer
        self._has_body = has_body
        self._parser = HttpResponseParser(self)
        self._parts: deque[bytes] = deque()
        self._head_size = 0
        self._has_head = False
        self._is_whole = False
        self.status = 0
        self.fields: WebFields = []

    @classmethod
    async def open(cls, host: str, port: int, *, has_body: bool) -> WebExchange:
        """Connect. Raises OSError."""
        reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer, has_body=has_body)

    async def send(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """Forward the request. Raises what `body` raises. A server that closes before it has read all of it may have
        answered, so that is no error.
        """
        self._writer.write(head)
        async for part in body:
            self._writer.write(part)
            try:
                await self._writer.drain()
            except ConnectionError:
                return

    async def read_head(self) -> None:
        """Read until `status` and `fields` are there. Raises BadResponse."""
        while not self._has_head:
            if not await self._read():
                raise BadResponse("the server closed the connection without a response")
            if self._head_size > MAX_WEB_HEAD:
                raise BadResponse(f"the head of the response has more than {MAX_WEB_HEAD} bytes")

    async def body(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes. Raises BadResponse if it ends too early."""
        while True:
            while self._parts:
                yield self._parts.popleft()
            if self._is_whole:
                return
            if not await self._read():
                if self._ends_with_connection:
                    return
                raise BadResponse("the response ended in the middle of its body")

    def close(self) -> None:
        self._writer.close()

    async def _read(self) -> bool:
        try:
            data = await self._reader.read(_READ_SIZE)
        except ConnectionError:
            data = b""
        if not data:
            return False
        if not self._has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            raise BadResponse("the response switches to another protocol") from None
        except HttpParserError as error:
            raise BadResponse(f"the response is no HTTP ({type(error).__name__})") from None
        return True

    @property
    def _ends_with_connection(self) -> bool:
        names = {name.lower() for name, _ in self.fields}
        return self._has_head and not names & {"content-length", "transfer-encoding"}

    # -- the parser's events

    def on_status(self, _reason: bytes) -> None:
        self.status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # those behind the body are trailers
            self.fields.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            return  # an interim response; the final one follows
        self._has_head = True
        if not self._has_body:
            self._is_whole = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200:
            self.fields.clear()
        else:
            self._is_whole = True
