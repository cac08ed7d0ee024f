"""Servicer methods over plain bytes, each ending its call in its own way; sync ones and async ones.

`add(server, METHODS)` registers them as service `test.Test` on any server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import grpc

Method = tuple[str, Callable[..., Any]]
"""Its kind, as in `grpc.unary_unary_rpc_method_handler`, and its behaviour."""

INITIAL = (("initial", "1"), ("initial", "2, 3"), ("initial-bin", b"\x00\xff"), ("empty", ""))
TRAILING = (("trailing", "v"), ("trailing-bin", b"\x01"), ("trailing-bin", b"\x02"))


class NotBytes(Exception):
    pass


def deserialize(data: bytes) -> bytes:
    if data == b"undecodable":
        raise NotBytes("undecodable")
    return data


def serialize(message: Any) -> bytes:
    if not isinstance(message, bytes):
        raise NotBytes("unencodable")
    return message


def handlers(methods: Mapping[str, Method]) -> dict[str, Any]:
    return {
        name: getattr(grpc, f"{kind}_rpc_method_handler")(behaviour, deserialize, serialize)
        for name, (kind, behaviour) in methods.items()
    }


def add(server: Any, methods: Mapping[str, Method]) -> None:
    """Register as generated code does: by both calls."""
    made = handlers(methods)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", made),))
    server.add_registered_method_handlers("test.Test", made)


def _echo(request: bytes, context: Any) -> bytes:
    return b"echo " + request


def _metadata(request: bytes, context: Any) -> bytes:
    context.send_initial_metadata(INITIAL)
    context.set_trailing_metadata(TRAILING)
    seen = [pair for pair in context.invocation_metadata() if pair.key.startswith("x-")]
    return repr([tuple(pair) for pair in seen]).encode()


def _raises(request: bytes, context: Any) -> bytes:
    raise ValueError("boom ☃ 100%")


def _raises_with_code(request: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details("not here")
    context.set_trailing_metadata(TRAILING)
    raise ValueError("boom")


def _code_and_message(request: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details("né 100%")
    return b"reply"


def _integer_code(request: bytes, context: Any) -> bytes:
    context.set_code(5)
    return b"reply"


def _returns_none(request: bytes, context: Any) -> None:
    return None


def _aborts(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata(TRAILING)
    context.abort(grpc.StatusCode.ABORTED, "as asked")
    return b"never"


def _aborts_after_metadata(request: bytes, context: Any) -> bytes:
    context.send_initial_metadata(INITIAL)
    context.abort(grpc.StatusCode.ABORTED, "as asked")
    return b"never"


def _swallows_abort(request: bytes, context: Any) -> bytes:
    with suppress(Exception):
        context.abort(grpc.StatusCode.ABORTED, "as asked")
    return b"reply"


def _aborts_with_ok(request: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.OK, "ignored")
    return b"never"


class RichStatus:
    code = grpc.StatusCode.FAILED_PRECONDITION
    details = "rich"
    trailing_metadata = (("grpc-status-details-bin", b"\x08\x09\x12\x04rich"),)


def _aborts_with_status(request: bytes, context: Any) -> bytes:
    context.abort_with_status(RichStatus())
    return b"never"


def _cancels(request: bytes, context: Any) -> bytes:
    context.cancel()
    return b"reply"


def _bad_initial(request: bytes, context: Any) -> bytes:
    context.send_initial_metadata([("name", "a\nb")])
    return b"reply"


def _bad_name(request: bytes, context: Any) -> bytes:
    context.send_initial_metadata([("Name", "a")])
    return b"reply"


def _bad_trailing(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata([("name", "é")])
    return b"reply"


def _initial_twice(request: bytes, context: Any) -> bytes:
    context.send_initial_metadata([("name", "1")])
    context.send_initial_metadata([("name", "2")])
    return b"reply"


def _stream(request: bytes, context: Any) -> Iterator[bytes]:
    context.set_trailing_metadata(TRAILING)
    yield b"1"
    yield b""
    yield b"3"


def _stream_nothing(request: bytes, context: Any) -> Iterator[bytes]:
    yield from ()


def _stream_with_none(request: bytes, context: Any) -> Iterator[Any]:
    yield b"1"
    yield None
    yield b"2"


def _stream_raises(request: bytes, context: Any) -> Iterator[bytes]:
    yield b"1"
    raise ValueError("midway")


def _stream_raises_at_once(request: bytes, context: Any) -> Iterator[bytes]:
    raise ValueError("at once")


def _stream_unencodable(request: bytes, context: Any) -> Iterator[Any]:
    yield b"1"
    yield 5


def _stream_aborts(request: bytes, context: Any) -> Iterator[bytes]:
    yield b"1"
    context.abort(grpc.StatusCode.ABORTED, "midway")


def _stream_code(request: bytes, context: Any) -> Iterator[bytes]:
    context.set_code(grpc.StatusCode.OUT_OF_RANGE)
    yield b"1"


def _gather(requests: Iterator[bytes], context: Any) -> bytes:
    return b"+".join(requests)


def _gather_none(requests: Iterator[bytes], context: Any) -> bytes:
    return b"none read"


def _each(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield b"got " + request


SYNC: dict[str, Method] = {
    "Echo": ("unary_unary", _echo),
    "Metadata": ("unary_unary", _metadata),
    "Raises": ("unary_unary", _raises),
    "RaisesWithCode": ("unary_unary", _raises_with_code),
    "CodeAndMessage": ("unary_unary", _code_and_message),
    "IntegerCode": ("unary_unary", _integer_code),
    "ReturnsNone": ("unary_unary", _returns_none),
    "Aborts": ("unary_unary", _aborts),
    "AbortsAfterMetadata": ("unary_unary", _aborts_after_metadata),
    "SwallowsAbort": ("unary_unary", _swallows_abort),
    "AbortsWithOk": ("unary_unary", _aborts_with_ok),
    "AbortsWithStatus": ("unary_unary", _aborts_with_status),
    "Cancels": ("unary_unary", _cancels),
    "BadInitial": ("unary_unary", _bad_initial),
    "BadName": ("unary_unary", _bad_name),
    "BadTrailing": ("unary_unary", _bad_trailing),
    "InitialTwice": ("unary_unary", _initial_twice),
    "Stream": ("unary_stream", _stream),
    "StreamNothing": ("unary_stream", _stream_nothing),
    "StreamWithNone": ("unary_stream", _stream_with_none),
    "StreamRaises": ("unary_stream", _stream_raises),
    "StreamRaisesAtOnce": ("unary_stream", _stream_raises_at_once),
    "StreamUnencodable": ("unary_stream", _stream_unencodable),
    "StreamAborts": ("unary_stream", _stream_aborts),
    "StreamCode": ("unary_stream", _stream_code),
    "Gather": ("stream_unary", _gather),
    "GatherNone": ("stream_unary", _gather_none),
    "Each": ("stream_stream", _each),
}


async def _async_echo(request: bytes, context: Any) -> bytes:
    return b"echo " + request


async def _async_metadata(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata(INITIAL)
    context.set_trailing_metadata(TRAILING)
    seen = [pair for pair in context.invocation_metadata() if pair.key.startswith("x-")]
    return repr([tuple(pair) for pair in seen]).encode()


async def _async_raises(request: bytes, context: Any) -> bytes:
    raise ValueError("boom ☃ 100%")


async def _async_raises_with_code(request: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_trailing_metadata(TRAILING)
    raise ValueError("boom")


async def _async_integer_code(request: bytes, context: Any) -> bytes:
    context.set_code(5)
    raise ValueError("boom")


async def _async_returns_none(request: bytes, context: Any) -> None:
    return None


async def _async_aborts(request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.ABORTED, "as asked", TRAILING)
    return b"never"


async def _async_swallows_abort(request: bytes, context: Any) -> bytes:
    with suppress(grpc.aio.AbortError):
        await context.abort(grpc.StatusCode.ABORTED, "as asked")
    return b"reply"


async def _async_aborts_twice(request: bytes, context: Any) -> bytes:
    try:
        await context.abort(grpc.StatusCode.ABORTED, "as asked")
    except grpc.aio.AbortError:
        await context.abort(grpc.StatusCode.DATA_LOSS, "again")
    return b"never"


async def _async_aborts_with_status(request: bytes, context: Any) -> bytes:
    await context.abort_with_status(RichStatus())
    return b"never"


async def _async_bad_initial(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata([("name", "a\nb")])
    return b"reply"


async def _async_bad_trailing(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata([("name", 5)])
    return b"reply"


async def _async_initial_twice(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata([("name", "1")])
    await context.send_initial_metadata([("name", "2")])
    return b"reply"


async def _async_late_compression(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata(())
    context.set_compression(grpc.Compression.Gzip)
    return b"reply"


async def _async_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    context.set_trailing_metadata(TRAILING)
    yield b"1"
    yield b""
    yield b"3"


async def _async_stream_written(request: bytes, context: Any) -> None:
    await context.write(b"1")
    await context.write(b"2")


async def _async_stream_raises(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"1"
    raise ValueError("midway")


async def _async_stream_unencodable(request: bytes, context: Any) -> AsyncIterator[Any]:
    yield b"1"
    yield 5


async def _async_stream_aborts(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"1"
    await context.abort(grpc.StatusCode.ABORTED, "midway")


async def _async_gather(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"+".join([request async for request in requests])


async def _async_gather_read(requests: AsyncIterator[bytes], context: Any) -> bytes:
    found = []
    while (request := await context.read()) is not grpc.aio.EOF:
        found.append(request)
    return b"+".join(found)


async def _async_each(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"got " + request


ASYNC: dict[str, Method] = {
    "Echo": ("unary_unary", _async_echo),
    "Metadata": ("unary_unary", _async_metadata),
    "Raises": ("unary_unary", _async_raises),
    "RaisesWithCode": ("unary_unary", _async_raises_with_code),
    "IntegerCode": ("unary_unary", _async_integer_code),
    "ReturnsNone": ("unary_unary", _async_returns_none),
    "Aborts": ("unary_unary", _async_aborts),
    "SwallowsAbort": ("unary_unary", _async_swallows_abort),
    "AbortsTwice": ("unary_unary", _async_aborts_twice),
    "AbortsWithStatus": ("unary_unary", _async_aborts_with_status),
    "BadInitial": ("unary_unary", _async_bad_initial),
    "BadTrailing": ("unary_unary", _async_bad_trailing),
    "InitialTwice": ("unary_unary", _async_initial_twice),
    "LateCompression": ("unary_unary", _async_late_compression),
    "Stream": ("unary_stream", _async_stream),
    "StreamWritten": ("unary_stream", _async_stream_written),
    "StreamRaises": ("unary_stream", _async_stream_raises),
    "StreamUnencodable": ("unary_stream", _async_stream_unencodable),
    "StreamAborts": ("unary_stream", _async_stream_aborts),
    "Gather": ("stream_unary", _async_gather),
    "GatherRead": ("stream_unary", _async_gather_read),
    "Each": ("stream_stream", _async_each),
}
