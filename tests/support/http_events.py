"""HTTP requests as each of AWS's front ends writes them into events, for tests that call a handler as curl or a browser
would.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from lambda_fn.streaming import StreamingReply
from tests.support.lambda_channel import body_of, received

Event = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What an HTTP client gets."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Request:
    verb: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, str]:
        path, _, query = self.path.partition("?")
        return path, query


def function_url(request: Request) -> Event:
    path, query = request.parts
    return _with_body(request) | {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "requestContext": {
            "http": {"method": request.verb, "path": path, "sourceIp": "192.0.2.7"},
            "stage": "$default",
        },
    }


def http_api(request: Request) -> Event:
    """Of an API Gateway HTTP API with a stage of its own, which stands before the path."""
    event = function_url(request)
    event["requestContext"]["stage"] = "prod"
    return event | {"rawPath": f"/prod{event['rawPath']}"}


def rest_api(request: Request) -> Event:
    path, query = request.parts
    pairs: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        pairs.setdefault(name, []).append(value)
    return _with_body(request) | {
        "httpMethod": request.verb,
        "path": path,
        "queryStringParameters": {name: values[-1] for name, values in pairs.items()} or None,
        "multiValueQueryStringParameters": pairs or None,
        "requestContext": {"stage": "prod", "identity": {"sourceIp": "192.0.2.7"}},
    }


def load_balancer(request: Request) -> Event:
    """Of a target group with multi-value headers; the query stays percent-encoded."""
    path, query = request.parts
    pairs: dict[str, list[str]] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        pairs.setdefault(unquote(name), []).append(value)
    event = _with_body(request)
    headers = {name: [value] for name, value in event.pop("headers").items()}
    return event | {
        "httpMethod": request.verb,
        "path": path,
        "multiValueQueryStringParameters": pairs,
        "multiValueHeaders": headers | {"x-forwarded-for": ["192.0.2.7"]},
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:…"}},
    }


FRONT_ENDS: dict[str, Callable[[Request], Event]] = {
    "function URL": function_url,
    "HTTP API": http_api,
    "REST API": rest_api,
    "load balancer": load_balancer,
}


def _with_body(request: Request) -> Event:
    return {
        "headers": dict(request.headers),
        "body": b64encode(request.body).decode() if request.body else None,
        "isBase64Encoded": bool(request.body),
    }


class HttpCaller:
    """Calls a Lambda handler as an HTTP client does through a front end."""

    def __init__(
        self,
        handler: Callable[[Event, Any], Any],
        front_end: Callable[[Request], Event] = function_url,
        context: Any = None,
    ) -> None:
        self._handler = handler
        self._front_end = front_end
        self._context = context

    def send(
        self,
        verb: str,
        path: str,
        body: bytes | Any = b"",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`body`: bytes, or what is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json"} if data and not headers else {}
        request = Request(verb, path, data, {**named, **(headers or {})})
        reply = self._handler(self._front_end(request), self._context)
        if isinstance(reply, StreamingReply):
            head, whole = received(reply)
        else:
            head = json.loads(json.dumps(reply))
            whole = body_of(head)
        several = head.get("multiValueHeaders")
        joined = several and {name: ",".join(values) for name, values in several.items()}
        return Answer(head["statusCode"], joined or head["headers"], whole)
