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
    paths_of,
    query_pairs_of,
    seconds_of,
)
from lambda_fn.http import HttpReply, HttpRequest, Peer


def matches(event: Event) -> bool:
    return "httpMethod" in event and isinstance(event.get("requestContext"), dict)


def decode(event: Event) -> HttpRequest:
    """Decode the event. Raises BadEvent."""
    context = event["requestContext"]
    path = _path_of(event)
    identity = context.get("identity") or {}
    return HttpRequest(
        method=event["httpMethod"],
        path=path,
        headers=headers_of(event),
        body=body_of(event),
        peer=Peer(identity.get("sourceIp") or "", certificate_of(identity.get("clientCert"))),
        sent_at=seconds_of(context.get("requestTimeEpoch")),
        query_string=_query_of(event),
        paths=_paths_of(event, path),
        takes_streams=context.get("apiId") == "bridge",
    )


def _path_of(event: Event) -> str:
    path: str = event.get("path") or ""
    return path.replace("%", "%25") if _is_of_http_api(event) else path


def _is_of_http_api(event: Event) -> bool:
    """Whether an HTTP API made it: it hands paths on decoded, behind the name of a stage. Only it and the bridge name
    the version.
    """
    return "version" in event and event["requestContext"].get("apiId") != "bridge"


def _paths_of(event: Event, path: str) -> tuple[str, ...]:
    resource = event.get("resource") or ""
    found = paths_of(path, resource, event.get("pathParameters"))
    stage = f"/{event['requestContext'].get('stage')}/"
    if _is_of_http_api(event) and path.startswith(stage):
        found = (*found, path[len(stage) - 1 :])
    return (*found, path) if found else ()


def _query_of(event: Event) -> str:
    """Return the query in its encoded form, because API Gateway lists it decoded."""
    pairs = query_pairs_of(event)
    if not pairs:
        return ""
    from urllib.parse import urlencode

    return urlencode(pairs, errors="surrogatepass")


def encode_head(reply: HttpReply, event: Event) -> dict[str, Any]:  # noqa: ARG001 - every shape takes the event
    """Return the reply without its body, in API Gateway's payload format 1.0."""
    values = gathered(reply.headers)
    return {
        "statusCode": reply.status,
        "headers": joined(values),
        "multiValueHeaders": values,
    }


SHAPE = Shape("http-v1", matches, decode, encode_head)
