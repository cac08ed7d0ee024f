"""The function-URL and HTTP-API event, payload version 2.0: what the bridge sends by default.

The reply's `headers` hold one string a name, repeats joined by commas: all that AWS reads there. When a name repeats,
`multiValueHeaders` list every header too; AWS ignores it, the bridge prefers it.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    seconds_of,
)
from lambda_fn.http import HttpReply, HttpRequest, Peer


def matches(event: Event) -> bool:
    """Return whether the event has payload format 2.0 (function URLs and HTTP APIs)."""
    context = event.get("requestContext")
    return isinstance(context, dict) and isinstance(context.get("http"), dict)


def decode(event: Event) -> HttpRequest:
    """Decode the event. Raises BadEvent."""
    context = event["requestContext"]
    headers = headers_of(event)
    if cookies := event.get("cookies"):
        headers = (*headers, ("cookie", "; ".join(cookies)))
    authentication = context.get("authentication") or {}
    path = _raw_path_of(event)
    return HttpRequest(
        method=context["http"].get("method", ""),
        path=_without_stage(path, context),
        headers=headers,
        body=body_of(event),
        peer=Peer(context["http"].get("sourceIp") or "", certificate_of(authentication.get("clientCert"))),
        sent_at=seconds_of(context.get("timeEpoch")),
        query_string=event.get("rawQueryString") or "",
        paths=_paths_of(event, path),
        # The bridge's, or written by hand: AWS always names the API or the URL.
        takes_streams=context.get("apiId") in (None, "bridge"),
    )


def _raw_path_of(event: Event) -> str:
    context = event["requestContext"]
    path: str = event.get("rawPath") or context["http"].get("path", "")
    return path.replace("%", "%25") if _is_decoded(event) else path


def _is_decoded(event: Event) -> bool:
    """Whether the event comes from an HTTP API, which hands paths on decoded; a function URL and the bridge do not."""
    context = event["requestContext"]
    domain = context.get("domainName") or ""
    is_url = ".lambda-url." in domain or domain.endswith(".on.aws")
    return bool(domain) and not is_url and context.get("apiId") not in (None, "bridge")


def _without_stage(path: str, context: Mapping[str, Any]) -> str:
    """Return the path behind the stage: an HTTP API puts the name of a stage other than `$default` before it."""
    prefix = f"/{context.get('stage')}/"
    return path[len(prefix) - 1 :] if path.startswith(prefix) else path


def _paths_of(event: Event, path: str) -> tuple[str, ...]:
    resource = (event.get("routeKey") or "").partition(" ")[2]
    inner = paths_of(path, resource, event.get("pathParameters"))
    unstaged = _without_stage(path, event["requestContext"])
    if not inner and unstaged == path:
        return ()
    # Behind a custom domain there is no stage before the path, and the path may begin with the stage's name.
    return (*inner, unstaged, path)


def encode_head(reply: HttpReply, event: Event) -> dict[str, Any]:  # noqa: ARG001 - every shape takes the event
    """Return the reply without its body, in payload format 2.0."""
    values = gathered(reply.headers)
    head: dict[str, Any] = {"statusCode": reply.status, "headers": joined(values)}
    if len(values) < len(reply.headers):
        head["multiValueHeaders"] = values
    return head


SHAPE = Shape("http-v2", matches, decode, encode_head)
