"""Interceptors, sync and async, alone and mixed: order, changes, short-circuits, failures."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.support.behaviours import ASYNC, SYNC, Method, add
from tests.support.lambda_channel import (
    Outcome,
    Serve,
    aio_server,
    grpcio_outcome,
    sync_server,
)

OK = grpc.StatusCode.OK
SERVED = {"Sync": SYNC["Echo"], "Async": ASYNC["Echo"]}

trail: contextvars.ContextVar[str] = contextvars.ContextVar("trail", default="")


class SyncMark(grpc.ServerInterceptor):  # type: ignore[misc,type-arg,unused-ignore]  # grpcio has types in some releases only
    """Notes its passing, and that the handler was there when the continuation returned."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.notes.append(f"{self.name} in")
        trail.set(trail.get() + self.name)
        handler = continuation(handler_call_details)
        self.notes.append(f"{self.name} out {isinstance(handler, grpc.RpcMethodHandler)}")
        return handler


class AsyncMark(grpc.aio.ServerInterceptor):
    """The same as a coroutine."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.notes.append(f"{self.name} in")
        trail.set(trail.get() + self.name)
        handler = await continuation(handler_call_details)
        self.notes.append(f"{self.name} out {isinstance(handler, grpc.RpcMethodHandler)}")
        return handler


@pytest.mark.parametrize("method", SERVED)
@pytest.mark.parametrize("kinds", ["ss", "aa", "sa", "as", "sas", "asa", "ssaass"])
def test_interceptors_nest_in_the_order_given(serve: Serve, kinds: str, method: str) -> None:
    """Whatever the mix, before sync and async methods alike; each sees the handler of those behind it."""
    notes: list[str] = []
    marks = [(SyncMark if kind == "s" else AsyncMark)(f"{at}", notes) for at, kind in enumerate(kinds)]
    outcome = serve(SERVED, interceptors=marks).call(f"/test.Test/{method}")

    assert (OK, (b"echo request",)) == (outcome.code, outcome.messages)
    numbers = range(len(kinds))
    assert [
        *(f"{number} in" for number in numbers),
        *(f"{number} out True" for number in reversed(numbers)),
    ] == notes


@pytest.mark.parametrize("mark", [SyncMark, AsyncMark])
@pytest.mark.parametrize("method", ["Sync", "Async"])
def test_context_variables_pass_from_interceptors_to_the_servicer(serve: Serve, mark: Any, method: str) -> None:
    """They begin empty with each call, as under grpcio."""

    def plain(request: bytes, context: Any) -> bytes:
        return trail.get().encode()

    async def coroutine(request: bytes, context: Any) -> bytes:
        return trail.get().encode()

    methods = {"Sync": ("unary_unary", plain), "Async": ("unary_unary", coroutine)}
    channel = serve(methods, interceptors=[mark("a", []), mark("b", [])])
    trail.set("not this")

    assert [(b"ab",)] * 2 == [channel.call(f"/test.Test/{method}").messages for _ in range(2)]


def _refusing(code: grpc.StatusCode, details: str) -> Any:
    def refuse(request: Any, context: Any) -> Any:
        context.abort(code, details)

    return grpc.unary_unary_rpc_method_handler(refuse)


class SyncGate(grpc.ServerInterceptor):  # type: ignore[misc,type-arg,unused-ignore]  # grpcio has types in some releases only
    """Lets pass who brings the token, as in gRPC's own example."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if ("x-token", "let me in") in handler_call_details.invocation_metadata:
            return continuation(handler_call_details)
        return _refusing(grpc.StatusCode.UNAUTHENTICATED, f"no: {handler_call_details.method}")


class AsyncGate(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if ("x-token", "let me in") in handler_call_details.invocation_metadata:
            return await continuation(handler_call_details)
        return _refusing(grpc.StatusCode.UNAUTHENTICATED, f"no: {handler_call_details.method}")


@pytest.mark.parametrize("gate", [SyncGate, AsyncGate])
@pytest.mark.parametrize("method", SERVED)
def test_an_interceptor_may_answer_by_itself(serve: Serve, gate: Any, method: str) -> None:
    """The servicer is not reached; with the right metadata it is."""
    channel = serve(SERVED, interceptors=[gate()])
    refused = channel.call(f"/test.Test/{method}")
    passed = channel.call(f"/test.Test/{method}", metadata=(("x-token", "let me in"),))

    assert Outcome(grpc.StatusCode.UNAUTHENTICATED, f"no: /test.Test/{method}") == refused
    assert OK is passed.code


class Shouting(grpc.ServerInterceptor):  # type: ignore[misc,type-arg,unused-ignore]  # grpcio has types in some releases only
    """Wraps the handler it finds."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)

        def shout(request: Any, context: Any) -> Any:
            return handler.unary_unary(request, context).upper()

        return grpc.unary_unary_rpc_method_handler(shout, handler.request_deserializer, handler.response_serializer)


class Forwarding(grpc.aio.ServerInterceptor):
    """Leads the call to another method."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details._replace(method="/test.Test/Sync"))


def test_an_interceptor_may_wrap_the_handler_and_change_the_details(serve: Serve) -> None:
    """A sync one behind an async one, each doing its usual trick."""
    channel = serve(SERVED, interceptors=[Forwarding(), Shouting()])

    assert (b"ECHO REQUEST",) == channel.call("/test.Test/Nowhere").messages


class SyncBroken(grpc.ServerInterceptor):  # type: ignore[misc,type-arg,unused-ignore]  # grpcio has types in some releases only
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        raise ValueError("broken")


class AsyncBroken(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        raise ValueError("broken")


class SyncNone(grpc.ServerInterceptor):  # type: ignore[misc,type-arg,unused-ignore]  # grpcio has types in some releases only
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return None


class AsyncNone(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("interceptor", "server", "methods"),
    [
        (SyncBroken, sync_server, {"Echo": SYNC["Echo"]}),
        (SyncNone, sync_server, {"Echo": SYNC["Echo"]}),
        (AsyncBroken, aio_server, {"Echo": ASYNC["Echo"]}),
        (AsyncNone, aio_server, {"Echo": ASYNC["Echo"]}),
    ],
)
def test_an_interceptor_that_fails_does_so_as_under_grpcio(
    serve: Serve,
    interceptor: Any,
    server: Callable[..., Any],
    methods: dict[str, Method],
) -> None:
    """Raising, and finding no handler."""
    with server(lambda each: add(each, methods), interceptors=[interceptor()]) as address:
        expected = grpcio_outcome(address, "/test.Test/Echo")

    assert expected == serve(methods, interceptors=[interceptor()]).call("/test.Test/Echo")


class AsyncExit(grpc.aio.ServerInterceptor):
    """Ends the process, the first time."""

    def __init__(self) -> None:
        self.has_exited = False

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if not self.has_exited:
            self.has_exited = True
            raise SystemExit(7)
        return await continuation(handler_call_details)


@pytest.mark.parametrize("kinds", ["a", "sa", "as"])
def test_an_interceptor_that_ends_the_process_does_so(serve: Serve, kinds: str) -> None:
    """From any place in a chain; where Lambda goes on with the process all the same, it serves."""
    marks: dict[str, Callable[[], Any]] = {"a": AsyncExit, "s": lambda: SyncMark("s", [])}
    channel = serve(SERVED, interceptors=[marks[kind]() for kind in kinds])
    with pytest.raises(SystemExit, match="7"):
        channel.call("/test.Test/Async")

    assert OK is channel.call("/test.Test/Async").code


def test_interceptors_see_streams_too(serve: Serve) -> None:
    """All four kinds of method pass through the chain."""
    notes: list[str] = []

    def each(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests

    channel = serve({"Each": ("stream_stream", each)}, interceptors=[AsyncMark("a", notes)])

    assert (b"1", b"2") == channel.call("/test.Test/Each", (b"1", b"2")).messages
    assert ["a in", "a out True"] == notes
