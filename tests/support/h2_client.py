"""An HTTP/2 client for tests: python-hyper's h2 without a socket, which objects to whatever the server does against the
RFC.

GOAWAY and PING are taken out before h2 sees them: it would close itself after a GOAWAY, and a test decides whether
PINGs are answered. `raw` sends any bytes at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

PING, GOAWAY = 0x6, 0x7
_HEAD_SIZE = 9

HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "bridge"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


def headers(*more: tuple[str, str], **replaced: str) -> list[tuple[str, str]]:
    """A request's fields; `path="/x"` replaces `:path`, `content_type="…"` the content type."""
    names = {"method": ":method", "path": ":path", "authority": ":authority"}
    given = {names.get(key, key.replace("_", "-")): value for key, value in replaced.items()}
    return [(name, given.get(name, value)) for name, value in HEADERS] + list(more)


@dataclass
class Reply:
    """What has come on one stream."""

    fields: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] | None = None
    reset: int | None = None
    has_ended: bool = False

    @property
    def status(self) -> tuple[int, str]:
        """grpc-status and grpc-message, from trailers or from a trailers-only block."""
        found = self.fields if self.trailers is None else self.trailers
        return int(found["grpc-status"]), found.get("grpc-message", "")


class H2Client:
    """Bytes in, bytes out. Credits what it receives unless `takes_data` is switched off."""

    def __init__(self, *, window: int | None = None, max_header_list: int | None = None) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        chosen = {
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_HEADER_LIST_SIZE: max_header_list,
        }
        values = {code: value for code, value in chosen.items() if value is not None}
        self.h2.local_settings = Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.replies: dict[int, Reply] = {}
        self.goaways: list[tuple[int, int, bytes]] = []
        """Last stream, code and debug data of each."""
        self.pings: list[bytes] = []
        self.answers_pings = True
        self.takes_data = True
        self.has_server_settings = False
        self._in = bytearray()
        self._out = b""

    # -- requests -----------------------------------------------------------------------------------------------------

    def call(self, body: bytes = b"", *more: tuple[str, str], ended: bool = True, **replaced: str) -> int:
        """Begin a call; with its body and its end unless `ended` is False."""
        stream_id = self.h2.get_next_available_stream_id()
        self.replies[stream_id] = Reply()
        self.h2.send_headers(stream_id, headers(*more, **replaced), end_stream=ended and not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=ended)
        return stream_id

    def send(self, stream_id: int, body: bytes, *, ended: bool = False) -> None:
        """Send body bytes that fit the windows, in frames of any size."""
        for at in range(0, len(body), 16384):
            self.h2.send_data(stream_id, body[at : at + 16384])
        if ended:
            self.h2.end_stream(stream_id)

    def raw(self, data: bytes) -> None:
        self._out += self.h2.data_to_send() + data

    def bytes_to_send(self) -> bytes:
        data, self._out = self._out + self.h2.data_to_send(), b""
        return data

    # -- answers ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        self._in += data
        while len(self._in) >= _HEAD_SIZE:
            size = _HEAD_SIZE + int.from_bytes(self._in[:3], "big")
            if len(self._in) < size:
                return
            frame = bytes(self._in[:size])
            del self._in[:size]
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        kind, flags, payload = frame[3], frame[4], frame[_HEAD_SIZE:]
        if kind == GOAWAY:
            last, code = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
            self.goaways.append((last, code, payload[8:]))
        elif kind == PING and not flags:
            self.pings.append(payload)
            if self.answers_pings:
                self.raw(b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + payload)
        else:
            for event in self.h2.receive_data(frame):
                self._note(event)

    def _note(self, event: events.Event) -> None:
        match event:
            case events.ResponseReceived():
                self.replies[event.stream_id].fields = _texts(event.headers)
            case events.TrailersReceived():
                self.replies[event.stream_id].trailers = _texts(event.headers)
            case events.DataReceived():
                self.replies[event.stream_id].data += event.data
                if self.takes_data and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.StreamEnded():
                self.replies[event.stream_id].has_ended = True
            case events.StreamReset():
                self.replies[event.stream_id].reset = int(event.error_code)
            case events.RemoteSettingsChanged():
                self.has_server_settings = True
            case _:
                pass


def _texts(fields: object) -> dict[str, str]:
    assert isinstance(fields, list)
    return {str(name): str(value) for name, value in fields}
