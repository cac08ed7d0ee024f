"""One call of the console: a gRPC client of this very bridge, whose page writes and reads JSON.

In: the page's lines. Out: what happened, as it happens. The client speaks HTTP/2 with the server of this process over a
pair of sockets. It has no deadline of its own: the bridge ends the call at its deadline, as for any client.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Awaitable, Callable

from msgspec import Raw
from msgspec.json import encode

from bridge.carriers.grpc.call import UpstreamCall, grpc_request_fields
from bridge.carriers.grpc.response import HeadReader
from bridge.carriers.http2.connection import Http2Connection
from bridge.console.connection import ConsoleConnection
from bridge.console.conversation import (
    BadLine,
    BeginCall,
    CallEnded,
    CallRefused,
    CancelCall,
    Conversation,
    EndRequest,
    Failed,
    HeadersCame,
    MessageCame,
    NotSent,
    SendMessage,
    Sent,
    Stages,
)
from bridge.console.metadata import BadMetadata, checked_metadata, timeout_of
from bridge.conversion.converter import MessageConverter
from bridge.http2.events import Fields
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.deadline import format_timeout
from bridge.rpc.envelope import data_of, envelope
from bridge.rpc.errors import ReplyTooLarge, RpcError
from bridge.rpc.events import Headers, Message, Trailers
from bridge.rpc.limits import Limits
from bridge.rpc.status import Status, StatusCode
from bridge.services.message_json import UnusableMessage

MAX_JSON = 4 << 20
"""Bytes of the JSON of one message, in either direction."""
MAX_CONSOLE_MESSAGE = 4 << 20
"""Bytes of one message, in either direction."""

MOST_WAITING_MESSAGES = 16
"""Request messages that wait while the bridge takes no more."""

_BRIDGE: Fields = ((":method", "POST"), (":scheme", "http"), (":authority", "localhost"))
_READY_SECONDS = 10.0
"""For the bridge to take a connection of its own."""
_STAGES_SECONDS = 2.0
"""For the call's task to end once its status is here."""
_SHOWN_RAW = 3 << 10
"""Bytes of a message without a JSON form that are shown."""

Attach = Callable[[socket.socket], Awaitable[ConsoleConnection]]
"""Makes a socket a connection of the server. It takes the socket."""


class _CallIsOver(RpcError):
    """The console needs the connection no longer."""


class _OwnBridge:
    """The server of a call, which is this process. It has one connection."""

    name = "the bridge"
    limits = Limits(max_response=MAX_CONSOLE_MESSAGE)
    clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.heads = HeadReader(self.name, throttled_as=StatusCode.UNAVAILABLE)
        self._connection = Http2Connection(self)

    @property
    def pool(self) -> _OwnBridge:
        return self

    async def connect(self, attach: Attach) -> ConsoleConnection:
        """Return the server's end of the connection. Raises OSError, TimeoutError, RpcError."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)  # noqa: FBT003 - the name of the method says it
            server = await attach(theirs)
            await asyncio.get_running_loop().create_connection(lambda: self._connection, sock=ours)
            async with asyncio.timeout(_READY_SECONDS):
                await self._connection.wait_until_ready()
        except BaseException:
            ours.close()
            raise
        return server

    async def connection(self) -> Http2Connection:
        return self._connection

    def close(self) -> None:
        self._connection.abort(_CallIsOver())

    # -- what the call and the connection tell: of no interest here, since there is one call ---------------------------

    def changed(self, connection: Http2Connection) -> None: ...
    def lost(self, connection: Http2Connection) -> None: ...
    def finished(self) -> None: ...

    def request_id_of(self, connection: Http2Connection) -> str:
        del connection
        return ""


class ConsoleCall:
    """Runs once."""

    def __init__(
        self,
        begin: BeginCall,
        page: Conversation,
        *,
        converter: MessageConverter,
        types: tuple[str, str],
        buffers: Buffers,
        user_agent: str,
    ) -> None:
        """`types`: the full names of the method's request and response."""
        self._begin = begin
        self._page = page
        self._converter = converter
        self._input, self._output = types
        self._account = OpenAccount(buffers)
        self._user_agent = user_agent
        self._upstream: UpstreamCall
        self._began = 0.0
        self._sent = self._received = 0
        self._first: list[bytes] = []
        self._has_ended = begin.is_whole
        """Whether the page has said that no more messages follow."""
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue()
        """Messages as JSON, and None after the last one."""
        if begin.is_whole:
            self._waiting.put_nowait(None)

    async def run(self, attach: Attach) -> None:
        """Make the call and tell all that happens. Ends with one of Ended, Failed and Refused, unless the page goes."""
        try:
            fields = self._fields()
            self._account.hold(sum(map(len, self._begin.messages)))
            self._first = [await self._read(text) for text in self._begin.messages]
        except (BadMetadata, RpcError) as error:
            self._account.close()
            await self._page.tell(CallRefused(str(error)))
            return
        bridge = _OwnBridge()
        self._upstream = UpstreamCall(bridge, fields, None, self._account)
        try:
            server = await bridge.connect(attach)
            self._began = time.monotonic()
            await self._upstream.connect()
            await self._exchange(server)
        except (OSError, TimeoutError) as error:
            reason = str(error) or "it took too long"
            await self._page.tell(Failed(f"the bridge took no connection of its own: {reason}"))
        except RpcError as error:
            await self._page.tell(Failed(_failure(error)))
        finally:
            self._upstream.finish()
            self._account.close()
            # In the next turn, so that what ends the call still leaves.
            asyncio.get_running_loop().call_soon(bridge.close)

    def _fields(self) -> Fields:
        begin = self._begin
        path = f"/{begin.service}/{begin.method}"
        fields = grpc_request_fields(_BRIDGE, path, self._user_agent, checked_metadata(begin.metadata))
        seconds = timeout_of(begin.timeout)
        return fields if seconds is None else (*fields, ("grpc-timeout", format_timeout(seconds)))

    async def _read(self, text: str) -> bytes:
        encoded = text.encode(errors="surrogatepass")
        if len(encoded) > MAX_JSON:
            raise UnusableMessage(f"this message has {len(encoded)} bytes of JSON; the console takes {MAX_JSON}")
        return await self._converter.read(self._input, encoded, max_size=MAX_CONSOLE_MESSAGE)

    async def _exchange(self, server: ConsoleConnection) -> None:
        """Listen, send and receive at the same time, until the call ends, is cancelled, or the page goes."""
        loop = asyncio.get_running_loop()
        page = loop.create_task(self._listen())
        requests = loop.create_task(self._send_all())
        responses = loop.create_task(self._receive_all(server))
        tasks = {page, requests, responses}
        try:
            while not responses.done():
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if requests in done:
                    requests.result()
                if page in done and not responses.done():
                    await self._cancel(responses, server)
                    return
            responses.result()
        finally:
            for task in (page, requests, responses):
                task.cancel()
            await asyncio.gather(page, requests, responses, return_exceptions=True)

    async def _cancel(self, responses: asyncio.Task[None], server: ConsoleConnection) -> None:
        """End the call as any client ends one: the status is the client's own."""
        responses.cancel()
        await asyncio.gather(responses, return_exceptions=True)
        self._upstream.finish()
        status = Status(StatusCode.CANCELLED, "cancelled in the console")
        await self._end(Trailers(status), server)

    # -- the request ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Take what the page says, and return when the call is to be cancelled. It hears that even while the bridge
        takes no more messages.
        """
        while True:
            try:
                said = await self._page.hear()
            except BadLine as error:  # a message with half a surrogate pair, for example
                await self._page.tell(NotSent(str(error)))
                continue
            match said:
                case None | CancelCall():
                    return
                case SendMessage() | EndRequest() if self._has_ended:
                    await self._page.tell(NotSent("the request has ended already"))
                case SendMessage(text):
                    await self._queue(text)
                case EndRequest():
                    self._has_ended = True
                    self._waiting.put_nowait(None)
                case _:
                    await self._page.tell(NotSent("a call is under way"))

    async def _queue(self, text: str) -> None:
        if self._waiting.qsize() >= MOST_WAITING_MESSAGES:
            await self._page.tell(NotSent(f"{MOST_WAITING_MESSAGES} messages wait already to be sent"))
            return
        try:
            self._account.hold(len(text))
        except RpcError as error:
            await self._page.tell(NotSent(str(error)))
        else:
            self._waiting.put_nowait(text)

    async def _send_all(self) -> None:
        """Send the first messages, and then those that wait, until the request ends."""
        for message in self._first:
            await self._send(message)
        while (text := await self._waiting.get()) is not None:
            try:
                message = await self._read(text)
            except RpcError as error:
                await self._page.tell(NotSent(str(error)))
            else:
                await self._send(message)
            finally:
                self._account.let_go(len(text))
        self._upstream.half_close()

    async def _send(self, message: bytes) -> None:
        self._account.hold(len(message))
        try:
            if not await self._upstream.send(envelope(message)):
                return  # the call has ended, which the responses tell
        finally:
            self._account.let_go(len(message))
        self._sent += 1
        await self._page.tell(Sent(self._sent, len(message), self._at()))

    # -- the response --------------------------------------------------------------------------------------------------

    async def _receive_all(self, server: ConsoleConnection) -> None:
        while True:
            for event in await self._upstream.receive():
                match event:
                    case Headers(metadata):
                        await self._page.tell(HeadersCame(metadata, self._at()))
                    case Message(found):
                        await self._show(data_of(found))
                    case Trailers():
                        await self._end(event, server)
                        return

    async def _show(self, message: bytes) -> None:
        self._received += 1
        number, size, at = self._received, len(message), self._at()
        try:
            text = await self._converter.print(self._output, message, max_size=MAX_JSON)
        except RpcError as error:
            raw = base64.b64encode(message).decode() if size <= _SHOWN_RAW else ""
            await self._page.tell(MessageCame(number, size, at, None, str(error), raw))
            return
        self._account.hold(len(text))
        try:
            await self._page.tell(MessageCame(number, size, at, text.decode()))
        finally:
            self._account.let_go(len(text))

    async def _end(self, end: Trailers, server: ConsoleConnection) -> None:
        at, status = self._at(), end.status
        stages = await _stages_of(server)
        details = await self._details(status.details)
        await self._page.tell(
            CallEnded(status.code, status.code.name, status.message, end.metadata, Raw(details), at, stages)
        )

    async def _details(self, status: bytes) -> bytes:
        if not status:
            return b"[]"
        try:
            return await self._converter.print_details(status)
        except RpcError as error:  # the status itself must not be lost
            shown = base64.b64encode(status[:_SHOWN_RAW]).decode()
            return encode([{"@type": "google.rpc.Status", "@value": shown, "problem": str(error)}])

    def _at(self) -> float:
        return time.monotonic() - self._began


async def _stages_of(server: ConsoleConnection) -> Stages | None:
    """Return what the server knows of the call, when its task is over. None: it was refused before it was a call."""
    done, _ = await asyncio.wait((server.stages,), timeout=_STAGES_SECONDS)
    return server.stages.result() if done and not server.stages.cancelled() else None


def _failure(error: RpcError) -> str:
    if isinstance(error, ReplyTooLarge):
        return f"the console shows messages of up to {MAX_CONSOLE_MESSAGE} bytes, and has cancelled the call: {error}"
    return str(error)
