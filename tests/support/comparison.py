"""LambdaServer behind the bridge against grpcio's own servers: what is compared, and the table that says how it came
out.

The servicers are those of `behaviours`, and the features below that take interceptors, time or state.
`SYNC_SERVER.handler` and `ASYNC_SERVER.handler` are what the local Lambda runs; `add_sync` and `add_async` register the
same on grpcio's servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from lambda_fn import LambdaServer
from tests.support import behaviours
from tests.support.behaviours import Method
from tests.support.lambda_channel import Outcome, Pairs

_trail: ContextVar[tuple[str, ...]] = ContextVar("trail", default=())
_callbacks: list[str] = []


# -- interceptors --


def _denies(details: grpc.HandlerCallDetails) -> bool:
    return any(name == "x-deny" for name, _ in details.invocation_metadata)


def _rebuilt(handler: Any, wrap: Callable[[Any], Any]) -> Any:
    """The handler with its behaviour wrapped; only those that stream responses from one request are."""
    if handler is None or handler.request_streaming or not handler.response_streaming:
        return handler
    return grpc.unary_stream_rpc_method_handler(
        wrap(handler.unary_stream), handler.request_deserializer, handler.response_serializer
    )


class Trail(grpc.ServerInterceptor):
    """Leaves its name in a context variable, then calls on."""

    def __init__(self, name: str) -> None:
        self._name = name

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        _trail.set((*_trail.get(), self._name))
        return continuation(handler_call_details)


class Guard(grpc.ServerInterceptor):
    """Answers by itself where `x-deny` says so, and wraps the streams of methods called …Wrapped."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if _denies(handler_call_details):
            return grpc.unary_unary_rpc_method_handler(_deny)
        handler = continuation(handler_call_details)
        if not handler_call_details.method.endswith("Wrapped"):
            return handler
        return _rebuilt(handler, _wrapped)


def _deny(request: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "denied")


def _wrapped(behaviour: Any) -> Any:
    def stream(request: Any, context: Any) -> Iterator[Any]:
        yield b"before"
        yield from behaviour(request, context)
        yield b"after"

    return stream


class AsyncTrail(grpc.aio.ServerInterceptor):
    def __init__(self, name: str) -> None:
        self._name = name

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        _trail.set((*_trail.get(), self._name))
        return await continuation(handler_call_details)


class AsyncGuard(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if _denies(handler_call_details):
            return grpc.unary_unary_rpc_method_handler(_deny_async)
        handler = await continuation(handler_call_details)
        if not handler_call_details.method.endswith("Wrapped"):
            return handler
        return _rebuilt(handler, _wrapped_async)


async def _deny_async(request: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "denied")


def _wrapped_async(behaviour: Any) -> Any:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield b"before"
        async for response in behaviour(request, context):
            yield response
        yield b"after"

    return stream


SYNC_INTERCEPTORS = (Trail("outer"), Guard(), Trail("inner"))
ASYNC_INTERCEPTORS = (AsyncTrail("outer"), AsyncGuard(), AsyncTrail("inner"))


# -- methods, sync and async --


def _as_async(behaviour: Callable[[bytes, Any], bytes]) -> Callable[[bytes, Any], Any]:
    async def answer(request: bytes, context: Any) -> bytes:
        return behaviour(request, context)

    return answer


def _seen_trail(request: bytes, context: Any) -> bytes:
    return ",".join(_trail.get()).encode()


def _time_remaining(request: bytes, context: Any) -> bytes:
    remaining = context.time_remaining()
    return b"none" if remaining is None else b"about %d s" % round(remaining / 5) * 5


def _peer(request: bytes, context: Any) -> bytes:
    address: str = context.peer()
    return address.rpartition(":")[0].encode()


def _auth_context(request: bytes, context: Any) -> bytes:
    found = context.auth_context()
    return repr((sorted(found), context.peer_identity_key(), context.peer_identities())).encode()


def _names(request: bytes, context: Any) -> bytes:
    return repr(sorted({name for name, _ in context.invocation_metadata()})).encode()


def _is_active(request: bytes, context: Any) -> bytes:
    return repr(context.is_active()).encode()


def _add_callback(request: bytes, context: Any) -> bytes:
    called = repr(_callbacks).encode()
    context.add_callback(lambda: _callbacks.append("called"))
    return called


def _compresses(request: bytes, context: Any) -> bytes:
    context.set_compression(grpc.Compression.Gzip)
    return bytes(10_000)


def _set_trailing_only(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata(behaviours.TRAILING)
    context.set_code(grpc.StatusCode.DATA_LOSS)
    context.set_details("with trailing metadata")
    return b""


def _rich() -> Any:
    return rpc_status.to_status(status_pb2.Status(code=code_pb2.NOT_FOUND, message="rich"))


def _rich_status(request: bytes, context: Any) -> bytes:
    context.abort_with_status(_rich())
    return b"never"


async def _rich_status_async(request: bytes, context: Any) -> bytes:
    await context.abort_with_status(_rich())
    return b"never"


def _sleeps(request: bytes, context: Any) -> bytes:
    time.sleep(1)
    return b"too late"


async def _sleeps_async(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(1)
    return b"too late"


def _stream(request: bytes, context: Any) -> Iterator[bytes]:
    yield b"1"
    yield b"2"


async def _stream_async(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"1"
    yield b"2"


_BOTH = {
    "Trail": _seen_trail,
    "TimeRemaining": _time_remaining,
    "Peer": _peer,
    "AuthContext": _auth_context,
    "Names": _names,
    "Compresses": _compresses,
    "CodeAndTrailing": _set_trailing_only,
}

SYNC: dict[str, Method] = {
    **behaviours.SYNC,
    **{name: ("unary_unary", behaviour) for name, behaviour in _BOTH.items()},
    "IsActive": ("unary_unary", _is_active),
    "AddCallback": ("unary_unary", _add_callback),
    "GrpcioStatus": ("unary_unary", _rich_status),
    "Sleeps": ("unary_unary", _sleeps),
    "StreamWrapped": ("unary_stream", _stream),
}

ASYNC: dict[str, Method] = {
    **behaviours.ASYNC,
    **{name: ("unary_unary", _as_async(behaviour)) for name, behaviour in _BOTH.items()},
    "GrpcioStatus": ("unary_unary", _rich_status_async),
    "Sleeps": ("unary_unary", _sleeps_async),
    "StreamWrapped": ("unary_stream", _stream_async),
}


class Anything(grpc.GenericRpcHandler):
    """Finds its methods itself: whatever is called on generic.Any."""

    def __init__(self, behaviour: Callable[[bytes, Any], Any]) -> None:
        self._behaviour = behaviour

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if not handler_call_details.method.startswith("/generic.Any/"):
            return None
        return grpc.unary_unary_rpc_method_handler(self._behaviour)


def _generic(request: bytes, context: Any) -> bytes:
    return b"generic " + request


def add_sync(server: Any) -> None:
    behaviours.add(server, SYNC)
    server.add_generic_rpc_handlers((Anything(_generic),))


def add_async(server: Any) -> None:
    behaviours.add(server, ASYNC)
    server.add_generic_rpc_handlers((Anything(_as_async(_generic)),))


SYNC_SERVER = LambdaServer(interceptors=SYNC_INTERCEPTORS)
add_sync(SYNC_SERVER)
sync_handler = SYNC_SERVER.handler

ASYNC_SERVER = LambdaServer(interceptors=ASYNC_INTERCEPTORS)
add_async(ASYNC_SERVER)
async_handler = ASYNC_SERVER.handler


# -- what is compared --


@dataclass(frozen=True)
class Sent:
    """A call."""

    method: str
    messages: tuple[bytes, ...] = (b"request",)
    metadata: Pairs = ()
    timeout: float = 20.0

    @property
    def path(self) -> str:
        return self.method if self.method.startswith("/") else f"/test.Test/{self.method}"


@dataclass(frozen=True)
class Row:
    """A feature, the calls that show it, and how LambdaServer's outcome differs from grpcio's."""

    feature: str
    sync: tuple[Sent, ...] = ()
    asynchronous: tuple[Sent, ...] = ()
    difference: str = ""
    """With its reason. Empty: none."""
    expected: Callable[[Outcome], Outcome] = lambda outcome: outcome
    """From grpcio's outcome to the one that LambdaServer has to have."""
    is_as_grpcio_in_duplex: bool = False
    """Whether nothing differs in full duplex. Otherwise the same differs."""

    @property
    def difference_in_duplex(self) -> str:
        return "" if self.is_as_grpcio_in_duplex else self.difference

    def expected_in_duplex(self, outcome: Outcome) -> Outcome:
        return outcome if self.is_as_grpcio_in_duplex else self.expected(outcome)


METADATA: Pairs = (
    ("x-one", "1"),
    ("x-one", "2, 3"),
    ("x-data-bin", b"\x00\x01\xff"),
    ("x-empty", ""),
)


def _calls(*methods: str) -> tuple[Sent, ...]:
    return tuple(Sent(method, metadata=METADATA) for method in methods)


def _with_details(details: str) -> Callable[[Outcome], Outcome]:
    return lambda outcome: replace(outcome, details=details)


_SEVERAL = (b"1", b"", b"3")
_SPOILT = (b"1", b"undecodable", b"3")
_TOO_LARGE = Sent("Echo", (bytes(4_300_000),))
_NO_REQUEST = '"/test.Test/Echo" requires exactly one request message.'

ROWS = (
    Row("unary", _calls("Echo", "ReturnsNone"), _calls("Echo", "ReturnsNone")),
    Row(
        "server streaming",
        _calls("Stream", "StreamNothing", "StreamWithNone", "StreamUnencodable"),
        _calls("Stream", "StreamWritten", "StreamUnencodable"),
    ),
    Row(
        "client streaming",
        tuple(Sent(name, messages) for name in ("Gather", "GatherNone") for messages in (_SEVERAL, _SPOILT, ())),
        tuple(Sent(name, messages) for name in ("Gather", "GatherRead") for messages in (_SEVERAL, _SPOILT, ())),
        "Replies and order are the same. The requests arrive together when the client half-closes, "
        "since Lambda takes its input whole.",
        is_as_grpcio_in_duplex=True,
    ),
    Row(
        "bidirectional streaming",
        tuple(Sent("Each", messages) for messages in (_SEVERAL, _SPOILT, ())),
        tuple(Sent("Each", messages) for messages in (_SEVERAL, _SPOILT, ())),
        "The call is half duplex, as above. A client that waits for an answer before it ends its side gets "
        "UNIMPLEMENTED after `half_close`.",
        is_as_grpcio_in_duplex=True,
    ),
    Row("handlers registered by name", _calls("Echo"), _calls("Echo")),
    Row("generic handlers", _calls("/generic.Any/Thing"), _calls("/generic.Any/Thing")),
    Row("methods that are not there", _calls("Unknown"), _calls("Unknown")),
    Row(
        "a request that does not decode",
        (Sent("Echo", (b"undecodable",)),),
        (Sent("Echo", (b"undecodable",)),),
    ),
    Row(
        "more than one for a unary method",
        (Sent("Echo", (b"1", b"2")),),
        (Sent("Echo", (b"1", b"2")),),
        "UNIMPLEMENTED, as gRPC's specification says. grpcio's servers take the first and never read the others.",
        expected=lambda _: Outcome(grpc.StatusCode.UNIMPLEMENTED, _NO_REQUEST),
        is_as_grpcio_in_duplex=True,
    ),
    Row(
        "none for a unary method: `grpc.server`",
        sync=(Sent("Echo", ()),),
        difference="The message names the method. grpcio prints a bytes literal instead, which may be empty.",
        expected=_with_details(_NO_REQUEST),
        is_as_grpcio_in_duplex=True,
    ),
    Row(
        "none for a unary method: `grpc.aio.server`",
        asynchronous=(Sent("Echo", (), timeout=1.0),),
        difference="UNIMPLEMENTED at once. grpc.aio lets the caller wait for its deadline.",
        expected=lambda _: Outcome(grpc.StatusCode.UNIMPLEMENTED, _NO_REQUEST),
        is_as_grpcio_in_duplex=True,
    ),
    Row("interceptors: chained, context variables passed on", _calls("Trail"), _calls("Trail")),
    Row(
        "interceptors: short-circuiting",
        (Sent("Echo", metadata=(("x-deny", "1"),)),),
        (Sent("Echo", metadata=(("x-deny", "1"),)),),
    ),
    Row("interceptors: wrapping streams", _calls("StreamWrapped"), _calls("StreamWrapped")),
    Row(
        "exceptions",
        _calls("Raises", "RaisesWithCode", "StreamRaises", "StreamRaisesAtOnce"),
        _calls("Raises", "RaisesWithCode", "StreamRaises"),
    ),
    Row(
        "`abort`",
        _calls("Aborts", "AbortsAfterMetadata", "SwallowsAbort", "AbortsWithOk", "StreamAborts"),
        _calls("Aborts", "SwallowsAbort", "AbortsTwice", "StreamAborts"),
    ),
    Row("`abort_with_status`", _calls("AbortsWithStatus"), _calls("AbortsWithStatus")),
    Row("rich status (`grpcio-status`)", _calls("GrpcioStatus"), _calls("GrpcioStatus")),
    Row(
        "`set_code`, `set_details`",
        _calls("CodeAndMessage", "IntegerCode", "StreamCode", "CodeAndTrailing"),
        _calls("IntegerCode", "CodeAndTrailing"),
    ),
    Row(
        "`send_initial_metadata`, `set_trailing_metadata`, `invocation_metadata`",
        _calls("Metadata", "Names", "InitialTwice", "BadInitial", "BadName", "BadTrailing"),
        _calls("Metadata", "Names", "InitialTwice", "BadInitial", "BadTrailing"),
        "Every call's trailing metadata also has `x-amzn-requestid`, to find the invocation in the function's log.",
    ),
    Row(
        "`time_remaining`",
        _calls("TimeRemaining"),
        _calls("TimeRemaining"),
        "It also ends shortly before Lambda's own time limit for the invocation, so it is never None inside Lambda.",
    ),
    Row(
        "deadline passed",
        (Sent("Sleeps", timeout=0.4),),
        (Sent("Sleeps", timeout=0.4),),
        "The caller sees the same. A coroutine is cancelled as under grpc.aio. "
        "A plain function runs on as under `grpc.server`, until "
        "Lambda freezes the instance. A client's own cancellation does not reach the function, "
        "because Lambda cannot pass it on.",
        is_as_grpcio_in_duplex=True,
    ),
    Row("`cancel`", sync=_calls("Cancels")),
    Row("`is_active`", sync=_calls("IsActive")),
    Row("`add_callback`", sync=_calls("AddCallback", "AddCallback")),
    Row(
        "`peer`",
        _calls("Peer"),
        _calls("Peer"),
        "The address is the client's, as the bridge saw it. The port is 0, since no event tells it.",
    ),
    Row(
        "`auth_context`",
        _calls("AuthContext"),
        _calls("AuthContext"),
        "Without a client certificate it is empty, because the function cannot know whether the client's "
        "connection was encrypted. With one it "
        "has grpcio's keys.",
        expected=lambda outcome: replace(outcome, messages=(b"([], None, None)",)),
    ),
    Row("compression of replies", _calls("Compresses"), _calls("Compresses", "LateCompression")),
    Row(
        "message size limit",
        (_TOO_LARGE,),
        (_TOO_LARGE,),
        "The bridge's `max_request` refuses it before it is sent to Lambda, with its own text. Inside the function "
        "`grpc.max_receive_message_length` counts, with grpcio's text.",
        expected=_with_details("a request message of 4300000 bytes is above max_request (4194304 bytes)"),
    ),
)

_BESIDES = """
No call shows the following differences:

| Feature | Difference and reason |
|---|---|
| thread pool | `grpc.server` takes one. LambdaServer starts a thread when none is idle, \
up to `max_workers`. The default is 32, and as many more as the instance serves calls at once. \
Outside Lambda use `server.serve(max_workers=…)`. |
| concurrent calls | Nothing is shared between calls, so several threads may call the handler at once. \
`lambda_fn.runtime` does so on Lambda Managed Instances, see below. |
| `options` | Inside Lambda only one of grpcio's channel arguments has an effect: \
`grpc.max_receive_message_length`. The others concern connections, and there are none. |
| `start`, `stop`, ports, `wait_for_termination` | `handler` and `serve()` take their place. |
| size of all replies of a call | Lambda takes 6 MiB of JSON, about 4.5 MiB of messages. \
A larger reply ends RESOURCE_EXHAUSTED. |

In full duplex all of grpcio's options have an effect, replies may be of any size, and a client's cancellation reaches
the servicer.

## Many calls at once (Lambda Managed Instances)

An instance on Managed Instances gets up to `AWS_LAMBDA_MAX_CONCURRENCY` calls at the same time. AWS's Python runtime
starts that many processes. `lambda_fn.runtime` serves them in one process, with a thread for each call. Sync servicers
run in these threads' workers, async servicers on one event loop.

- **The code must be thread-safe.** A handler that is not LambdaServer's, and everything that servicers share, is used
  by many threads. With AWS's runtime each process has its own copy.
- An answer of the Runtime API with 400, 410 or 500 concerns one call. A thread that gets no invocation asks again.
- `sys.exit()` in a handler fails its own call with `Runtime.ExitError`. The process and the other calls go on.
- The trace id is `context.xray_trace_id` (in servicers `context.lambda_context.xray_trace_id`). The variable
  `_X_AMZN_TRACE_ID` is not set, because it is one for all calls. So SDKs that read it find no trace.
- Log records have the id of their request, also in JSON (`AWS_LAMBDA_LOG_FORMAT=JSON`, which Managed Instances set).
  `AWS_LAMBDA_LOG_LEVEL` sets the level. Printed lines stay whole and unchanged. The ids are in
  `lambda_fn.invocation.current()`. A thread that the code starts itself has them only with a copy of the context
  variables.
- A time limit ends one call for its caller, and the code goes on. A coroutine is cancelled, and `context.is_active()`
  turns False, as on other instances.

| 16 calls at once | processes | memory | calls that wait 50 ms | calls that compute 1 ms |
|---|--:|--:|--:|--:|
| `lambda_fn.runtime` | 1 | 16 MB | 260 /s | 450 /s |
| awslambdaric 4.2.2 | 17 | 217 MB | 265 /s | 390 /s |

`python -m benchmarks.many_calls --concurrency 16` measures this: LambdaServer in the local Lambda, on a machine with
two processors that also runs the callers. Threads of one process compute on one processor at a time. So with many
processors and methods that compute, AWS's processes do more calls a second.

Tested: `lambda_fn.runtime` with AWS's emulator in this mode, and awslambdaric 4.2.2 with the local Lambda in this mode.
Not tried: Managed Instances on AWS. It is not known what AWS needs `Lambda-Runtime-Invocation-Id` for. The runtime
returns it with each answer, as AWS's does.
"""

_HEAD = """# LambdaServer compared with grpcio's servers

A test runs the same servicers, interceptors and client calls against three servers: `grpc.server` (sync methods),
`grpc.aio.server` (async methods), and LambdaServer in the local Lambda behind the bridge. It compares status code,
message, details, initial and trailing metadata, reply messages and their order. The test is
`tests/crossing/test_lambda_server.py`. It runs every row and checks that this page says what it found.

The last column is about calls in [full duplex](duplex.md), which a grpcio server inside the function serves.

| Feature | Calls, sync | Calls, async | Difference and reason | In full duplex |
|---|---|---|---|---|
"""


def page() -> str:
    """docs/lambda-server.md."""
    lines = [
        f"| {row.feature} | {_listed(row.sync)} | {_listed(row.asynchronous)} | {row.difference or 'none'} |"
        f" {'the same' if row.difference_in_duplex else 'none'} |"
        for row in ROWS
    ]
    return _HEAD + "\n".join(lines) + "\n" + _BESIDES


def _listed(calls: tuple[Sent, ...]) -> str:
    return str(len(calls)) if calls else "-"


if __name__ == "__main__":
    Path("docs/lambda-server.md").write_text(page())
