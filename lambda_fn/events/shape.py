"""What every shape of event has in common: the Shape itself, header lists, bodies."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lambda_fn.http import Certificate, Headers, HttpReply, HttpRequest

Event = Mapping[str, Any]

LAMBDA_MAX_REPLY = 6 * (1 << 20) + 100
"""Bytes of JSON that Lambda takes as a reply (its message says "maximum allowed payload size (6291556 bytes)")."""


class UnknownEvent(ValueError):
    """The event is not an HTTP request from a function URL, API Gateway or a load balancer."""

    def __init__(self, event: object) -> None:
        keys = sorted(map(str, event))[:10] if isinstance(event, Mapping) else type(event).__name__
        super().__init__(
            "this handler answers HTTP events (the gRPC bridge, a function URL, API Gateway, a load balancer); "
            f"this event has {keys}"
        )


class BadEvent(ValueError):
    """The event has the right shape, and a field in it is not what it should be."""


class Shape(NamedTuple):
    """One way AWS spells an HTTP request and its reply."""

    name: str
    matches: Callable[[Event], bool]
    decode: Callable[[Event], HttpRequest]
    """Trusts the types of the event's fields; `read` does not."""
    encode_head: Callable[[HttpReply, Event], dict[str, Any]]
    """The reply without its body; the event says which form of headers its sender reads."""
    max_reply: int = LAMBDA_MAX_REPLY
    """Bytes of JSON that the sender of the event takes as a reply."""

    def read(self, event: Event) -> HttpRequest:
        """Return the request in this event. Raises BadEvent."""
        try:
            request = self.decode(event)
        except BadEvent:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadEvent(f"the event looks like {self.name} but has a field of the wrong type") from error
        texts: tuple[object, ...] = (request.method, request.path, request.query_string)
        if not all(isinstance(text, str) for text in texts):
            raise BadEvent("the event's method, path and query are not all text")
        return request

    def encode(self, reply: HttpReply, event: Event) -> dict[str, Any]:
        is_text = reply.is_text or not reply.body
        body = reply.body if is_text else b64encode(reply.body)
        return self.encode_head(reply, event) | {
            "body": body.decode("ascii"),
            "isBase64Encoded": not is_text,
        }

    def size_of(self, reply: HttpReply, event: Event) -> int:
        """Bytes of JSON that `encode` leads to."""
        size = _escaped_size(reply.body) if reply.is_text else (len(reply.body) + 2) // 3 * 4
        return size + len(json.dumps(self.encode(reply._replace(body=b""), event)))


def _escaped_size(text: bytes) -> int:
    """Bytes of ASCII text inside a JSON string, its quotes not counted."""
    return len(text) + sum(text.count(each) for each in (b'"', b"\\", b"\n", b"\r", b"\t"))


def headers_of(event: Event) -> Headers:
    """Return the event's headers in order, each name under `multiValueHeaders` in place of its comma-joined form."""
    several = {
        name.lower(): values for name, values in (event.get("multiValueHeaders") or {}).items() if values is not None
    }
    single = {
        name.lower(): [value] if isinstance(value, str) else value
        for name, value in (event.get("headers") or {}).items()
        if value is not None
    }
    return tuple((name, str(value)) for name, values in (single | several).items() for value in values)


def body_of(event: Event) -> bytes:
    """Return the body of the event. Raises BadEvent."""
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode()
    try:
        return b64decode(body, validate=True)
    except (Base64Error, ValueError, TypeError) as error:
        raise BadEvent("the event says isBase64Encoded, and its body is not base64") from error


def paths_of(path: str, resource: str, parameters: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return what the path is behind the base path of a custom domain, by API Gateway's resource: `/v1/{proxy+}`.
    Likeliest first.

    The resource says how many segments are the API's. Where it begins with fixed ones, those behind them may be all
    that the API knows.
    """
    parts = resource.split("/")[1:]
    counts = [len(parts)]
    if resource.endswith("+}"):
        rest = (parameters or {}).get(parts[-1][1:-2])
        if not isinstance(rest, str):
            return ()
        behind = rest.count("/") + 1
        counts = [len(parts) - 1 + behind, behind]
    segments = path.split("/")[1:]
    found = {"/" + "/".join(segments[-count:]): None for count in counts if 0 < count <= len(segments)}
    return () if [*found] == [path] else tuple(found)


def query_pairs_of(event: Event) -> tuple[tuple[str, str], ...]:
    """Return the names and values of a query that the event lists by name, as they stand there."""
    several = event.get("multiValueQueryStringParameters") or {}
    single = event.get("queryStringParameters") or {}
    values = {name: [value] for name, value in single.items()} | several
    return tuple((name, str(value)) for name, listed in values.items() for value in listed)


def certificate_of(found: Mapping[str, Any] | None) -> Certificate | None:
    """Return the certificate in API Gateway's `clientCert`."""
    if not found:
        return None
    return Certificate(found.get("clientCertPem", ""), found.get("subjectDN", ""))


def seconds_of(epoch_milliseconds: object) -> float | None:
    return epoch_milliseconds / 1000 if isinstance(epoch_milliseconds, (int, float)) else None


def gathered(headers: Headers) -> dict[str, list[str]]:
    """Return the values of each name, in order."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return values


def joined(values: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: ",".join(several) for name, several in values.items()}
