"""The REST-API event (API Gateway's payload format 1.0): a call becomes the JSON that a function behind a REST API
gets.

As a proxy resource of the stage `$default`. The reply is the one that http_reply reads.
"""

from __future__ import annotations

from bridge.aws.events.event_body import GRPC_WEB, BodyKind, object_with_body
from bridge.aws.events.event_context import Authority, Stamps, client_cert
from bridge.aws.events.event_headers import HeaderWriter
from bridge.rpc.call import CallFacts
from bridge.rpc.hop import source_of
from bridge.rpc.metadata import Metadata

_RESOURCE = "/{proxy+}"


class HttpV1EventEncoder:
    """Encodes calls as events."""

    __slots__ = ("_headers", "_is_text", "_stamps")

    def __init__(self, instance: str, kind: BodyKind = GRPC_WEB) -> None:
        """`instance` begins every event's requestId."""
        self._headers = HeaderWriter(kind)
        self._is_text = kind.is_text
        self._stamps = Stamps(instance)

    def encode(self, call: CallFacts, metadata: Metadata, body: bytes, *, timeout: float | None, now: float) -> bytes:
        """Return the event. The arguments are those of http_v2. Raises PayloadTooLarge."""
        authority, headers = self._headers.write_ready(call, metadata, timeout=timeout)
        event = {
            "resource": _RESOURCE,
            "path": call.path,
            "httpMethod": "POST",
            "headers": self._headers.constant | headers,
            "multiValueHeaders": self._headers.listed(metadata, headers),
            "queryStringParameters": None,
            "multiValueQueryStringParameters": None,
            "pathParameters": {"proxy": call.path[1:]},
            "stageVariables": None,
            "requestContext": self._context(call, authority, headers.get("user-agent", ""), now),
            "isBase64Encoded": not self._is_text,
        }
        return object_with_body(event, body, call, is_text=self._is_text)

    def _context(self, call: CallFacts, authority: Authority, user_agent: str, now: float) -> dict[str, object]:
        identity: dict[str, object] = {"sourceIp": source_of(call.peer), "userAgent": user_agent}
        if call.peer.certificate is not None:
            identity["clientCert"] = client_cert(call.peer.certificate)
        request_id, time = self._stamps.stamp(now)
        return {
            "accountId": "anonymous",
            "apiId": "bridge",
            "domainName": authority.domain,
            "domainPrefix": authority.prefix,
            "extendedRequestId": request_id,
            "httpMethod": "POST",
            "identity": identity,
            "path": call.path,
            "protocol": "HTTP/1.1",
            "requestId": request_id,
            "requestTime": time,
            "requestTimeEpoch": int(now * 1000),
            "resourceId": "bridge",
            "resourcePath": _RESOURCE,
            "stage": "$default",
        }
