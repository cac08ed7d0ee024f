"""A request as an event of each shape: what the bridge sends for `event: http-v2`, `http-v1` and `alb`.

In goes an HTTP request, out comes the JSON object that a handler gets. Nothing is known of gRPC here.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Literal

from lambda_fn.events.shape import gathered, joined
from lambda_fn.http import HttpRequest

EventName = Literal["http-v2", "http-v1", "alb"]

MAX_EVENT = 6 << 20
"""Bytes of JSON: Lambda refuses events of this size and more (Lambda quotas, "Invocation payload")."""

_TARGET_GROUP = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/testing/0123456789abcdef"
_RESOURCE = "/{proxy+}"
_HOST = "localhost"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_numbers = count(1)


def new_request_id() -> str:
    """Return an id in the form of Lambda's, which no other call in this process has."""
    return f"00000000-0000-4000-8000-{next(_numbers):012x}"


def _http_v2(request: HttpRequest, request_id: str, now: float) -> dict[str, Any]:
    values = gathered(request.headers)
    cookies = [part.strip() for value in values.pop("cookie", ()) for part in value.split(";") if part.strip()]
    several = any(len(each) > 1 for each in values.values())
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": "",
        **({"cookies": cookies} if cookies else {}),
        "headers": joined(values),
        # AWS has no such field here. The bridge adds it for callers that repeat a name.
        **({"multiValueHeaders": values} if several else {}),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "bridge",
            "domainName": _HOST,
            "domainPrefix": _HOST,
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.peer.address,
                "userAgent": request.header("user-agent") or "",
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": _log_time(now),
            "timeEpoch": int(now * 1000),
        },
    }


def _http_v1(request: HttpRequest, request_id: str, now: float) -> dict[str, Any]:
    values = gathered(request.headers)
    return {
        "resource": _RESOURCE,
        "path": request.path,
        "httpMethod": request.method,
        "headers": joined(values),
        "multiValueHeaders": values,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": request.path[1:]},
        "stageVariables": None,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "bridge",
            "domainName": _HOST,
            "domainPrefix": _HOST,
            "extendedRequestId": request_id,
            "httpMethod": request.method,
            "identity": {"sourceIp": request.peer.address, "userAgent": request.header("user-agent") or ""},
            "path": request.path,
            "protocol": "HTTP/1.1",
            "requestId": request_id,
            "requestTime": _log_time(now),
            "requestTimeEpoch": int(now * 1000),
            "resourceId": "bridge",
            "resourcePath": _RESOURCE,
            "stage": "$default",
        },
    }


def _alb(request: HttpRequest, request_id: str, now: float) -> dict[str, Any]:  # noqa: ARG001 - this shape tells no time
    values = gathered(request.headers)
    return {
        "requestContext": {"elb": {"targetGroupArn": _TARGET_GROUP}},
        "httpMethod": request.method,
        "path": request.path,
        "queryStringParameters": {},
        "multiValueQueryStringParameters": {},
        "headers": joined(values),
        "multiValueHeaders": values,
    }


_EVENTS: Mapping[str, Callable[[HttpRequest, str, float], dict[str, Any]]] = {
    "http-v2": _http_v2,
    "http-v1": _http_v1,
    "alb": _alb,
}


def check(name: str) -> None:
    """Check a name. Raises ValueError for one that is not an EventName."""
    if name not in _EVENTS:
        raise ValueError(f"event {name!r} is unknown: choose one of {', '.join(_EVENTS)}")


def event_of(name: EventName, request: HttpRequest, request_id: str) -> dict[str, Any]:
    """Return the event that a front end of this kind makes of the request, at this moment."""
    now = time.time()  # noqa: TID251 - events tell wall time
    is_text = request.header("content-type") == "application/json"
    return _EVENTS[name](request, request_id, now) | {
        "body": request.body.decode() if is_text else b64encode(request.body).decode("ascii"),
        "isBase64Encoded": not is_text,
    }


def _log_time(now: float) -> str:
    """Return the time as access logs write it. `%b` would speak the language of the locale."""
    at = time.gmtime(now)
    return f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{time.strftime('%H:%M:%S', at)} +0000"
