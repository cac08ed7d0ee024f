"""REST for methods whose .proto says `google.api.http`: path, query and body become the request message, the reply JSON.

A failed call is a google.rpc.Status in JSON under the HTTP status of its code. A stream of replies is one JSON object a line,
`{"result": …}`, and `{"error": …}` where it fails.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from lambda_fn import compression, metadata, transcode
from lambda_fn.http import Headers, HttpReply, HttpRequest, plain_reply
from lambda_fn.http_rules import Binding, bindings_of
from lambda_fn.protocols.grpc_web import parse_timeout
from lambda_fn.protocols.http_status import HTTP_STATUS, Detail, details_in, without_details
from lambda_fn.protocols.protocol import Accepted, Exchange
from lambda_fn.rpc import (
    IDENTITY,
    OK,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    IncomingCall,
    Metadata,
    Refused,
    Status,
    WholeReply,
)

Values = tuple[tuple[tuple[str, ...], str], ...]
"""Paths of field names, and what the request's path has for them."""


class Rest:
    """The routes of one server."""

    def __init__(self, services: Callable[[], list[str]]) -> None:
        self._services = services
        self._known: list[str] = []
        self._bindings: tuple[Binding, ...] = ()

    def accept(self, request: HttpRequest) -> Accepted:
        """Any request whose path an annotation names; 405 if none does with this verb."""
        if (services := self._services()) != self._known:
            self._known, self._bindings = services, bindings_of(services)
        found = [
            (binding, values)
            for binding in self._bindings
            if (values := binding.template.match(request.path)) is not None
        ]
        if not found:
            return None
        for verb in _verbs_for(request.method):
            for binding, values in found:
                if binding.verb in (verb, "*"):
                    return Exchange(
                        RestResponder(binding), partial(_decode, request, binding, values)
                    )
        allowed = ", ".join(sorted({binding.verb for binding, _ in found}))
        return plain_reply(405, f"{request.path} answers {allowed}", headers=(("allow", allowed),))


def _verbs_for(method: str) -> tuple[str, ...]:
    """RFC 9110 9.3.2: HEAD is a GET whose reply has no body."""
    return ("HEAD", "GET") if method == "HEAD" else (method,)


# -- requests --


def _decode(
    request: HttpRequest, binding: Binding, values: Values, max_message: int | None
) -> IncomingCall:
    if binding.descriptor.client_streaming:
        raise Refused(UNIMPLEMENTED, f"{binding.method} takes a stream of requests: not by REST")
    message = _message_in(request, binding, values, max_message)
    own = tuple(pair for pair in request.headers if pair[0] != "content-encoding")
    return IncomingCall(
        method=binding.method,
        metadata=metadata.of_request(own),
        messages=iter((transcode.serialized(message),)),
        timeout=parse_timeout(request.header("grpc-timeout")),
        accepted=frozenset((IDENTITY,)),
        peer=request.peer,
    )


def _message_in(
    request: HttpRequest, binding: Binding, values: Values, max_message: int | None
) -> Any:
    """google/api/http.proto, "Rules for HTTP mapping": the path's fields win over the body's, the query fills what neither names."""
    body = _body_of(request, max_message)
    descriptor = binding.descriptor.input_type
    if binding.body == "*":
        message = transcode.message_from(body or b"{}", descriptor)
    else:
        message = transcode.new_message(descriptor)
        _fill_from_query(message, request)
        if binding.body and body:
            found = {binding.body: transcode.loads(body)}
            transcode.merge(found, _without(message, binding.body), passes_over_unknown=True)
    for field, text in values:
        transcode.set_field(message, field, [text])
    return message


def _body_of(request: HttpRequest, max_message: int | None) -> bytes:
    encoding = request.header("content-encoding") or IDENTITY
    compression.check(encoding)
    if encoding != IDENTITY and request.body:
        return compression.inflate(request.body, encoding, max_size=max_message)
    size = len(request.body)
    if max_message is not None and size > max_message:
        raise Refused(RESOURCE_EXHAUSTED, f"body larger than max ({size} vs. {max_message})")
    return request.body


def _without(message: Any, field: str) -> Any:
    message.ClearField(transcode.find_field(message.DESCRIPTOR, (field,)).name)
    return message


def _fill_from_query(message: Any, request: HttpRequest) -> None:
    """Names that are no fields are passed over: callers and proxies add some of their own."""
    values: dict[str, list[str]] = {}
    for name, value in request.query:
        values.setdefault(name, []).append(value)
    for name, several in values.items():
        path = tuple(name.split("."))
        if transcode.find_field(message.DESCRIPTOR, path) is not None:
            transcode.set_field(message, path, several)


# -- replies --


class RestResponder(NamedTuple):
    """The reply to one call."""

    binding: Binding

    @property
    def can_stream(self) -> bool:
        return bool(self.binding.descriptor.server_streaming)

    def message(self, data: bytes, encoding: str) -> bytes:  # noqa: ARG002  (REST callers are told of none)
        found = transcode.to_json(
            data,
            self.binding.descriptor.output_type,
            prints_defaults=True,
            only_field=self.binding.response_body or None,
        )
        return b'{"result":%b}\n' % found if self.can_stream else found

    def head(self, initial: Metadata, encoding: str) -> HttpReply:  # noqa: ARG002  (see message)
        return HttpReply(200, _headers(initial), is_text=True)

    def end(self, status: Status, trailing: Metadata) -> bytes:
        if status.code == OK:
            return b""
        return b'{"error":%b}\n' % _error(status, trailing)

    def whole(self, reply: WholeReply) -> HttpReply:
        headers = _headers(reply.initial or (), reply.trailing)
        if self.can_stream and reply.messages:
            body = b"".join((*reply.messages, self.end(reply.status, reply.trailing)))
            return HttpReply(200, headers, body, is_text=True)
        status = reply.status
        if status.code == OK:
            return HttpReply(200, headers, b"".join(reply.messages), is_text=True)
        body = _error(status, reply.trailing)
        return HttpReply(HTTP_STATUS[status.code], headers, body, is_text=True)


def _headers(initial: Metadata, trailing: Metadata = ()) -> Headers:
    """HTTP's own trailers do not pass Lambda: trailing metadata is in headers, under the prefix that grpc-gateway gives it."""
    trailers = metadata.to_headers(without_details(trailing))
    return (
        ("content-type", "application/json"),
        *metadata.to_headers(initial),
        *((f"grpc-trailer-{name}", value) for name, value in trailers),
    )


def _error(status: Status, trailing: Metadata) -> bytes:
    details = [_described(detail) for detail in details_in(trailing)]
    error = {"code": status.code, "message": status.message, "details": details}
    return json.dumps(error, separators=(",", ":")).encode("ascii")


def _described(detail: Detail) -> Any:
    """An Any in JSON; of a type that is not loaded here, its bytes in base64."""
    packed = transcode.any_as_json(detail.type_url, detail.value)
    if packed is not None:
        return packed
    return {"@type": detail.type_url, "value": b64encode(detail.value).decode("ascii")}
