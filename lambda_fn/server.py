"""LambdaServer replaces `grpc.server(...)`. It turns Lambda's event into a reply."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from lambda_fn import async_servicer, deadline, sync_servicer
from lambda_fn.call import Call
from lambda_fn.contexts import COMPRESSION_NAMES, unexpected
from lambda_fn.cors import Cors
from lambda_fn.deadline import Deadline
from lambda_fn.duplex.order import is_order, networks
from lambda_fn.events import shape_of
from lambda_fn.events.shape import BadEvent, Event, Shape
from lambda_fn.http import HttpReply, HttpRequest, Peer, plain_reply
from lambda_fn.interceptors import CallDetails, Chain, Handler
from lambda_fn.invocation import fresh_context
from lambda_fn.protocols import Protocols
from lambda_fn.registry import Registry
from lambda_fn.rpc import IDENTITY, IncomingCall, Responder, WholeReply, reply_too_large
from lambda_fn.status import CANCELLED, UNIMPLEMENTED, UNKNOWN, Refused, Status
from lambda_fn.streaming import StreamingReply
from lambda_fn.threads import LoopThread, Saturated, Workers, usual_workers

if TYPE_CHECKING:  # loaded when they are needed: most functions never do
    from lambda_fn.duplex.endpoint import Endpoint
    from lambda_fn.plain_server import PlainServer

_logger = logging.getLogger("lambda_fn")

Reply = dict[str, Any] | StreamingReply

_MAX_MESSAGE = 4 << 20
"""Bytes of one request message, unless `grpc.max_receive_message_length` says otherwise: grpcio's default."""

_CLEANUP = 0.1
"""Seconds that a stopped coroutine has for its `finally` before the reply leaves: Lambda freezes the process with it.
"""

_COLD_START = ("x-lambda-fn-cold-start", "1")
"""The mark on the first reply of an instance. The bridge counts and removes it."""


class LambdaServer:
    """A gRPC server inside Lambda.

        server = LambdaServer(interceptors=[...])                  # in place of grpc.server(...)
        helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
        handler = server.handler                                   # the Lambda handler
        if __name__ == "__main__":
            server.serve("0.0.0.0:50051")                          # the same service as a plain gRPC server

    Servicers may be sync (as under `grpc.server`) or async (as under `grpc.aio.server`), also within one service. A
    call arrives whole: request streams are read from memory, and no more than Lambda's 6 MB go in or out. Sync methods
    run in a thread that is kept between calls. Async ones run on one event loop that is kept too. So create async
    clients inside a method, not while the module loads.

    When a call's deadline passes, or Lambda's own time for the invocation is about to end, the caller gets
    DEADLINE_EXCEEDED at once. A coroutine is cancelled. A plain function cannot be cancelled: it runs on, with
    `context.is_active()` False, until Lambda freezes the instance.

    Besides grpcio's, the contexts have `lambda_event` (the event as it came) and `lambda_context` (Lambda's context
    object).
    """

    def __init__(  # noqa: PLR0913 - options by keyword, each with its default
        self,
        *,
        interceptors: Sequence[Any] = (),
        handlers: Sequence[grpc.GenericRpcHandler] = (),
        options: Sequence[tuple[str, Any]] = (),
        compression: grpc.Compression | None = None,
        max_workers: int | None = None,
        reflection: bool = True,
        stream_replies: bool | None = None,
        cors: str | Sequence[str] | None = "*",
        base_path: str = "",
        duplex: bool | Sequence[str] = True,
    ) -> None:
        """All arguments are optional. Raises ValueError for a `base_path` that is no path.

        interceptors: `grpc.ServerInterceptor` and `grpc.aio.ServerInterceptor` in any mix, the first one outermost.
        handlers: generic handlers to begin with.
        options: grpcio's channel arguments. Inside Lambda only `grpc.max_receive_message_length` counts (bytes, -1:
            any, by default 4 MiB). `serve` passes on all of them.
        compression: of replies, where a caller reads it and the method does not choose another.
        max_workers: the most threads for sync methods and interceptors. A call that finds all of them busy is
            RESOURCE_EXHAUSTED. None: 32, and as many more as the instance gets calls at once
            (AWS_LAMBDA_MAX_CONCURRENCY).
        reflection: answer server reflection (v1 and v1alpha) for the registered services.
        stream_replies: whether replies leave in Lambda's streaming form, which takes `lambda_fn.runtime`. None: those
            of methods that stream responses, to the bridge, which reads both forms in either invoke mode. True: all,
            to everyone, for a function URL with `InvokeMode: RESPONSE_STREAM`. False: none.
        cors: the origins whose pages may call, `"*"` or a list of `"https://app.example.com"`; never with cookies.
            None: say nothing. Use it for a function URL or an HTTP API whose own CORS settings answer browsers (two
            answers are one too many), and for functions that only a private network may reach.
        base_path: a path such as `/shop` that a front end puts before the paths of `google.api.http` without saying
            so. Examples are a load balancer, and an HTTP API behind a custom domain whose route is `$default`. Base
            paths of other API Gateway routes are found in the event.
        duplex: whether the function connects to a bridge that asks for it, which makes full duplex possible. A list of
            networks such as `["10.0.0.0/8"]` limits where the bridge may be.
        """
        if base_path and (not base_path.startswith("/") or base_path.endswith("/")):
            raise ValueError(f"base_path {base_path!r} is not of the form /shop")
        self._options = tuple(options)
        self._compression = compression
        self._stream_replies = stream_replies
        self._max_message = _max_message(self._options)
        self._cold_start = [_COLD_START]
        self._workers = Workers(usual_workers(os.environ) if max_workers is None else max_workers)
        self._loop = LoopThread()
        self._chain = Chain(interceptors, self._workers)
        self._registry = Registry(reflects=reflection)
        self._registry.add_generic(handlers)
        self._protocols = Protocols(self._registry.services)
        self._base_path = base_path
        self._cors = None if cors is None else Cors(cors)
        self._duplex_allowed = duplex
        if not isinstance(duplex, bool):
            networks(duplex)  # raises ValueError for an invalid network
        self._duplex: Endpoint | None = None
        self._closing: list[Callable[[], None]] = []
        self._duplex_lock = Lock()

    # -- what generated code calls --

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Register handlers that find their methods themselves."""
        self._registry.add_generic(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Register the methods of a service by name."""
        self._registry.add_methods(service_name, method_handlers)

    # -- outside Lambda --

    def serve(
        self,
        address: str = "0.0.0.0:50051",
        *,
        http: str | None = None,
        grace: float = 30.0,
        credentials: grpc.ServerCredentials | None = None,
        max_workers: int | None = None,
    ) -> None:
        """Serve the same service as a plain grpcio server, until SIGTERM or Ctrl-C.

        Calls then have `grace` seconds to finish. It is an aio server if any method or interceptor is async, else
        `grpc.server` with `max_workers` threads. Without `credentials` the port is plaintext. `http` is a second
        address, which serves HTTP/1.1 as a function URL would (REST, gRPC-Web, Connect). Raises RuntimeError if
        an address cannot be bound.
        """
        beside = None
        if http is not None:
            from lambda_fn.plain_http import HttpSide

            beside = HttpSide(self.handler, http, grace=grace)
        self._plain_server(max_workers).run(address, grace=grace, credentials=credentials, beside=beside)

    def close(self) -> None:
        """Stop the threads. Lambda never needs it; a test or a notebook may."""
        for close in self._closing:
            close()
        self._workers.close()
        self._loop.close()

    # -- the Lambda handler --

    def handler(self, event: Event, context: Any) -> Reply:
        """Answer one event: from the bridge, a function URL, API Gateway or a load balancer.

        Raises UnknownEvent for an event that is not an HTTP request, and what a servicer raises to end the process
        (SystemExit).
        """
        if is_order(event):
            return self._endpoint().answer(event, context)
        invocation = _Invocation(event, context, shape_of(event))
        try:
            request = invocation.shape.read(event)
        except BadEvent as error:
            return self._sent(invocation, plain_reply(400, str(error)))
        if self._base_path:
            request = request.behind(self._base_path)
        invocation = invocation._replace(request=request)
        if self._cors is not None and (preflight := self._cors.preflight(request)) is not None:
            return self._sent(invocation, preflight)
        accepted = self._protocols.accept(request)
        if isinstance(accepted, HttpReply):
            return self._sent(invocation, accepted)
        try:
            incoming = accepted.decode(self._max_message)
        except Refused as refusal:
            refused = WholeReply(refusal.status, refusal.trailing)
            return self._sent(invocation, accepted.responder.whole(refused))
        return self._answer(invocation, incoming, accepted.responder)

    def _endpoint(self) -> Endpoint:
        """Return what answers orders to connect. It is made with the first order: most functions never see one."""
        with self._duplex_lock:
            if self._duplex is None:
                from lambda_fn.duplex.local import LocalServer

                local = LocalServer(self._plain_server(), self._registry, self._chain, self._loop)
                self._closing.append(local.close)
                self._duplex = local.endpoint(self._duplex_allowed)
            return self._duplex

    def _plain_server(self, max_workers: int | None = None) -> PlainServer:
        from lambda_fn.plain_server import PlainServer

        return PlainServer(
            self._registry,
            self._chain,
            options=self._options,
            compression=self._compression,
            max_workers=max_workers,
        )

    def _answer(
        self,
        invocation: _Invocation,
        incoming: IncomingCall,
        responder: Responder,
    ) -> Reply:
        due = _deadline_of(incoming.timeout, invocation.request.sent_at, invocation.context)
        may_stream = self._streams_to(invocation) and responder.can_stream
        call = Call(
            incoming,
            responder,
            deadline=None if due is None else due.at,
            compression=COMPRESSION_NAMES[self._compression] if self._compression else IDENTITY,
            max_reply=invocation.shape.max_reply,
            is_streamed=may_stream,
            event=invocation.event,
            lambda_context=invocation.context,
        )
        self._start(call)
        if may_stream:
            _wait(call, lambda call: call.streams_responses or call.is_closed, due)
            if call.streams_responses:
                return self._streamed(invocation, responder, call, due)
        _wait(call, _is_closed, due)
        _raise_crash(call)
        return self._fitting(invocation, responder, call.reply())

    def _streams_to(self, invocation: _Invocation) -> bool:
        """Whether replies to this sender may leave in Lambda's streaming form."""
        if self._stream_replies is None:
            return invocation.can_stream and invocation.request.takes_streams
        return invocation.can_stream and self._stream_replies

    # -- serving a call --

    def _start(self, call: Call) -> None:
        """Begin to serve the call, and close it at the end. One whose deadline has passed is left to `_wait`."""
        if call.deadline is not None and call.deadline <= time.monotonic():
            return
        # As with grpcio, context variables start empty and pass from interceptors to the servicer. The log needs one.
        fresh = fresh_context()
        if self._chain.is_async:
            fresh.run(self._run_on_loop, call, partial(self._serve_on_loop, call))
            return
        try:
            self._workers.start(partial(fresh.run, self._serve_in_worker, call))
        except Saturated as refusal:
            call.end(refusal.status)
            call.close()

    def _serve_in_worker(self, call: Call) -> None:
        try:
            handler = self._resolve(call)
            if handler is not None and async_servicer.is_async(handler):
                self._run_on_loop(call, partial(async_servicer.serve, call, handler, self._workers))
                return
            if handler is not None:
                sync_servicer.serve(call, handler)
            call.close()
        except BaseException as error:  # noqa: BLE001 - SystemExit and its like are for Lambda's own thread
            call.crash_with(error)

    def _resolve(self, call: Call) -> Handler | None:
        try:
            return _found(call, self._chain.resolve(self._registry.find, _details(call)))
        except Exception:
            _logger.exception("%s: an interceptor raised", call.method)
            call.end(Status(UNKNOWN, "Error in service handler!"))
            return None

    def _run_on_loop(self, call: Call, serve: Callable[[], Coroutine[object, object, None]]) -> None:
        call.stop = self._loop.start(partial(_guarded, call, serve), closed=call.close)
        if call.is_interrupted:  # before there was a way to stop it
            call.stop()

    async def _serve_on_loop(self, call: Call) -> None:
        try:
            handler = _found(call, await self._chain.resolve_async(self._registry.find, _details(call)))
        except Refused as refusal:
            call.end(refusal.status)
            return
        except Exception as error:
            _logger.exception("%s: an interceptor raised", call.method)
            call.end(Status(UNKNOWN, unexpected(error)))
            return
        if handler is None:
            return
        if async_servicer.is_async(handler):
            await async_servicer.serve(call, handler, self._workers)
        else:
            await self._serve_sync(call, handler)

    async def _serve_sync(self, call: Call, handler: Handler) -> None:
        try:
            await self._workers.call(partial(sync_servicer.serve, call, handler))
        except Saturated as refusal:
            call.end(refusal.status)

    # -- the reply --

    def _fitting(self, invocation: _Invocation, responder: Responder, whole: WholeReply) -> Reply:
        """Return the reply as Lambda wants it; in place of one larger than Lambda takes, a status that says so."""
        reply = responder.whole(whole)
        limit = invocation.shape.max_reply
        size = invocation.shape.size_of(reply, invocation.event)
        if size > limit:
            reply = responder.whole(WholeReply(reply_too_large(size, limit)))
        return self._sent(invocation, reply)

    def _sent(self, invocation: _Invocation, reply: HttpReply) -> Reply:
        shape, event = invocation.shape, invocation.event
        marked = self._marked(invocation, reply)
        if self._stream_replies and self._streams_to(invocation):
            return StreamingReply((reply.body,), head=shape.encode_head(marked, event))
        return shape.encode(marked, event)

    def _streamed(
        self, invocation: _Invocation, responder: Responder, call: Call, due: Deadline | None
    ) -> StreamingReply:
        has_head = Call.has_messages if responder.needs_message else _is_open
        _wait(call, lambda call: has_head(call) or call.is_closed, due)
        _raise_crash(call)
        if has_head(call):
            initial, compression = call.opened()
            head = responder.head(initial, compression)
            chunks: Iterable[bytes] = _chunks(responder, call, due)
        else:
            head = responder.whole(call.reply())
            chunks = (head.body,)
        shape, event = invocation.shape, invocation.event
        return StreamingReply(chunks, head=shape.encode_head(self._marked(invocation, head), event))

    def _marked(self, invocation: _Invocation, reply: HttpReply) -> HttpReply:
        """Return the reply with CORS headers and, if it is this instance's first, the mark of a cold start."""
        request = invocation.request
        headers = reply.headers
        if self._cors is not None and request.method != "OPTIONS":
            headers += self._cors.headers(request, reply)
        with suppress(IndexError):  # taken by the first reply, of however many that are made at the same time
            headers += (self._cold_start.pop(),)
        body = b"" if request.method == "HEAD" else reply.body
        return reply._replace(headers=headers, body=body)


class _Invocation(NamedTuple):
    """An event, and how it is to be answered."""

    event: Event
    context: Any
    shape: Shape
    request: HttpRequest = HttpRequest("", "", (), b"", Peer())
    """Empty until the event has been read."""

    @property
    def can_stream(self) -> bool:
        """Whether the runtime sends streamed replies, and this one has a body to stream."""
        does_runtime = getattr(self.context, "can_stream_replies", False) is True
        return does_runtime and self.request.method != "HEAD"


def _max_message(options: Sequence[tuple[str, Any]]) -> int | None:
    size = dict(options).get("grpc.max_receive_message_length", _MAX_MESSAGE)
    return None if size < 0 else int(size)


def _deadline_of(timeout: float | None, sent_at: float | None, context: Any) -> Deadline | None:
    now = time.monotonic()
    arrived_at = time.time()  # noqa: TID251 - the event tells wall time
    return deadline.earlier(
        deadline.of_caller(timeout, sent_at=sent_at, arrived_at=arrived_at, now=now),
        deadline.of_lambda(context, now=now),
    )


def _details(call: Call) -> CallDetails:
    return CallDetails(call.method, call.metadata)


def _found(call: Call, handler: Handler | None) -> Handler | None:
    if handler is None:
        call.is_unknown = True
        call.end(Status(UNIMPLEMENTED, "Method not found!"))
    else:
        call.found(streams_responses=bool(handler.response_streaming))
    return handler


async def _guarded(call: Call, serve: Callable[[], Coroutine[object, object, None]]) -> None:
    """Serve a call on the loop: this is its outermost frame."""
    try:
        await serve()
    except asyncio.CancelledError:
        call.end(Status(CANCELLED, "CANCELLED"))
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit and its like are for Lambda's own thread
        call.crash_with(error)


def _is_open(call: Call) -> bool:
    return call.is_open


def _is_closed(call: Call) -> bool:
    return call.is_closed


def _wait(call: Call, condition: Callable[[Call], bool], due: Deadline | None) -> None:
    """Wait until `condition` holds. At the deadline, interrupt the call and give it _CLEANUP seconds to end."""
    if due is None:
        call.wait(condition, until=None)
    elif not call.wait(condition, until=due.at):
        call.interrupt(due.status)
        call.wait(_is_closed, until=time.monotonic() + _CLEANUP)
        call.close()


def _raise_crash(call: Call) -> None:
    if call.crash is not None:
        raise call.crash


def _chunks(responder: Responder, call: Call, due: Deadline | None) -> Iterator[bytes]:
    """Yield the body of a streamed reply, as it comes."""
    try:
        while True:
            _wait(call, lambda call: call.has_messages() or call.is_closed, due)
            messages = call.take_messages()
            if not messages:
                break
            yield b"".join(messages)
        _raise_crash(call)
        reply = call.reply()
        yield responder.end(reply.status, reply.trailing)
    finally:
        call.interrupt(_ABANDONED)


_ABANDONED = Status(CANCELLED, "nobody takes the reply any more")
