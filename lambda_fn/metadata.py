"""Metadata between HTTP headers and what a servicer sees.

In: headers of a request, or the pairs a servicer gives. Out: metadata as grpcio shows it (`-bin` values as bytes), or
headers.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from typing import NamedTuple

from lambda_fn.http import Headers
from lambda_fn.status import INTERNAL, Metadata, Refused

_TRANSPORT = frozenset(
    (
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-grpc-web",
    ),
)
"""Names that belong to the HTTP connection or to gRPC-Web, not to the call."""

_FRONT_END = frozenset(("x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"))
"""What URLs, gateways and balancers write on the way; native gRPC has none of it, and `context.peer()` tells the
caller.
"""

_PASSED_GRPC = frozenset(("grpc-previous-rpc-attempts", "grpc-trace-bin", "grpc-tags-bin"))
"""The `grpc-*` request names that a servicer sees; all others are gRPC's own."""

_GIVEN_BY_US = frozenset(("grpc-status", "grpc-message", "grpc-encoding", *_TRANSPORT))
"""Names in a reply that a servicer cannot set."""

_FORWARDED_AUTHORIZATION = "x-forwarded-authorization"

_is_name = re.compile(r"[0-9a-z_.-]+").fullmatch
_is_value = re.compile(rb"[\x20-\x7e]*").fullmatch


class Metadatum(NamedTuple):
    """One pair, as grpcio gives it to servicers: a tuple with names."""

    key: str
    value: str | bytes


def of_request(headers: Headers) -> Metadata:
    """Return the metadata in a request's headers. Raises Refused for a `-bin` value that is not base64."""
    metadata: list[Metadatum] = []
    # With `auth: iam` the Authorization header is AWS's signature; the caller's own travels under another name.
    restored = any(name == _FORWARDED_AUTHORIZATION for name, _ in headers)
    for name, value in headers:
        if name == _FORWARDED_AUTHORIZATION:
            metadata.append(Metadatum("authorization", value))
        elif not _is_passed(name) or (restored and name == "authorization"):
            continue
        elif name.endswith("-bin"):
            # gRPC PROTOCOL-HTTP2: values may have been joined with commas on the way; split before decoding.
            metadata += [Metadatum(name, decode_binary(name, part)) for part in value.split(",")]
        else:
            metadata.append(Metadatum(name, value))
    return tuple(metadata)


def _is_passed(name: str) -> bool:
    if name.startswith("grpc-"):
        return name in _PASSED_GRPC
    return name not in _TRANSPORT and name not in _FRONT_END


def decode_binary(name: str, value: str) -> bytes:
    """Return the value of a name in `-bin`, from base64 with or without padding. Raises Refused."""
    stripped = value.strip(" ").rstrip("=")
    try:
        return b64decode(stripped + "=" * (-len(stripped) % 4), validate=True)
    except (Base64Error, ValueError) as error:
        raise Refused(INTERNAL, f"the value of metadata {name!r} is not base64") from error


class InvalidMetadata(ValueError):
    """What a servicer gave is not metadata that gRPC can carry."""


def of_servicer(pairs: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """Return the metadata that a servicer gave, checked by gRPC's rules (PROTOCOL-HTTP2, "Custom-Metadata"). Raises
    InvalidMetadata.
    """
    try:
        return tuple([_checked(name, value) for name, value in pairs or ()])
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidMetadata):
            raise
        raise InvalidMetadata("metadata is a sequence of (name, value) pairs") from error


def _checked(name: str | bytes, value: str | bytes) -> tuple[str, str | bytes]:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    if not _is_name(text):
        raise InvalidMetadata(f"{text!r} is no metadata name: 0-9 a-z _ - . only, in lower case")
    data = value.encode() if isinstance(value, str) else bytes(value)
    if text.endswith("-bin"):
        return text, data
    if not _is_value(data):
        raise InvalidMetadata(f"the value of metadata {text!r} is not printable ASCII; use a name in -bin")
    return text, data.decode("ascii")


def to_headers(metadata: Metadata) -> Headers:
    """Metadata as it travels; base64 without padding, as PROTOCOL-HTTP2 asks of senders."""
    return tuple(
        (name, b64encode(value).rstrip(b"=").decode("ascii") if isinstance(value, bytes) else value)
        for name, value in metadata
        if name not in _GIVEN_BY_US
    )
