"""Function: a handler as Lambda runs it. In goes a call, out come the events of its reply.

It does what stands between a caller and a handler: the event in JSON, Lambda's context with its time limit, the reply
in JSON or as a stream. It knows nothing of grpcio.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lambda_fn import invocation
from lambda_fn.http import Headers, HttpRequest, Peer
from lambda_fn.invocation import Invocation
from lambda_fn.lambda_context import LambdaContext
from lambda_fn.server import LambdaServer
from lambda_fn.status import INTERNAL, RESOURCE_EXHAUSTED, Refused
from lambda_fn.streaming import StreamingReply
from lambda_fn.testing import events, protocols
from lambda_fn.testing.events import MAX_EVENT, EventName
from lambda_fn.testing.protocols import Answer, OutgoingCall, ProtocolName, ReplyEvent

LambdaHandler = Callable[[Mapping[str, Any], Any], Any]
"""A handler of Lambda, for instance `server.handler`."""

# What a function URL says of itself, and what the bridge adds for clients that accept any coding.
_FRONT_END: Headers = (
    ("host", "localhost"),
    ("accept-encoding", "identity"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
)


class Function(NamedTuple):
    """A handler, and how it is called."""

    handler: LambdaHandler
    event: EventName
    protocol: ProtocolName
    time_limit: float
    """Seconds."""
    streams_replies: bool

    @classmethod
    def of(
        cls,
        server: LambdaServer | LambdaHandler,
        event: EventName,
        protocol: ProtocolName,
        *,
        time_limit: float,
        streams_replies: bool,
    ) -> Function:
        """Take a server or a handler. Raises ValueError for an unknown event or protocol."""
        events.check(event)
        protocols.check(protocol)
        handler = server.handler if isinstance(server, LambdaServer) else server
        return cls(handler, event, protocol, time_limit, streams_replies)

    def call(self, call: OutgoingCall) -> Iterator[ReplyEvent]:
        """Invoke the handler and yield what it replies, as it comes. Raises Refused for a call without a reply, and
        what the handler raises.
        """
        protocol = protocols.client_of(self.protocol, call.method)
        fields = protocol.request(call)
        # The last of a name wins with most readers: what the front end says stands behind what the caller says.
        named = {name for name, _ in (*fields.headers, *_FRONT_END)}
        own = tuple(pair for pair in fields.metadata if pair[0] not in named)
        request = HttpRequest("POST", call.method, (*own, *fields.headers, *_FRONT_END), fields.body, Peer("127.0.0.1"))
        yield from protocol.read(self._invoke(request))

    def _invoke(self, request: HttpRequest) -> Answer:
        request_id = events.new_request_id()
        text = json.dumps(events.event_of(self.event, request, request_id))
        if len(text) >= MAX_EVENT:
            raise Refused(
                RESOURCE_EXHAUSTED, f"the event is {len(text)} bytes; Lambda takes less than {MAX_EVENT} bytes"
            )
        invocation.enter(Invocation(request_id))
        return _answer(self.handler(json.loads(text), self._context(request_id)))

    def _context(self, request_id: str) -> LambdaContext:
        ends_at = time.time() + self.time_limit  # noqa: TID251 - the Runtime API tells wall time
        context = LambdaContext(
            {
                "lambda-runtime-aws-request-id": request_id,
                "lambda-runtime-deadline-ms": str(int(ends_at * 1000)),
                "lambda-runtime-invoked-function-arn": "arn:aws:lambda:us-east-1:123456789012:function:testing",
            }
        )
        context.can_stream_replies = self.streams_replies
        return context


def _answer(reply: object) -> Answer:
    if isinstance(reply, StreamingReply):
        head = _checked(_as_json(reply.head))
        if not isinstance(reply.chunks, Iterable):
            raise Refused(INTERNAL, "the reply's chunks are an async iterable, which lambda_fn.testing cannot read")
        return Answer(head.get("statusCode", 200), _headers_of(head), reply.chunks)
    head = _checked(_as_json(reply))
    body = head.get("body") or ""
    data = b64decode(body, validate=True) if head.get("isBase64Encoded") else body.encode()
    return Answer(head.get("statusCode", 200), _headers_of(head), (data,))


def _as_json(reply: object) -> Any:
    """Return the reply as Lambda hands it over. Raises TypeError for one that has no JSON."""
    return json.loads(json.dumps(reply))


def _checked(head: object) -> dict[str, Any]:
    if not isinstance(head, dict) or not isinstance(head.get("statusCode", 200), int):
        raise Refused(INTERNAL, "the handler's reply is not an HTTP reply: an object with statusCode, headers and body")
    return head


def _headers_of(head: Mapping[str, Any]) -> Headers:
    several = head.get("multiValueHeaders") or {name: [value] for name, value in (head.get("headers") or {}).items()}
    return tuple((name.lower(), str(value)) for name, values in several.items() for value in values)
