"""The call console's part of the admin server: it decides who may use the console, and passes lines on.

In: requests of the status page. Out: the answers of the process that makes the calls, line by line. What the lines mean
is not looked at: bridge/console/conversation.py has them.

A web page elsewhere cannot use the console, although a browser would send its requests here. Each of these rules keeps
it out:

- The Host must be this machine. A name that points here by DNS rebinding is refused.
- The Origin must be this port, and Sec-Fetch-Site must not say otherwise.
- The content type is one for which a browser asks first (a preflight). It never gets leave.
- The token stands only in the status page, which no other page can read. A user of this machine can read it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import json

from bridge.server.hosts import Hosts

if TYPE_CHECKING:
    from aiohttp import web

MAX_LINE = 9 << 20
"""Bytes of one line: the JSON of a message of 4 MiB, with its quotes escaped."""

TOKEN_HEADER = "X-Console-Token"  # noqa: S105 - its name
_CONTENT_TYPE = "application/json"
_ASK = "/console/ask"
_CALLS = "/console/calls"


@dataclass(frozen=True, slots=True)
class ConsoleLimits:
    """What the console takes at a time."""

    calls: int = 8
    questions: int = 8
    line: int = MAX_LINE
    """Bytes."""
    body: float = 10.0
    """Seconds for the page to send a request."""
    answer: float = 40.0
    """Seconds for the answer to a question: a target that is asked for its descriptors may have a cold start."""


@dataclass(frozen=True, slots=True)
class ListenerShown:
    """An address that takes calls, for the commands that the page writes."""

    address: str
    tls: bool


@dataclass(frozen=True, slots=True)
class ConsoleAccess:
    """Where the console's answers come from."""

    off: str = "this bridge has none"
    """Why there is no console. Empty: there is one."""
    open: Callable[[], socket.socket] | None = None
    """Returns a socket, whose other end answers one question or makes one call. Raises OSError."""
    listeners: Callable[[], Sequence[ListenerShown]] = field(default=tuple)


@dataclass(frozen=True, slots=True)
class ConsoleAnswer:
    """An answer to the page."""

    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    lines: AsyncIterator[bytes] | None = None
    """What follows the body, as it comes."""


def _refused(status: int, text: str) -> ConsoleAnswer:
    return ConsoleAnswer(f"{text}\n".encode(), status=status)


class ConsoleGate:
    """Belongs to the running loop."""

    def __init__(self, access: ConsoleAccess, hosts: Hosts, *, limits: ConsoleLimits | None = None) -> None:
        """`hosts`: those of the admin port. The names among them that the operator has configured count."""
        self._access = access
        self._hosts = hosts
        self._limits = limits or ConsoleLimits()
        self._token = secrets.token_urlsafe(32)
        self._questions = 0
        self._calls: dict[str, asyncio.StreamWriter | None] = {}
        """By id: where the lines of a call go. None: it is about to begin."""

    # -- the page ------------------------------------------------------------------------------------------------------

    def fill(self, page: bytes, request: web.BaseRequest) -> bytes:
        """Return the status page with what its console needs: the token, or the reason why there is none."""
        off = self._off_for(request)
        shown = [{"address": each.address, "tls": each.tls} for each in self._access.listeners()] if not off else []
        values = {
            b"{{console-token}}": "" if off else self._token,
            b"{{console-off}}": off,
            b"{{console-listeners}}": json.encode(shown).decode(),
        }
        for mark, value in values.items():
            page = page.replace(mark, escape(value).encode())
        return page

    def _off_for(self, request: web.BaseRequest) -> str:
        """Return why a page that is asked for in this way has no console, or an empty text."""
        if self._access.off:
            return self._access.off
        if not self._is_own_host(request):
            return "this page was asked for by another name than localhost or a loopback address"
        is_visited = request.headers.get("Sec-Fetch-Dest", "document") == "document"
        if not is_visited and request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            return "this page was asked for by a page of another origin"
        return ""

    def _is_own_host(self, request: web.BaseRequest) -> bool:
        """Whether the request's only Host means this machine, by itself or because the operator has named it.

        The admin port answers to more names: one without a dot may be given by anybody in the local network.
        """
        found = request.headers.getall("Host", [])
        return len(found) == 1 and (_is_loopback(found[0]) or self._hosts.has_named(found[0]))

    # -- requests ------------------------------------------------------------------------------------------------------

    async def answer(self, request: web.BaseRequest) -> ConsoleAnswer:
        """Answer a request for a path below /console/. Its peer is on this machine."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        path, _, call = request.path.removeprefix(_CALLS).rpartition("/")
        if request.path not in {_ASK, _CALLS} and (path or not call or not request.path.startswith(_CALLS)):
            return _refused(404, "nothing here")
        line = await self._line_of(request)
        if isinstance(line, ConsoleAnswer):
            return line
        if request.path == _ASK:
            return await self._ask(line)
        return self._begin(line) if request.path == _CALLS else await self._say(call, line)

    def _refusal(self, request: web.BaseRequest) -> ConsoleAnswer | None:
        """Return the refusal of a request that this port's own page would not make."""
        headers = request.headers
        if self._access.off:
            return _refused(403, f"there is no call console: {self._access.off}")
        if not self._is_own_host(request):
            return _refused(403, "the call console answers to localhost and loopback addresses only")
        if request.method != "POST":
            return _refused(405, "the call console takes POST requests")
        if not _is_origin(headers.getall("Origin", []), headers["Host"]):
            return _refused(403, "only this port's own page may use the call console")
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return _refused(403, "only this port's own page may use the call console")
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() != _CONTENT_TYPE:
            return _refused(415, f"the call console takes {_CONTENT_TYPE}")
        given = headers.getall(TOKEN_HEADER, [])
        if len(given) != 1 or not secrets.compare_digest(given[0].encode(errors="replace"), self._token.encode()):
            return _refused(403, "the token of the call console is missing or old: load the page again")
        return None

    async def _line_of(self, request: web.BaseRequest) -> bytes | ConsoleAnswer:
        """Return the request's body, which is one line. Its size is bounded before it is held."""
        limit = self._limits.line
        too_large = _refused(413, f"the call console takes at most {limit} bytes in one request")
        if (request.content_length or 0) > limit:
            return too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > limit:
                        return too_large
        except TimeoutError:
            return _refused(408, "the request took too long to arrive")
        if b"\n" in body:
            return _refused(400, "the request is not one line of JSON")
        return bytes(body)

    async def _open(self, line: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a conversation with this line. Raises OSError."""
        if self._access.open is None:
            raise OSError("there is nobody to ask")
        sock = self._access.open()
        sock.setblocking(False)  # noqa: FBT003 - the name of the method says it
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=2 * MAX_LINE)
        writer.write(line + b"\n")
        return reader, writer

    async def _ask(self, line: bytes) -> ConsoleAnswer:
        if self._questions >= self._limits.questions:
            return _refused(429, "the call console answers other questions; try again")
        self._questions += 1
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._open(line)
            async with asyncio.timeout(self._limits.answer):
                return ConsoleAnswer(await reader.readline() or _BUSY, _CONTENT_TYPE)
        except TimeoutError:
            return _refused(504, "no answer came in time")
        except (OSError, ValueError) as error:
            return _refused(503, f"the console cannot be reached: {error}")
        finally:
            self._questions -= 1
            if writer is not None:
                writer.close()

    def _begin(self, line: bytes) -> ConsoleAnswer:
        if self._is_full:
            return _refused(429, self._too_many)
        return ConsoleAnswer(b"", "application/x-ndjson", lines=self._lines_of(line))

    @property
    def _is_full(self) -> bool:
        return len(self._calls) >= self._limits.calls

    @property
    def _too_many(self) -> str:
        return f"{self._limits.calls} calls of the console are under way: wait for one, or cancel it"

    async def _lines_of(self, line: bytes) -> AsyncIterator[bytes]:
        """Begin a call, and yield its id and then all that happens. The call is cancelled when nobody reads on."""
        if self._is_full:  # others have begun since the request was looked at
            yield _refusal_line(self._too_many)
            return
        call = secrets.token_urlsafe(16)
        self._calls[call] = writer = None
        has_lines = False
        try:
            reader, writer = await self._open(line)
            self._calls[call] = writer
            yield json.encode({"is": "begun", "id": call}) + b"\n"
            while found := await reader.readline():
                has_lines = True
                yield found
            if not has_lines:
                yield _BUSY
        except (OSError, ValueError) as error:
            if writer is None:
                yield _refusal_line(f"the console cannot be reached: {error}")
                return
            gone = json.encode({"is": "failed", "text": f"the console's process has gone: {error}"}) + b"\n"
            yield gone if has_lines else _BUSY
        finally:
            del self._calls[call]
            if writer is not None:
                writer.close()

    async def _say(self, call: str, line: bytes) -> ConsoleAnswer:
        writer = self._calls.get(call)
        if writer is None:
            return _refused(404, "this call is over")
        try:
            # First, so that no more lines wait than there are requests, and a refused one is not sent after all.
            async with asyncio.timeout(self._limits.body):
                await writer.drain()
        except (OSError, TimeoutError):
            return _refused(503, "the call takes no more messages now")
        writer.write(line + b"\n")
        return ConsoleAnswer(status=204)


def _refusal_line(text: str) -> bytes:
    return json.encode({"is": "refused", "text": text}) + b"\n"


_BUSY = _refusal_line("the console of this process does as much as it can; try again")


def _is_loopback(authority: str) -> bool:
    """Whether a Host header (RFC 9110 7.2) means this machine whatever a name server says."""
    host = _host_of(authority)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(authority: str) -> str:
    """Return the host in lower case, without the port, brackets and a dot at the end."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower().removesuffix(".")


def _is_origin(origins: Sequence[str], authority: str) -> bool:
    """Whether the only Origin is this port, as it was asked for."""
    if len(origins) != 1:
        return False
    scheme, _, origin = origins[0].partition("://")
    return scheme.lower() in {"http", "https"} and origin.lower() == authority.lower()
