"""What the bridge tells about a call that comes over an attached connection, for the servicer's context.

Only the bridge can set this metadata: it removes these names from what clients send, and the server in this function
listens where nobody else can reach it.
"""

from __future__ import annotations

import base64
import inspect
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import grpc

from lambda_fn import async_servicer
from lambda_fn.contexts import CallFacts
from lambda_fn.http import Certificate, Peer
from lambda_fn.interceptors import CallDetails, Handler
from lambda_fn.status import Metadata
from lambda_fn.sync_servicer import behaviour_of

_logger = logging.getLogger("lambda_fn")

FACTS = "grpc-lambda-bridge-facts"
"""Facts of the client: the same for all its calls."""
REQUEST = "grpc-lambda-bridge-request"
"""The request id of the invocation whose connection the call came over."""
RESERVED = "grpc-lambda-bridge-"
"""Metadata names that begin so are between the bridge and this package."""


class AttachedCall:
    """The part of `lambda_fn.call.Call` that a servicer's context reads."""

    def __init__(
        self,
        method: str,
        metadata: Metadata,
        facts: Mapping[str, Any],
        lambda_context: object,
        ends: float | None,
    ) -> None:
        """Take the facts of a call. `ends`: monotonic seconds at which the invocation ends; None: nobody knows."""
        self.method = method
        self.metadata = metadata
        self.peer = _peer(facts)
        self.lambda_context = lambda_context
        self.arrived = time.time()  # noqa: TID251 - events tell the wall time
        """Unix seconds."""
        self._facts = facts
        self._ends = ends
        self._event: Mapping[str, Any] | None = None

    def event(self, of_the_call: float | None) -> Mapping[str, Any]:
        """Return the call as an event of a function URL, without a body. `of_the_call`: seconds until its deadline."""
        if self._event is None:
            self._event = _event(self, of_the_call)
        return self._event

    @property
    def facts(self) -> Mapping[str, Any]:
        return self._facts

    def time_remaining(self, of_the_call: float | None) -> float | None:
        """Return the smaller of what the call and the invocation have left (seconds)."""
        if self._ends is None:
            return of_the_call
        left = max(0.0, self._ends - time.monotonic())
        return left if of_the_call is None else min(left, of_the_call)


def take_facts(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[Mapping[str, Any], Metadata]:
    """Return what the bridge tells, and the metadata without it."""
    facts: Mapping[str, Any] = {}
    kept = []
    for pair in metadata:
        name, value = pair
        if not name.startswith(RESERVED):
            kept.append(pair)  # as it is: grpcio's pairs have names for their parts
        elif name == FACTS:
            facts = {**_decoded(value), **facts}
        elif name == REQUEST:
            facts = {**facts, "request": value}
    return facts, tuple(kept)


def _decoded(value: str | bytes) -> Mapping[str, Any]:
    text = value.encode() if isinstance(value, str) else value
    try:
        found = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except ValueError:
        _logger.warning("the bridge's facts of a call cannot be read: the versions of the two sides do not match")
        return {}
    return found if isinstance(found, dict) else {}


def _peer(facts: Mapping[str, Any]) -> Peer:
    certificate = facts.get("cert")
    if not isinstance(certificate, Mapping):
        return Peer(str(facts.get("peer") or ""))
    return Peer(
        str(facts.get("peer") or ""),
        Certificate(str(certificate.get("pem") or ""), str(certificate.get("subject") or "")),
    )


def _event(call: AttachedCall, of_the_call: float | None) -> Mapping[str, Any]:
    """In the form of the function-URL event, payload version 2.0, as the bridge writes it over Invoke."""
    facts = call.facts
    headers: dict[str, str] = {}
    for name, value in call.metadata:
        text = base64.b64encode(value).decode().rstrip("=") if isinstance(value, bytes) else value
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    headers.setdefault("content-type", "application/grpc")
    if of_the_call is not None and of_the_call < _LONGEST_TIMEOUT:
        headers["grpc-timeout"] = f"{of_the_call:.0f}S" if of_the_call > 10_000 else f"{of_the_call * 1000:.0f}m"
    authority = str(facts.get("authority") or "localhost")
    seconds = call.arrived
    domain = authority.partition(":")[0]
    source = call.peer.address
    context: dict[str, Any] = {
        "accountId": "anonymous",
        "apiId": "bridge",
        "domainName": domain,
        "domainPrefix": domain.partition(".")[0],
        "http": {
            "method": "POST",
            "path": call.method,
            "protocol": "HTTP/2.0",
            "sourceIp": source if source and source != "unix" else "127.0.0.1",
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": str(facts.get("request") or ""),
        "routeKey": "$default",
        "stage": "$default",
        "time": _event_time(seconds),
        "timeEpoch": int(seconds * 1000),
    }
    certificate = facts.get("cert")
    if isinstance(certificate, Mapping):
        context["authentication"] = {"clientCert": _client_cert(certificate)}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": call.method,
        "rawQueryString": "",
        "headers": {"host": authority, **headers},
        "requestContext": context,
        "isBase64Encoded": False,
    }


_LONGEST_TIMEOUT = 99_999_999
"""Seconds: `grpc-timeout` has at most eight digits. grpcio tells a call without a deadline a larger number."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _event_time(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"


def _client_cert(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """In the form of API Gateway's `clientCert`."""
    return {
        "clientCertPem": certificate.get("pem", ""),
        "subjectDN": certificate.get("subject", ""),
        "issuerDN": certificate.get("issuer", ""),
        "serialNumber": certificate.get("serial", ""),
        "validity": {"notBefore": certificate.get("notBefore", ""), "notAfter": certificate.get("notAfter", "")},
    }


# -- contexts ----------------------------------------------------------------------------------------------------------


class AttachedContext(CallFacts):
    """grpcio's own context of a call, with the facts of the client in place of those of the bridge's connection."""

    def __init__(self, call: AttachedCall, inner: Any) -> None:
        super().__init__(call)  # type: ignore[arg-type]  # the part of a Call that CallFacts reads
        self._attached = call
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def lambda_event(self) -> Mapping[str, Any]:
        return self._attached.event(self._inner.time_remaining())

    def disable_next_message_compression(self) -> None:
        self._inner.disable_next_message_compression()

    def time_remaining(self) -> float | None:
        return self._attached.time_remaining(self._inner.time_remaining())


grpc.ServicerContext.register(AttachedContext)
grpc.aio.ServicerContext.register(AttachedContext)


MakeCall = Callable[[str, Metadata, Mapping[str, Any]], AttachedCall]
"""From a method, its metadata and the facts to the call."""

Behaviour = Callable[[Any, Any], Any]
"""A servicer's method: from a request, or the iterator of requests, and the context to what it answers."""


class FactsInterceptor(grpc.ServerInterceptor):
    """The outermost interceptor of a sync server: what is inside sees the client."""

    def __init__(self, make_call: MakeCall) -> None:
        self._make_call = make_call

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        call = call_of(handler_call_details, self._make_call)
        handler = continuation(CallDetails(call.method, call.metadata))
        return None if handler is None else with_facts(handler, call)


def call_of(details: Any, make_call: MakeCall) -> AttachedCall:
    """Return the call behind grpcio's details."""
    facts, metadata = take_facts(details.invocation_metadata or ())
    return make_call(details.method, metadata, facts)


def with_facts(handler: Handler, call: AttachedCall) -> Handler:
    """Return the handler with the call's context around grpcio's."""
    inner = behaviour_of(handler)
    if not async_servicer.is_async(handler):
        return _made_like(handler, lambda argument, context: inner(argument, AttachedContext(call, context)))
    if inspect.isasyncgenfunction(inner):
        return _made_like(handler, _yielding(inner, call))
    return _made_like(handler, _awaiting(inner, call))


def _yielding(inner: Behaviour, call: AttachedCall) -> Behaviour:
    async def behaviour(argument: Any, context: Any) -> Any:
        async for response in inner(argument, AttachedContext(call, context)):
            yield response

    return behaviour


def _awaiting(inner: Behaviour, call: AttachedCall) -> Behaviour:
    async def behaviour(argument: Any, context: Any) -> Any:
        return await inner(argument, AttachedContext(call, context))

    return behaviour


def _made_like(handler: Handler, behaviour: Behaviour) -> Handler:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
