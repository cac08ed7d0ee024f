"""REST for methods whose .proto says `google.api.http`: path, query and body become the request message, the reply
JSON.

A failed call is a google.rpc.Status in JSON under the HTTP status of its code. A stream of replies is one JSON object a
line, `{"result": …}`, and `{"error": …}` where it fails.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from lambda_fn import compression, metadata, transcode
from lambda_fn.http import Headers, HttpReply, HttpRequest, plain_reply
from lambda_fn.http_rules import Binding, bindings_of
from lambda_fn.protocols.grpc_web import parse_timeout
from lambda_fn.protocols.http_status import HTTP_STATUS, Detail, details_in, without_details
from lambda_fn.protocols.protocol import Accepted, Exchange, callers_fault
from lambda_fn.rpc import IDENTITY, IncomingCall, WholeReply
from lambda_fn.status import OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, CutOff, Metadata, Refused, Status

_HTTP_BODY = "google.api.HttpBody"
"""A message that stands for a body of any content type: its bytes travel as they are."""

_ANY_CONTENT_TYPE = "application/octet-stream"
_is_content_type = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?").fullmatch
_is_text_type = re.compile(r"(?:text/|application/(?:[\w.-]+\+)?(?:json|xml|javascript)\b)", re.IGNORECASE).match


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
        allowed: set[str] = set()
        for path in request.paths or (request.path,):
            routes = self._routes(path)
            for verb in _verbs_for(request.method):
                for route in routes:
                    if route.binding.verb in (verb, "*"):
                        return _exchange(request, route)
            allowed |= {route.binding.verb for route in routes}
        if not allowed:
            return None
        listed = ", ".join(sorted(allowed))
        return plain_reply(405, f"{request.path} answers {listed}", headers=(("allow", listed),))

    def _routes(self, path: str) -> list[_Route]:
        found = [
            _Route(binding, match)
            for binding in self._bindings
            if (match := binding.template.pattern.fullmatch(path)) is not None
        ]
        # A custom verb that some template has is never the end of another one's variable.
        with_verb = [route for route in found if route.binding.template.has_verb]
        return with_verb or found


class _Route(NamedTuple):
    binding: Binding
    match: re.Match[str]


def _exchange(request: HttpRequest, route: _Route) -> Exchange:
    binding = route.binding
    reply = _body_descriptor(binding.descriptor.output_type, binding.response_body)
    responder = BodyResponder(binding) if reply is not None else RestResponder(binding)
    return Exchange(responder, callers_fault(partial(_decode, request, route)))


def _body_descriptor(descriptor: Any, field: str) -> Any:
    """Return the descriptor of google.api.HttpBody if the message, or this field of it, is one; else None."""
    if field not in ("", "*"):
        found = transcode.find_field(descriptor, (field,))
        descriptor = None if found.is_repeated else found.message_type
    is_body = descriptor is not None and descriptor.full_name == _HTTP_BODY
    return descriptor if is_body else None


def _verbs_for(method: str) -> tuple[str, ...]:
    """RFC 9110 9.3.2: HEAD is a GET whose reply has no body."""
    return ("HEAD", "GET") if method == "HEAD" else (method,)


# -- requests --


def _decode(request: HttpRequest, route: _Route, max_message: int | None) -> IncomingCall:
    binding = route.binding
    if binding.descriptor.client_streaming:
        raise Refused(UNIMPLEMENTED, f"{binding.method} takes a stream of requests: not by REST")
    message = _message_in(request, route, max_message)
    own = tuple(pair for pair in request.headers if pair[0] != "content-encoding")
    return IncomingCall(
        method=binding.method,
        metadata=metadata.of_request(own),
        messages=iter((transcode.serialized(message),)),
        timeout=parse_timeout(request.header("grpc-timeout")),
        accepted=frozenset((IDENTITY,)),
        peer=request.peer,
    )


def _message_in(request: HttpRequest, route: _Route, max_message: int | None) -> Any:
    """google/api/http.proto, "Rules for HTTP mapping": the path's fields win over the body's, the query fills what
    neither names.
    """
    binding, match = route
    body = _body_of(request, max_message)
    descriptor = binding.descriptor.input_type
    is_raw = bool(binding.body) and _body_descriptor(descriptor, binding.body) is not None
    if binding.body == "*" and not is_raw:
        message = transcode.message_from(body or b"{}", descriptor)
    else:
        message = transcode.new_message(descriptor)
        if binding.body != "*":
            _fill_from_query(message, request)
        if is_raw:
            _set_body(_place_of_body(message, binding.body), request, body)
        elif binding.body and body:
            found = {binding.body: transcode.loads(body)}
            _place_of_body(message, binding.body)
            transcode.merge(found, message, passes_over_unknown=True)
    for field, text in binding.template.values(match):
        transcode.set_field(message, field, [text])
    return message


def _place_of_body(message: Any, name: str) -> Any:
    """Return what the body goes into, emptied of what the query has put there: the message, or a message in this field
    of it.
    """
    if name == "*":
        return message
    field = transcode.find_field(message.DESCRIPTOR, (name,))
    transcode.check_oneof(message, field)
    message.ClearField(field.name)
    return getattr(message, field.name)


def _set_body(message: Any, request: HttpRequest, body: bytes) -> None:
    """Set a google.api.HttpBody."""
    content_type = request.header("content-type") or ""
    message.content_type = content_type.encode("utf-8", "replace").decode()
    message.data = body


def _body_of(request: HttpRequest, max_message: int | None) -> bytes:
    encoding = request.header("content-encoding") or IDENTITY
    compression.check(encoding)
    if encoding != IDENTITY and request.body:
        return compression.inflate(request.body, encoding, max_size=max_message)
    size = len(request.body)
    if max_message is not None and size > max_message:
        raise Refused(RESOURCE_EXHAUSTED, f"body larger than max ({size} vs. {max_message})")
    return request.body


def _fill_from_query(message: Any, request: HttpRequest) -> None:
    """Names that are no fields are passed over: callers and proxies add some of their own."""
    values: dict[tuple[str, ...], list[str]] = {}
    for name, value in request.query:
        path = transcode.names_of(message.DESCRIPTOR, tuple(name.split(".")))
        if path is not None:
            values.setdefault(path, []).append(value)
    for path, several in values.items():
        transcode.set_field(message, path, several)


# -- replies --


class RestResponder(NamedTuple):
    """The reply to one call."""

    binding: Binding

    @property
    def can_stream(self) -> bool:
        return bool(self.binding.descriptor.server_streaming)

    @property
    def needs_message(self) -> bool:
        return False

    def message(self, data: bytes, encoding: str) -> bytes:  # noqa: ARG002 - REST callers are told of none
        found = transcode.to_json(
            data,
            self.binding.descriptor.output_type,
            prints_defaults=True,
            only_field=self.binding.response_body or None,
        )
        return b'{"result":%b}\n' % found if self.can_stream else found

    def head(self, initial: Metadata, encoding: str) -> HttpReply:  # noqa: ARG002 - see message
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
        if reply.status.code == OK:
            return HttpReply(200, headers, b"".join(reply.messages), is_text=True)
        return _failed(reply)


class BodyResponder:
    """The reply to one call whose messages are google.api.HttpBody: their bytes one after the other, under the first
    one's content type.
    """

    needs_message = True

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._content_type = _ANY_CONTENT_TYPE
        self._is_first = True

    @property
    def can_stream(self) -> bool:
        return bool(self._binding.descriptor.server_streaming)

    def message(self, data: bytes, encoding: str) -> bytes:  # noqa: ARG002 - REST callers are told of none
        found = transcode.parsed(data, self._binding.descriptor.output_type)
        if self._binding.response_body:
            found = getattr(found, self._binding.response_body)
        if self._is_first and _is_content_type(found.content_type):
            self._content_type = found.content_type
        self._is_first = False
        body: bytes = found.data
        return body

    def head(self, initial: Metadata, encoding: str) -> HttpReply:  # noqa: ARG002 - see message
        return HttpReply(200, _headers(initial, content_type=self._content_type))

    def end(self, status: Status, trailing: Metadata) -> bytes:  # noqa: ARG002 - the body has no place for it
        if status.code != OK:
            raise CutOff(f"the call failed behind the first bytes of its body: {status.message}")
        return b""

    def whole(self, reply: WholeReply) -> HttpReply:
        if reply.status.code != OK:
            return _failed(reply)
        body = b"".join(reply.messages)
        headers = _headers(reply.initial or (), reply.trailing, content_type=self._content_type)
        # An API without binary media types would hand out base64 as it is.
        is_text = bool(_is_text_type(self._content_type)) and body.isascii()
        return HttpReply(200, headers, body, is_text=is_text)


def _failed(reply: WholeReply) -> HttpReply:
    headers = _headers(reply.initial or (), reply.trailing)
    body = _error(reply.status, reply.trailing)
    return HttpReply(HTTP_STATUS[reply.status.code], headers, body, is_text=True)


def _headers(initial: Metadata, trailing: Metadata = (), *, content_type: str = "application/json") -> Headers:
    """HTTP's own trailers do not pass Lambda: trailing metadata is in headers, under the prefix that grpc-gateway gives
    it.
    """
    trailers = metadata.to_headers(without_details(trailing))
    return (
        ("content-type", content_type),
        *metadata.to_headers(initial),
        *((f"grpc-trailer-{name}", value) for name, value in trailers),
    )


def _error(status: Status, trailing: Metadata) -> bytes:
    details = [_described(detail) for detail in details_in(trailing)]
    error = {"code": status.code, "message": status.message, "details": details}
    return json.dumps(error, separators=(",", ":")).encode("ascii")


def _described(detail: Detail) -> Any:
    """Return an Any in JSON; of a type that is not loaded here, its bytes in base64."""
    packed = transcode.any_as_json(detail.type_url, detail.value)
    if packed is not None:
        return packed
    return {"@type": detail.type_url, "value": b64encode(detail.value).decode("ascii")}
