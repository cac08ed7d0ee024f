from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from grpc_health.v1 import health_pb2

from bridge.rpc.call import Call
from bridge.rpc.envelope import COMPRESSED, envelope
from bridge.rpc.errors import MalformedRequest, MessageTooLarge, UnsupportedCompression
from bridge.rpc.events import EMPTY_HEADERS
from bridge.rpc.limits import Limits
from bridge.services import exchange
from tests.support.served import StreamedCall

REQUEST = health_pb2.HealthCheckRequest(service="a.B").SerializeToString()


async def compressed_call(message: bytes, encoding: str | None, *, limits: Limits | None = None) -> StreamedCall:
    metadata = () if encoding is None else (("grpc-encoding", encoding),)
    call = StreamedCall("/a.B/C", metadata=metadata, limits=limits)
    await call.push_envelope(envelope(message, flags=COMPRESSED))
    return call


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_requests_are_inflated(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    """A client that compresses its requests is understood."""
    call = await compressed_call(compress(REQUEST), encoding)

    assert "a.B" == (await exchange.receive(call, health_pb2.HealthCheckRequest)).service


async def test_the_end_of_the_request_is_none() -> None:
    """After the last message there is None, again and again."""
    call = StreamedCall("/a.B/C")
    await call.end()

    assert [await exchange.receive(call, health_pb2.HealthCheckRequest) for _ in range(2)] == [
        None,
        None,
    ]


@pytest.mark.parametrize("encoding", [None, "identity"])
async def test_a_compressed_flag_without_an_encoding_is_malformed(encoding: str | None) -> None:
    """A set flag under no or identity encoding is an error of the sender."""
    call = await compressed_call(REQUEST, encoding)

    with pytest.raises(MalformedRequest):
        await exchange.receive(call, health_pb2.HealthCheckRequest)


async def test_an_unknown_encoding_is_refused_with_those_that_work() -> None:
    """The refusal lists what the bridge can undo."""
    call = await compressed_call(REQUEST, "snappy")

    with pytest.raises(UnsupportedCompression, match="identity,deflate,gzip"):
        await exchange.receive(call, health_pb2.HealthCheckRequest)


async def test_broken_compression_is_malformed() -> None:
    """Bytes that are no gzip stream are the client's fault."""
    call = await compressed_call(b"not gzip", "gzip")

    with pytest.raises(MalformedRequest):
        await exchange.receive(call, health_pb2.HealthCheckRequest)


async def test_a_small_message_may_not_inflate_without_bound() -> None:
    """The limit holds for what a message becomes, not only for what was sent."""
    bomb = gzip.compress(bytes(100_000))
    call = await compressed_call(bomb, "gzip", limits=Limits(max_request=1000))

    with pytest.raises(MessageTooLarge):
        await exchange.receive(call, health_pb2.HealthCheckRequest)


async def test_sending_waits_for_the_clients_window() -> None:
    """A full window holds the sender until it opens."""
    call = StreamedCall("/a.B/C")
    call.is_window_open = False
    call.serve(_send_two)
    before = len(await call.settled())
    await call.open_window()

    assert [1, 2] == [before, len(await call.messages(2))]


async def _send_two(call: Call) -> None:
    call.send(EMPTY_HEADERS)
    for _ in range(2):
        await exchange.send(call, health_pb2.HealthCheckResponse())
