"""The REST-API event, payload version 1.0 (API Gateway's older form; HTTP APIs can send it too)."""

from __future__ import annotations

from typing import Any

from lambda_fn.events.shape import (
    Event,
    Shape,
    body_of,
    certificate_of,
    gathered,
    headers_of,
    joined,
    query_pairs_of,
    seconds_of,
)
from lambda_fn.http import HttpReply, HttpRequest, Peer


def matches(event: Event) -> bool:
    return "httpMethod" in event and isinstance(event.get("requestContext"), dict)


def decode(event: Event) -> HttpRequest:
    """Raises BadEvent."""
    context = event["requestContext"]
    identity = context.get("identity") or {}
    return HttpRequest(
        method=event["httpMethod"],
        path=event.get("path") or "",
        headers=headers_of(event),
        body=body_of(event),
        peer=Peer(identity.get("sourceIp") or "", certificate_of(identity.get("clientCert"))),
        sent_at=seconds_of(context.get("requestTimeEpoch")),
        query=query_pairs_of(event),
        takes_streams=context.get("apiId") == "bridge",
    )


def encode_head(reply: HttpReply, event: Event) -> dict[str, Any]:  # noqa: ARG001  (every shape takes the event)
    values = gathered(reply.headers)
    return {
        "statusCode": reply.status,
        "headers": joined(values),
        "multiValueHeaders": values,
    }


SHAPE = Shape("http-v1", matches, decode, encode_head)
