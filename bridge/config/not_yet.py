"""What the design allows and this version does not do: read and checked like everything else, then refused by name.

A feature that lands deletes its lines here, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bridge.config.problems import Place, Problem
from bridge.config.schema import GrpcTarget, HttpTarget, UnixAddress


@dataclass(frozen=True, slots=True)
class NotYet:
    key: str
    """The key's name in the schema; the keys of a service and of `defaults` are `services.…`."""
    is_meant: Callable[[object], bool]
    """Whether this value asks for the feature."""
    what: str


def equal(value: object) -> Callable[[object], bool]:
    return lambda found: found == value


def unlike(default: object) -> Callable[[object], bool]:
    return lambda found: found != default


def _is_http(value: object) -> bool:
    return isinstance(value, HttpTarget)


def _is_grpc(value: object) -> bool:
    return isinstance(value, GrpcTarget) and not isinstance(value.address, UnixAddress)


def _is_unix(value: object) -> bool:
    return isinstance(value, GrpcTarget) and isinstance(value.address, UnixAddress)


def _is_any(value: object) -> bool:
    return bool(value)


NOT_YET: tuple[NotYet, ...] = (
    NotYet("aws.role_arn", _is_any, "assumed roles"),
    NotYet("services.target", _is_http, "http:// and https:// targets"),
    NotYet("services.target", _is_grpc, "grpc:// and grpcs:// targets"),
    NotYet("services.target", _is_unix, "unix: targets"),
    NotYet("services.split", _is_any, "split"),
    NotYet("services.payload", equal("grpc"), "payload grpc"),
    NotYet("services.payload", equal("protobuf"), "payload protobuf"),
    NotYet("services.payload", equal("json"), "payload json"),
    NotYet("services.event", equal("http-v1"), "event http-v1"),
    NotYet("services.event", equal("alb"), "event alb"),
    NotYet("services.event", equal("envoy"), "event envoy"),
    NotYet("services.event", equal("raw"), "event raw"),
    NotYet("services.invoke_mode", equal("response_stream"), "invoke_mode response_stream"),
    NotYet("services.json.names", unlike("json"), "options of payload json"),
    NotYet("services.json.defaults", equal(value=False), "options of payload json"),
    NotYet("services.role_arn", _is_any, "assumed roles"),
    NotYet("services.quirks", _is_any, "quirks"),
    NotYet("services.tls", _is_any, "tls of a target"),
    NotYet("services.headers", _is_any, "headers of a target"),
    NotYet("services.auth", _is_any, "auth of a target"),
    NotYet("functions.url", _is_any, "URLs of local functions"),
)


def not_yet(
    read: Iterable[tuple[str, object, Place]], table: Iterable[NotYet]
) -> Iterator[Problem]:
    """A problem for each value read that asks for something in the table."""
    rows: dict[str, list[NotYet]] = {}
    for row in table:
        rows.setdefault(row.key, []).append(row)
    for key, value, place in read:
        for row in rows.get(key, ()):
            if row.is_meant(value):
                yield Problem.at(place, f"not yet: {row.what}")
