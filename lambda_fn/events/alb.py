"""The event of an Application Load Balancer's Lambda target group."""

from __future__ import annotations

from typing import Any

from lambda_fn.events.shape import (
    Event,
    Shape,
    body_of,
    gathered,
    headers_of,
    joined,
    query_pairs_of,
)
from lambda_fn.http import HttpReply, HttpRequest, Peer

_MAX_REPLY = 1 << 20
"""ELB developer guide, "Lambda functions as targets": the response JSON may have 1 MB."""

_REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def matches(event: Event) -> bool:
    """Return whether a load balancer made the event."""
    context = event.get("requestContext")
    return "httpMethod" in event and isinstance(context, dict) and "elb" in context


def decode(event: Event) -> HttpRequest:
    """Decode the event. Raises BadEvent."""
    headers = headers_of(event)
    forwarded = [value for name, value in headers if name == "x-forwarded-for"]
    # The balancer appends the address it saw; whatever stands before it is the client's word.
    address = forwarded[-1].rpartition(",")[2].strip() if forwarded else ""
    return HttpRequest(
        method=event["httpMethod"],
        path=event.get("path") or "",
        headers=headers,
        body=body_of(event),
        peer=Peer(address),
        # Unlike API Gateway, the balancer hands the query on as it came: percent-encoded.
        query_string="&".join(f"{name}={value}" for name, value in query_pairs_of(event)),
    )


def encode_head(reply: HttpReply, event: Event) -> dict[str, Any]:
    """Return the reply without its body, in the form that the target group reads."""
    values = gathered(reply.headers)
    head: dict[str, Any] = {
        "statusCode": reply.status,
        "statusDescription": f"{reply.status} {_REASONS.get(reply.status, '')}".strip(),
    }
    # A target group with multi-value headers reads only the one form, a target group without only the other.
    if "multiValueHeaders" in event:
        return head | {"multiValueHeaders": values}
    return head | {"headers": joined(values)}


SHAPE = Shape("alb", matches, decode, encode_head, _MAX_REPLY)
