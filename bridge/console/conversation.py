"""What the console's page and the process that makes its calls say to each other: one JSON line each, over a socket.

The page speaks first, and its first line decides: a list, a description, or a call. A call has more lines in both
directions. When the page's end of the socket closes, the call is cancelled.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, encode

from bridge.admin.console import MAX_LINE

# -- the page's lines --------------------------------------------------------------------------------------------------


class ListServices(Struct, frozen=True, tag_field="do", tag="list", forbid_unknown_fields=True):
    """Asks for all services and the methods that are known of them. No target is asked."""


class DescribeService(Struct, frozen=True, tag_field="do", tag="describe", forbid_unknown_fields=True):
    """Asks for the methods of a service. Its target may be asked, which may start a function."""

    service: str


class DescribeMethod(Struct, frozen=True, tag_field="do", tag="form", forbid_unknown_fields=True):
    """Asks what the request of a method is made of. Its target may be asked."""

    service: str
    method: str


class BeginCall(Struct, frozen=True, tag_field="do", tag="call", forbid_unknown_fields=True):
    """Begins a call."""

    service: str
    method: str
    metadata: tuple[tuple[str, str], ...] = ()
    """Values of `-bin` names are base64."""
    timeout: str = ""
    """A duration such as `5s`. Empty: the call has no deadline of its own."""
    messages: tuple[str, ...] = ()
    """The first request messages as JSON."""
    is_whole: bool = False
    """Whether no more messages follow."""


class SendMessage(Struct, frozen=True, tag_field="do", tag="send", forbid_unknown_fields=True):
    """Sends one more request message."""

    message: str
    """As JSON."""


class EndRequest(Struct, frozen=True, tag_field="do", tag="end", forbid_unknown_fields=True):
    """Says that no more request messages follow."""


class CancelCall(Struct, frozen=True, tag_field="do", tag="cancel", forbid_unknown_fields=True):
    """Cancels the call."""


Request = ListServices | DescribeService | DescribeMethod | BeginCall | SendMessage | EndRequest | CancelCall


# -- the answers -------------------------------------------------------------------------------------------------------


class MethodShown(Struct, frozen=True):
    """A method as it is offered."""

    name: str
    kind: str
    input: str
    """The full names of its message types."""
    output: str


class ServiceShown(Struct, frozen=True):
    """A service as it is offered."""

    name: str
    methods: Sequence[MethodShown] | None
    """None: nobody has described it yet."""


class Services(Struct, frozen=True, tag_field="is", tag="services"):
    services: Sequence[ServiceShown]


class FieldShown(Struct, frozen=True, omit_defaults=True):
    """A field of a message."""

    name: str
    """In JSON."""
    proto_name: str
    type: str
    """As .proto files name scalars, `message` or `enum`."""
    of: str = ""
    """The full name of the message or enum."""
    repeated: bool = False
    key: str = ""
    """The scalar type of a map's keys. `type` and `of` are then those of its values."""
    oneof: str = ""
    presence: bool = False
    """Whether a field at its default differs from one that is absent."""
    required: bool = False


class RequestForm(Struct, frozen=True, tag_field="is", tag="form"):
    """What the request of a method is made of."""

    method: MethodShown
    messages: dict[str, Sequence[FieldShown]]
    """By full name."""
    enums: dict[str, Sequence[str]]
    is_cut: bool
    """Whether there are more types than are listed here."""


class CallRefused(Struct, frozen=True, tag_field="is", tag="refused"):
    """It cannot be done, and no call has begun."""

    text: str


class Sent(Struct, frozen=True, tag_field="is", tag="sent"):
    """A request message is on its way."""

    number: int
    """From 1."""
    size: int
    """Bytes."""
    at: float
    """Seconds since the call began."""


class NotSent(Struct, frozen=True, tag_field="is", tag="not_sent"):
    """A request message cannot be sent. The call goes on."""

    text: str


class HeadersCame(Struct, frozen=True, tag_field="is", tag="headers"):
    metadata: Sequence[tuple[str, str]]
    at: float


class MessageCame(Struct, frozen=True, tag_field="is", tag="message"):
    number: int
    size: int
    """Bytes."""
    at: float
    json: str | None
    """As text, because JavaScript would round its numbers. None: it has no JSON form."""
    problem: str = ""
    """Why it has none."""
    base64: str = ""
    """The message itself then, if it is short."""


class Stages(Struct, frozen=True):
    """Where the time of a call went, and what became of it. Seconds."""

    total: float
    queued: float
    upstream: float
    """That the target took, of all attempts."""
    cold_start: bool
    attempts: int
    target: str
    request_id: str
    tenant: str


class CallEnded(Struct, frozen=True, tag_field="is", tag="ended"):
    """The call has its status."""

    code: int
    name: str
    message: str
    metadata: Sequence[tuple[str, str]]
    details: Raw
    """A JSON list."""
    at: float
    stages: Stages | None
    """None: not known."""


class Failed(Struct, frozen=True, tag_field="is", tag="failed"):
    """The console itself could not go on with the call, which it has cancelled."""

    text: str


Answer = Services | RequestForm | CallRefused | Sent | NotSent | HeadersCame | MessageCame | CallEnded | Failed

_decode = Decoder(Request).decode


class BadLine(ValueError):
    """A line that says nothing which is known."""


class Conversation:
    """One end of the socket: that of the process that makes calls."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Conversation:
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE))

    async def hear(self) -> Request | None:
        """Return the next line of the page, or None if it has gone. Raises BadLine."""
        try:
            line = await self._reader.readline()
        except ValueError as error:
            raise BadLine(f"a line has more than {MAX_LINE} bytes") from error
        except OSError:
            return None
        if not line.endswith(b"\n"):
            return None
        try:
            request: Request = _decode(line)
        except DecodeError as error:
            raise BadLine(f"not understood: {error}") from error
        return request

    async def tell(self, answer: Answer) -> None:
        """Send a line, and wait while the page is slow. A page that has gone hears nothing."""
        try:
            self._writer.write(encode(answer) + b"\n")
            await self._writer.drain()
        except OSError:
            return

    def close(self) -> None:
        self._writer.close()
