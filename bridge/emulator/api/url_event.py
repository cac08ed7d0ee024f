"""The event that AWS makes of an HTTP request to a function URL: payload version 2.0, field by field.

The request's parts come in, JSON goes out. Fields that AWS leaves out where there is nothing to say are left out here.
Knows nothing of sockets, signatures or time.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from bridge.aws.events.event_context import event_time, http_context
from bridge.emulator.api import naming
from bridge.rpc.call import Peer
from bridge.rpc.hop import Action, Leg, forwarded_for, names
from bridge.rpc.value import FrozenValue

NOT_PASSED = names(Leg.FUNCTION_URL, Action.DROP, Action.ANEW)
"""Headers between the client and the URL only; cookies have a field of their own."""
TEXT_TYPES = frozenset(("application/json", "application/javascript", "application/xml"))
"""Content types whose body the event holds as text, in addition to text/*, *+json and *+xml. Forms are not among them,
as on AWS.
"""


class UrlRequest(FrozenValue, frozen=True):
    """An HTTP request to a function's URL."""

    method: str
    path: str
    """As sent, percent-encoded, without what only leads to the URL."""
    query: str
    """As sent, without the question mark."""
    headers: tuple[tuple[str, str], ...]
    """As sent: names in any case, some more than once."""
    body: bytes
    protocol: str
    """`HTTP/1.1`."""
    source: str
    """The client's IP address."""
    port: int
    """The URL's."""
    caller: str | None = None
    """The access key whose signature was good; None: the URL asks for none."""


def encode_url_event(request: UrlRequest, *, function: str, request_id: str, trace_id: str, now: float) -> bytes:
    """Return the event. `now`: Unix seconds."""
    joined = _joined_headers(request)
    # The signature was for the URL: whoever reads it could send the request again.
    kept_back = NOT_PASSED if request.caller is None else NOT_PASSED | {"authorization"}
    headers = {
        **{name: value for name, value in joined.items() if name not in kept_back},
        "x-forwarded-for": forwarded_for(joined.get("x-forwarded-for"), Peer(request.source)),
        "x-forwarded-port": str(request.port),
        "x-forwarded-proto": "http",
        "x-amzn-trace-id": trace_id,
    }
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
    }
    if "cookie" in joined:
        event["cookies"] = [cookie.strip() for cookie in joined["cookie"].split(";")]
    event["headers"] = headers
    if request.query:
        event["queryStringParameters"] = _parameters(request.query)
    context = http_context(
        account="anonymous" if request.caller is None else naming.ACCOUNT,
        api=function,
        caller=_authorizer(request.caller),
        domain=naming.url_domain(function),
        prefix=function,
        method=request.method,
        source=request.source,
        protocol=request.protocol,
        user_agent=joined.get("user-agent", ""),
    )
    context["http"]["path"] = request.path
    event["requestContext"] = context | {
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": event_time(now),
        "timeEpoch": int(now * 1000),
    }
    return msgspec.json.encode(event | _body(request.body, joined.get("content-type", "")))


def _joined_headers(request: UrlRequest) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        values.setdefault(name.lower(), []).append(_text(value))
    return {name: (";" if name == "cookie" else ",").join(found) for name, found in values.items()}


def _text(value: str) -> str:
    """Return the text of these bytes. What is not UTF-8 arrives in surrogates, which JSON cannot hold."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _parameters(query: str) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    return {name: ",".join(found) for name, found in values.items()}


def _authorizer(caller: str | None) -> dict[str, Any]:
    if caller is None:
        return {}
    iam = {
        "accessKey": caller,
        "accountId": naming.ACCOUNT,
        "callerId": caller,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": f"arn:aws:iam::{naming.ACCOUNT}:user/{caller}",
        "userId": caller,
    }
    return {"authorizer": {"iam": iam}}


def _body(body: bytes, content_type: str) -> dict[str, Any]:
    if not body:
        return {"isBase64Encoded": False}
    if _is_text(content_type):
        try:
            return {"body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass  # It does not keep what it promises: base64 holds anything.
    return {"body": b64encode(body).decode(), "isBase64Encoded": True}


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in TEXT_TYPES or kind.endswith(("+json", "+xml"))
