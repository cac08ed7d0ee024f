"""What is fuzzed: one function for each reader of outside bytes. It takes any bytes and raises if a promise of that
reader is broken.

The promises: a documented outcome for every input, the same outcome however the bytes are cut, and agreement with a
second reader where there is one. `run.py` feeds them from atheris, `test_corpus.py` replays what was found.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import hpack

from bridge.aws.events import envoy, http_reply
from bridge.aws.events.http_reply import HttpReply
from bridge.aws.events.reply_reader import ReplyReader
from bridge.aws.events.streamed_reply import StreamedReply
from bridge.aws.response_stream import ResponseStream
from bridge.carriers.grpc.carrier import GrpcCarrier
from bridge.carriers.http1.connection import Http1Connection
from bridge.carriers.http1.exchange import Gathering, Response
from bridge.carriers.http2.connection import WRITE_PIECE, Http2Connection
from bridge.codecs.fields import sort_fields
from bridge.codecs.grpc import GrpcReader
from bridge.codecs.grpc_web import GrpcWeb, GrpcWebReader
from bridge.config.load import parse
from bridge.config.problems import ConfigErrors
from bridge.config.target import GrpcTargetSpec
from bridge.http2.client import ClientEngine
from bridge.http2.client_limits import ClientLimits
from bridge.http2.events import ConnectionFailed, DataReceived, Event, RequestReceived
from bridge.http2.faults import ConnectionFault
from bridge.http2.hpack import Decoder
from bridge.http2.interface import EngineLimits
from bridge.http2.native import NativeEngine
from bridge.rpc.address import TcpAddress
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.envelope import EnvelopeReader, EnvelopeScanner
from bridge.rpc.errors import RpcError
from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.limits import Limits
from bridge.rpc.url import Origin
from bridge.services.descriptors import load_descriptors
from bridge.services.transcode import Transcoder
from lambda_fn import LambdaServer
from lambda_fn.events.shape import UnknownEvent
from tests.support import library
from tests.support.event_stream import event
from tests.support.fakes import reply_options
from tests.support.frames import PREFACE, REQUEST, raw
from tests.support.lambda_channel import LambdaContextDouble
from tests.support.replies import fed

Target = Callable[[bytes], None]

ROOT = Path(__file__).parents[2]
MAX_MESSAGE = 1000


# -- pieces ------------------------------------------------------------------------------------------------------------


_SCALARS: Sequence[Any] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e300,
    2**63,
    -(2**63),
    2**64,
    "",
    "x",
    "1",
    "-1",
    "1e3",
    "NaN",
    "Infinity",
    "AA==",
    "_-8",
    "a,b",
    "2026-01-01T00:00:00Z",
    "1.5s",
    "-315576000001s",
    "OPEN",
    "POST",
    "/v1/books/x",
    "2.0",
    "$default",
    "\ud800",
    "{}",
    3.4028235e38,
)


class Pieces:
    """Takes numbers and texts off the front of an input, so that one input can steer as well as feed."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def byte(self) -> int:
        found, self.left = self.left[:1], self.left[1:]
        return found[0] if found else 0

    def text(self) -> str:
        """Up to the next newline."""
        found, _, self.left = self.left.partition(b"\n")
        return found.decode("utf-8", "replace")

    def chunks(self) -> Iterator[bytes]:
        """What is left, in pieces of up to 16 bytes, whose sizes the first bytes say."""
        sizes, data = self.left[:8] or b"\0", self.left[8:]
        at = number = 0
        while at < len(data):
            size = 1 + sizes[number % len(sizes)] % 16
            yield data[at : at + size]
            at, number = at + size, number + 1

    def json(self, keys: Sequence[str], depth: int = 4) -> Any:
        """A JSON value: each byte says what comes next. Objects have these keys."""
        kind = self.byte()
        if kind < 0x60:
            return _SCALARS[kind % len(_SCALARS)]
        if kind < 0x80 or not depth:
            return self.text()
        count = kind % 8
        if kind < 0xA0:
            return [self.json(keys, depth - 1) for _ in range(count)]
        return {keys[self.byte() % len(keys)]: self.json(keys, depth - 1) for _ in range(count)}

    @property
    def whole(self) -> bytes:
        """The same bytes as `chunks`, uncut."""
        return self.left[8:]


# -- HTTP/2 ------------------------------------------------------------------------------------------------------------

_LIMITS = EngineLimits(max_concurrent_streams=4, max_header_list=2000, stream_window=500, connection_window=70_000)


def engine(data: bytes) -> None:
    """Any cut gives the same events; a connection that has failed says so once and is silent from then on."""
    pieces = Pieces(data)
    start = PREFACE + raw(4, 0, 0, b"") if pieces.byte() & 1 else b""
    whole = _events(NativeEngine(_LIMITS), [start + pieces.whole])
    cut = _events(NativeEngine(_LIMITS), [start, *pieces.chunks()])

    assert _joined(whole) == _joined(cut)
    failures = [each for each in cut if isinstance(each, ConnectionFailed)]
    assert len(failures) <= 1
    assert not failures or cut[-1] is failures[0]


def answering_engine(data: bytes) -> None:
    """A server that answers every request and credits every byte never fails, and never sends more than the client
    allows.
    """
    server = NativeEngine(_LIMITS)
    frames = Pieces(data)
    server.receive(PREFACE + raw(4, 0, 0, b""), now=0.0)
    for chunk in frames.chunks():
        for each in server.receive(chunk, now=0.0):
            if isinstance(each, RequestReceived):
                server.send(each.stream_id, head=((":status", "200"),), body=b"x" * (len(chunk) * 50))
            elif isinstance(each, DataReceived):
                server.credit(each.stream_id, len(each.data))
                if each.ended:
                    server.send(each.stream_id, end=(("grpc-status", "0"),))
        server.bytes_to_send()


def client_engine(data: bytes) -> None:
    """What a server sends: any cut gives the same events and answers, and a failed connection says so once, at last."""
    pieces = Pieces(data)
    has_settings = pieces.byte() & 1
    whole, cut = _client(has_settings), _client(has_settings)
    events = whole.receive(pieces.whole, now=0.0)
    in_pieces = [each for chunk in pieces.chunks() for each in cut.receive(chunk, now=0.0)]

    assert list(map(repr, events)) == list(map(repr, in_pieces))
    assert whole.bytes_to_send() == cut.bytes_to_send()
    failures = [each for each in events if isinstance(each, ConnectionFailed)]
    assert len(failures) <= 1
    assert not failures or events[-1] is failures[0]


def _client(has_settings: int) -> ClientEngine:
    client = ClientEngine(ClientLimits(stream_window=500, connection_window=70_000, patience=50))
    if has_settings:
        client.receive(raw(4, 0, 0, b""), now=0.0)
        for _ in range(2):
            client.send_data(client.open(REQUEST), bytes(70_000))
    return client


def _events(server: NativeEngine, chunks: Iterable[bytes]) -> list[Event]:
    return [each for chunk in chunks for each in server.receive(chunk, now=0.0)]


def _joined(events: list[Event]) -> list[str]:
    return [repr(each) for each in events]


def header_blocks(data: bytes) -> None:
    """Two header blocks on one table: what our decoder reads is what the hpack library reads."""
    pieces = Pieces(data)
    size = pieces.byte()
    ours = Decoder(max_list=1 << 16, max_metadata=1000)
    theirs = hpack.Decoder(max_header_list_size=1 << 30)
    for block in (pieces.left[:size], pieces.left[size:]):
        try:
            expected = theirs.decode(block, raw=True)
        except (hpack.HPACKError, UnicodeDecodeError):
            expected = None
        try:
            decoded = ours.decode(block)
        except ConnectionFault:
            # The library lets some blocks pass that RFC 7541 forbids; our refusal is what the next check of ours needs.
            return
        assert expected is not None, "only we could read it"
        if decoded.fault is None:
            fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in expected]
            # RFC 9113 8.2.1 allows no space around a value: ours takes it off.
            assert [(name, value.strip(" \t")) for name, value in fields] == list(decoded.fields)


# -- gRPC --------------------------------------------------------------------------------------------------------------


def envelopes(data: bytes) -> None:
    """The scanner and the reader agree on every body, in any cut."""
    pieces = Pieces(data)
    outcomes = {
        _outcome(lambda: _scanned([pieces.whole])),
        _outcome(lambda: _scanned(pieces.chunks())),
        _outcome(lambda: _cut([pieces.whole])),
        _outcome(lambda: _cut(pieces.chunks())),
    }
    assert 1 == len(outcomes), outcomes


def _scanned(chunks: Iterable[bytes]) -> int:
    scanner = EnvelopeScanner(MAX_MESSAGE)
    for chunk in chunks:
        scanner.feed(chunk)
    scanner.finish()
    return scanner.count


def _cut(chunks: Iterable[bytes]) -> int:
    reader = EnvelopeReader(MAX_MESSAGE)
    count = 0
    for chunk in chunks:
        reader.feed(chunk)
        while reader.next_envelope() is not None:
            count += 1
    reader.finish()
    return count


def _outcome(read: Callable[[], object]) -> str:
    try:
        return repr(read())
    except RpcError as error:
        return _kind(error)


def _kind(error: RpcError) -> str:
    """What does not depend on the cuts: a text may quote as much as has come."""
    return type(error).__name__


_REPLY_TYPES = (
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc",
    "text/html",
    "",
)


def trailers(data: bytes) -> None:
    """A gRPC-Web reply ends in one status, the same in any cut; the fast path says what the full reader says."""
    pieces = Pieces(data)
    choice = pieces.byte()
    headers = [("content-type", _REPLY_TYPES[choice % len(_REPLY_TYPES)])]
    if choice & 0x80:
        headers += [("grpc-status", pieces.text()), ("grpc-message", pieces.text())]
    status = 200 if choice & 0x40 else 100 + pieces.byte() * 2
    options = reply_options(accept_encoding="gzip", max_response=MAX_MESSAGE)

    def reader() -> GrpcWebReader:
        return GrpcWebReader(status, tuple(headers), options)

    whole = _events_of(reader(), [pieces.whole])
    assert whole == _events_of(reader(), pieces.chunks())
    glanced = GrpcWeb().read(status, tuple(headers), pieces.whole, options)
    if not isinstance(glanced, GrpcWebReader):
        assert whole == list(map(repr, cast("list[ResponseEvent]", glanced)))


def frames_without_trailers(data: bytes) -> None:
    """A reply of payload grpc, likewise."""
    pieces = Pieces(data)
    headers = (("content-type", "application/grpc"), ("grpc-status", pieces.text()))

    def reader() -> GrpcReader:
        return GrpcReader(200, headers, reply_options(accept_encoding="gzip", max_response=MAX_MESSAGE))

    assert _events_of(reader(), [pieces.whole]) == _events_of(reader(), pieces.chunks())


def _events_of(reader: GrpcWebReader | GrpcReader, chunks: Iterable[bytes]) -> list[str]:
    """What came out, the failure last. At most one Trailers, and nothing behind it."""
    events: list[ResponseEvent] = []
    try:
        events += reader.open()
        for chunk in chunks:
            events += fed(reader, chunk)
        events += reader.finish()
    except RpcError as error:
        assert not any(isinstance(each, Trailers) for each in events)
        return [*map(repr, events), _kind(error)]
    assert isinstance(events[-1], Trailers)
    assert 1 == sum(isinstance(each, Trailers) for each in events)
    return [*map(repr, events)]


# -- AWS ---------------------------------------------------------------------------------------------------------------


def event_stream(data: bytes) -> None:
    """Any cut gives the same bytes and the same end, with right checksums and with wrong ones."""
    pieces = Pieces(data)
    if pieces.byte() & 1:
        headers = {
            ":message-type": pieces.text(),
            ":event-type": pieces.text(),
            ":exception-type": pieces.text(),
        }
        wire = event({name: value[:200] for name, value in headers.items()}, pieces.left) * 2
    else:
        wire = pieces.left
    cut = Pieces(b"\x03\x00\x0f\x07\x01\x09\x05\x0b" + wire)

    assert _stream_outcome([wire]) == _stream_outcome(cut.chunks())


def _stream_outcome(chunks: Iterable[bytes]) -> tuple[bytes, str]:
    stream = ResponseStream(function="f")
    written = b""
    for chunk in chunks:
        parts, failure = stream.feed(chunk)
        written += b"".join(parts)
        if failure is not None:
            return written, _kind(failure)
    return written, _outcome(stream.finish)


_DECODERS = (http_reply.decode_reply, envoy.decode_envoy_reply)


def replies(data: bytes) -> None:
    """A reply is read or refused; a reader that has learned from others says the same."""
    pieces = Pieces(data)
    decode = _DECODERS[pieces.byte() % len(_DECODERS)]
    payload = pieces.left
    expected = _outcome(lambda: _valid(decode(payload)))
    reader = ReplyReader(decode)
    for known in (
        payload,
        b'{"statusCode":200,"headers":{},"body":"AAAA","isBase64Encoded":true}',
        payload,
    ):
        _outcome(partial(reader.read, known))
    assert expected == _outcome(lambda: _valid(reader.read(payload)))


def _valid(reply: HttpReply) -> HttpReply:
    assert 100 <= reply.http_status <= 599
    for name, value in sort_fields(reply.headers).metadata:
        assert name == name.lower()
        assert not set(value) & set("\r\n\0"), value
    return reply


def streamed_replies(data: bytes) -> None:
    """The head of a streamed reply is found wherever the cuts are."""
    pieces = Pieces(data)
    assert _streamed([pieces.whole]) == _streamed(pieces.chunks())


def _streamed(chunks: Iterable[bytes]) -> tuple[bytes, str]:
    reply = StreamedReply()
    body = b""
    try:
        for chunk in chunks:
            body += reply.feed(chunk)
        body += reply.finish()
    except RpcError as error:
        return body, _kind(error)
    assert reply.head is not None
    return body, repr((reply.head.http_status, reply.head.headers))


def http_responses(data: bytes) -> None:
    """An HTTP/1.1 response ends in a whole response or in one documented error, in any cut."""
    pieces = Pieces(data)
    assert _response([pieces.whole]) == _response(pieces.chunks())


class _Transport:
    def write(self, data: bytes) -> None: ...
    def writelines(self, parts: object) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> None:
        return None


class _Owner:
    origin = Origin("http", "upstream.test", 80)

    def opened(self, connection: Http1Connection) -> None: ...
    def keeps_alive(self, seconds: float) -> None: ...
    def released(self, connection: Http1Connection) -> None: ...
    def lost(self, connection: Http1Connection) -> None: ...


def _response(chunks: Iterable[bytes]) -> str:
    loop = _loop()
    connection = Http1Connection(_Owner(), _sockets()[0], memoryview(bytearray(4096)))
    connection.connection_made(cast("Any", _Transport()))
    answer: asyncio.Future[Response] = loop.create_future()
    assert connection.start(Gathering(answer, MAX_MESSAGE), b"POST / HTTP/1.1\r\n\r\n", b"")
    for chunk in chunks:
        for at in range(0, len(chunk), 4096):
            part = chunk[at : at + 4096]
            connection.get_buffer(-1)[: len(part)] = part
            connection.buffer_updated(len(part))
    connection.eof_received()
    connection.connection_lost(None)
    assert answer.done()
    error = answer.exception()
    if error is None:
        return repr(answer.result())
    assert isinstance(error, RpcError), error
    return "refused"  # which of two faults is seen first may depend on the cuts


def native_replies(data: bytes) -> None:
    """A native server's reply ends in Trailers or in one documented error, behind the same messages in any cut."""
    pieces = Pieces(data)
    assert _native_reply([pieces.whole]) == _native_reply(pieces.chunks())


def _native_reply(chunks: Iterable[bytes]) -> list[str]:
    return _loop().run_until_complete(_reply_of(list(chunks)))


async def _reply_of(chunks: list[bytes]) -> list[str]:
    carrier = GrpcCarrier(GrpcTargetSpec(TcpAddress("upstream.test", 1)), limits=Limits(max_response=MAX_MESSAGE))
    connection = Http2Connection(carrier.pool)
    connection.connection_made(cast("Any", _Transport()))
    connection.data_received(raw(4, 0, 0, b""))
    carrier.pool.adopt(connection)
    account = OpenAccount(Buffers(1 << 30))
    call = carrier.start("/a.B/C", (), account=account, timeout=None)
    await call.connect()
    call.half_close()
    await asyncio.sleep(0)  # the request is written
    for chunk in chunks:
        connection.data_received(chunk)
        for _ in range(len(chunk) // WRITE_PIECE + 1):
            await asyncio.sleep(0)
    connection.eof_received()
    connection.connection_lost(None)
    found: list[str] = []
    try:
        while not (found and found[-1].startswith("Trailers")):
            found += map(repr, await call.receive())
    except RpcError as error:
        found.append(_kind(error))
    call.finish()
    await carrier.close()
    account.close()
    assert not account.buffers.held
    return found


@cache
def _sockets() -> tuple[socket.socket, socket.socket]:
    """For what is asked of a connection's socket when it has closed."""
    return socket.socketpair()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


# -- JSON and REST -----------------------------------------------------------------------------------------------------

_ECHO = "/orders.v1.Orders/Echo"


@cache
def _transcoder() -> Transcoder:
    return Transcoder(load_descriptors(ROOT / "tests" / "crossing" / "orders"))


_EMPTY_PATH = re.compile(rb'"changed":"(?:,|[^"]*,[,"])').search


def json_of_messages(data: bytes) -> None:
    """Any message becomes JSON that is read back as the same message, or is refused."""
    try:
        text = _transcoder().to_json(_ECHO, data)
    except RpcError:
        return
    told = json.loads(text)
    if _EMPTY_PATH(text):
        return  # protobuf prints a field mask's empty path, which no reader takes
    again = _transcoder().from_json(_ECHO, text)
    # A large message is printed in slices, so the order of its fields may differ.
    assert told == json.loads(_transcoder().to_json(_ECHO, again))


@cache
def _order_keys() -> Sequence[str]:
    """The names of all fields, and of what well-known types have in JSON."""
    fields = load_descriptors(ROOT / "tests" / "crossing" / "orders").message("orders.v1.Order").fields
    names = [name for field in fields for name in (field.json_name, field.name)]
    return (*names, "@type", "value", "seconds", "nanos", "paths", "x", "")


def messages_of_json(data: bytes) -> None:
    """Any JSON becomes a message or is refused. The message has a JSON form again, unless a field mask has a letter
    that has no lower case: protobuf's reader takes it, and its writer does not.
    """
    text = json.dumps(Pieces(data[1:]).json(_order_keys())).encode() if data[:1] == b"\1" else data
    try:
        message = _transcoder().from_json(_ECHO, text)
    except RpcError:
        return
    if any(letter.lower().isupper() for letter in message.decode("utf-8", "ignore")):
        return
    _transcoder().to_json(_ECHO, message)


_VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "BREW")
_TYPES = (
    "application/json",
    "application/proto",
    "application/connect+json",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "text/plain",
)


@cache
def _server() -> LambdaServer:
    server = LambdaServer()
    library.add(server)
    return server


def rest(data: bytes) -> None:
    """A function answers any HTTP request with a whole HTTP reply: REST, Connect and gRPC-Web, in each of AWS's
    events.
    """
    pieces = Pieces(data)
    choice = pieces.byte()
    path, query = pieces.text(), pieces.text()
    headers = {"content-type": _TYPES[pieces.byte() % len(_TYPES)]}
    for _ in range(choice >> 6):
        headers[pieces.text().lower()] = pieces.text()
    found: dict[str, Any] = {
        "headers": headers,
        "body": b64encode(pieces.left).decode() if choice & 0x20 else pieces.left.decode("utf-8", "replace"),
        "isBase64Encoded": choice & 0x20 != 0,
    }
    verb = _VERBS[choice % len(_VERBS)]
    if choice & 0x08:
        context = {
            "http": {"method": verb, "path": path, "sourceIp": "192.0.2.7"},
            "stage": "$default",
        }
        found |= {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "requestContext": context,
        }
    else:
        names = {query: query} if query else None
        found |= {
            "httpMethod": verb,
            "path": path,
            "queryStringParameters": names,
            "requestContext": {"stage": "x"},
        }
    _answered(found)


_EVENT_KEYS = (
    "version",
    "rawPath",
    "rawQueryString",
    "requestContext",
    "http",
    "method",
    "path",
    "sourceIp",
    "stage",
    "httpMethod",
    "headers",
    "multiValueHeaders",
    "body",
    "isBase64Encoded",
    "queryStringParameters",
    "multiValueQueryStringParameters",
    "cookies",
    "elb",
    "authentication",
    "clientCert",
    "identity",
    "timeEpoch",
    "requestTimeEpoch",
    "content-type",
    "grpc-timeout",
    "domainName",
    "resource",
    "pathParameters",
    "proxy",
)
_FORMS: Sequence[dict[str, Any]] = (
    {},
    {"version": "2.0", "rawPath": "/v1/books/x", "requestContext": {"http": {"method": "GET", "path": "/v1/books/x"}}},
    {
        "httpMethod": "POST",
        "path": "/library.v1.Library/GetBook",
        "headers": {"content-type": "application/json"},
        "requestContext": {},
    },
    {"httpMethod": "GET", "path": "/v1/books/x", "requestContext": {"elb": {}}},
)


def events(data: bytes) -> None:
    """Any JSON as an event, and such as are nearly right: a reply, or UnknownEvent."""
    pieces = Pieces(data)
    found, form = pieces.json(_EVENT_KEYS), _FORMS[pieces.byte() % len(_FORMS)]
    _answered({**form, **found} if isinstance(found, dict) else found)


def _answered(found: Any) -> None:
    try:
        reply = _server().handler(found, LambdaContextDouble())
    except UnknownEvent:
        return
    assert isinstance(reply, dict)
    assert 100 <= reply["statusCode"] <= 599
    json.dumps(reply)


# -- configuration -----------------------------------------------------------------------------------------------------


def configuration(data: bytes) -> None:
    """Any text is a configuration, or is refused with its problems."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        parse(text, file="bridge.yaml", folder=ROOT, environ={"HOME": "/root", "EMPTY": ""})
    except ConfigErrors as errors:
        if not errors.problems or not all(problem.message for problem in errors.problems):
            raise AssertionError("refused without saying why") from errors


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "engine": engine,
        "answering-engine": answering_engine,
        "client-engine": client_engine,
        "native-replies": native_replies,
        "header-blocks": header_blocks,
        "envelopes": envelopes,
        "trailers": trailers,
        "frames-without-trailers": frames_without_trailers,
        "event-stream": event_stream,
        "replies": replies,
        "streamed-replies": streamed_replies,
        "http-responses": http_responses,
        "json-of-messages": json_of_messages,
        "messages-of-json": messages_of_json,
        "rest": rest,
        "events": events,
        "configuration": configuration,
    }
)
"""By the name of its folder in corpus/."""
