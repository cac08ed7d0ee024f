"""Makes the header fields of an HTTP request that carries a call, under the rules for HTTP proxies.

Takes a call, its metadata and the configured headers. Returns fields that every HTTP/1.1 server reads alike: names that
are tokens (the HTTP/2 engine checks that), values of visible ASCII. The carrier adds host and length.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from ssl import PEM_cert_to_DER_cert
from urllib.parse import quote

from bridge.aws.events.event_body import BodyKind
from bridge.rpc.call import Call, ClientCertificate
from bridge.rpc.deadline import format_timeout
from bridge.rpc.errors import NoRoute
from bridge.rpc.hop import (
    AMAZON,
    TRACE_ID,
    USER_AGENT,
    Action,
    Leg,
    forwarded_cert,
    forwarded_for,
    names,
    not_passed,
)
from bridge.rpc.metadata import Metadata, clean_value

FORWARDED_AUTHORIZATION = "x-forwarded-authorization"
"""Carries the client's `authorization` when the bridge signs the request. lambda_fn restores it."""

_DROPPED = names(Leg.HTTP, Action.DROP)
_REMADE = not_passed(Leg.HTTP)
"""Names whose values the bridge sets, joins or drops."""


def request_path(path: str) -> str:
    """Return the path of a call as part of a URL's path. Raises NoRoute for `.` and `..`, which servers read as steps
    between folders.

    Clients choose it, so special characters are encoded: it cannot leave the prefix or begin a query.
    """
    service, _, method = path[1:].partition("/")
    if method in (".", ".."):
        raise NoRoute(f"{method} is no name of a method")
    return f"/{quote(service, safe='')}/{quote(method, safe='')}"


def request_fields(
    call: Call,
    metadata: Metadata,
    *,
    kind: BodyKind,
    timeout: float | None,
    own: Mapping[str, str],
    is_signed: bool,
) -> Metadata:
    """Return the fields. `metadata` is the call's, as the target shall see it. `timeout` is seconds left for the call.
    `own` holds the configured headers, which replace the client's. `is_signed` says that the bridge sets
    `authorization`.
    """
    content_type = kind.content_type(call.content_type)
    fields = [("content-type", content_type), ("accept", content_type), ("accept-encoding", "identity")]
    fields += [mark for mark in kind.marks if mark[0] not in _DROPPED]
    if timeout is not None:
        fields.append(("grpc-timeout", format_timeout(timeout)))
    fields += _client_fields(metadata, is_signed=is_signed)
    fields += _forwarded(call, metadata)
    fields = [field for field in fields if field[0] not in own]
    return (*fields, *own.items())


def _client_fields(metadata: Metadata, *, is_signed: bool) -> list[tuple[str, str]]:
    """Return the client's metadata as fields, one for each value."""
    fields = []
    for name, value in metadata:
        if name in _REMADE or (name.startswith(AMAZON) and name != TRACE_ID):
            continue
        if is_signed and name == FORWARDED_AUTHORIZATION:
            continue
        sent = FORWARDED_AUTHORIZATION if is_signed and name == "authorization" else name
        fields.append((sent, clean_value(value)))
    agent = _joined(metadata, "user-agent", " ")
    fields.append(("user-agent", f"{agent} {USER_AGENT}".lstrip()))
    # RFC 9113 8.2.3: HTTP/2 may cut a cookie into pieces.
    cookie = _joined(metadata, "cookie", "; ")
    return [*fields, ("cookie", cookie)] if cookie else fields


def _forwarded(call: Call, metadata: Metadata) -> list[tuple[str, str]]:
    """Return the fields that describe the client and its connection to the bridge."""
    came_for = _joined(metadata, "x-forwarded-for", ", ")
    fields = [("x-forwarded-for", forwarded_for(came_for, call.peer))]
    authority = clean_value(call.authority)
    if authority:
        fields.append(("x-forwarded-host", authority))
    if call.peer.certificate is not None:
        fields.append(("x-forwarded-client-cert", _client_cert(call.peer.certificate)))
    return fields


def _joined(metadata: Metadata, name: str, glue: str) -> str:
    return glue.join([clean_value(value) for key, value in metadata if key == name and value])


def _client_cert(certificate: ClientCertificate) -> str:
    """Return the client's certificate in Envoy's format, with the hash first."""
    digest = sha256(PEM_cert_to_DER_cert(certificate.pem)).hexdigest()
    return f"Hash={digest};{forwarded_cert(certificate)}"
