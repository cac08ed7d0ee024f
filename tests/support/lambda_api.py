"""A stand-in for Lambda's API that answers as it is told: what AWS says when things go wrong, and what broken
peers do.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.stream_server import StreamServer

HANG_UP = b"hang up"
"""Close the connection instead of answering."""
CUT = b"cut:"
"""Send the rest of this, then close the connection."""
SILENCE = b"silence"
"""Never answer."""

_FUNCTION = re.compile(rb"/2015-03-31/functions/([^/]+)/invocations")


def refusal(http_status: int, error_type: str, message: str = "", *fields: str) -> bytes:
    """An error of the Lambda API."""
    body = f'{{"Type":"User","Message":"{message}"}}'
    return answer(http_status, body, f"x-amzn-ErrorType: {error_type}", *fields)


def answer(http_status: int, body: str | bytes, *fields: str) -> bytes:
    """An HTTP response with this body."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {http_status} X", f"content-length: {len(content)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + content


class LambdaApi:
    """Serves the answers, by function name, in a thread of its own."""

    def __init__(self, answers: Mapping[str, bytes], tls: ssl.SSLContext | None) -> None:
        self._answers = {name.encode(): content for name, content in answers.items()}
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.requests: Counter[str] = Counter()
        """By function."""
        self.hung_up = threading.Event()
        """Set when a client closes a connection on which it waits for an answer."""
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self._server = StreamServer(self._serve)
        asyncio.run_coroutine_threadsafe(self._server.start(tls=self._tls), self._loop).result(10)
        self.port = self._server.port

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._answer(reader, writer):
            pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        size = re.search(rb"content-length: (\d+)", head)
        await reader.readexactly(int(size[1]) if size else 0)
        found = _FUNCTION.search(head)
        name = found[1] if found else b""
        self.requests[name.decode()] += 1
        content = self._answers.get(name, refusal(404, "ResourceNotFoundException"))
        if content == HANG_UP:
            return False
        if content == SILENCE:
            if await reader.read(1) == b"":
                self.hung_up.set()
            return False
        writer.write(content.removeprefix(CUT))
        await writer.drain()
        return not content.startswith(CUT)


@contextmanager
def lambda_api(answers: Mapping[str, bytes], tls: ssl.SSLContext | None = None) -> Iterator[LambdaApi]:
    api = LambdaApi(answers, tls)
    api.start()
    try:
        yield api
    finally:
        api.stop()
