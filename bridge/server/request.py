"""A request's header block, read once: either the head of a call or the answer that refuses it (gRPC PROTOCOL-HTTP2)."""

from __future__ import annotations

import re

from bridge.http2.events import Fields
from bridge.rpc.deadline import parse_timeout
from bridge.rpc.metadata import HOP_BY_HOP, PASSED_GRPC_REQUEST, Metadata
from bridge.rpc.status import Status, StatusCode, encode_message
from bridge.rpc.value import Value

CONTENT_TYPE = "application/grpc"

_NOT_METADATA = HOP_BY_HOP | {"content-type", "content-length", "host", "grpc-timeout"}
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3})?={0,2}"
_BASE64_LIST = re.compile(rf" *{_BASE64}(?: *, *{_BASE64})* *").fullmatch


class RequestHead(Value, frozen=True):
    """What the header block of a call says."""

    path: str
    metadata: Metadata
    content_type: str
    authority: str
    timeout: float | None


class Refusal(Value, frozen=True):
    """A request that is no call. It gets an HTTP status for HTTP clients and a gRPC status for gRPC clients."""

    http_status: int
    status: Status
    kind: str
    """A short constant: the metric label."""
    path: str
    extra: Fields = ()

    @property
    def fields(self) -> Fields:
        return (
            (":status", str(self.http_status)),
            ("content-type", CONTENT_TYPE),
            *self.extra,
            ("grpc-status", str(int(self.status.code))),
            ("grpc-message", encode_message(self.status.message)),
        )


HTTP1_REFUSAL = Refusal(
    400,
    Status(StatusCode.INTERNAL, "an HTTP/1.x request: this port speaks gRPC over HTTP/2"),
    "http1",
    "",
)
"""What the engine has answered by itself. Its path was not read."""


def parse_head(fields: Fields) -> RequestHead | Refusal:
    """Reads a checked header list (names lower case, pseudo-headers first)."""
    method = path = content_type = authority = host = ""
    timeout: float | None = None
    metadata: list[tuple[str, str]] = []
    for field in fields:
        name, value = field
        if name not in _NOT_METADATA and name[0] != ":":
            if name.startswith("grpc-") and name not in PASSED_GRPC_REQUEST:
                continue
            # gRPC-Go refuses it so too; on Lambda's side it could only fail later and less clearly.
            if name.endswith("-bin") and _BASE64_LIST(value) is None:
                return _malformed(
                    f"the metadata {name[:60]} is not base64", "bad_binary_metadata", path
                )
            metadata.append(field)
        elif name == ":path":
            path = value
        elif name == ":method":
            method = value
        elif name == "content-type":
            content_type = value
        elif name == ":authority":
            authority = value
        elif name == "host":
            if host:
                return _malformed("more than one host", "bad_host", path)
            host = value
        elif name == "grpc-timeout":
            try:
                timeout = parse_timeout(value)
            except ValueError as error:
                return _malformed(str(error), "bad_timeout", path)
    if method != "POST":
        status = Status(StatusCode.INTERNAL, "gRPC calls are POST requests")
        return Refusal(405, status, "bad_method", path, (("allow", "POST"),))
    if not is_grpc(content_type):
        status = Status(
            StatusCode.INTERNAL, "this port speaks gRPC: content-type must be application/grpc"
        )
        return Refusal(415, status, "bad_content_type", path)
    # gRFC A41: the authority decides, a host beside it is dropped.
    return RequestHead(path, tuple(metadata), content_type, authority or host, timeout)


def is_grpc(content_type: str) -> bool:
    """`application/grpc`, alone or followed by `+` or `;`: neither gRPC-Web nor something longer."""
    return content_type == CONTENT_TYPE or content_type.startswith(
        ("application/grpc+", "application/grpc;")
    )


def _malformed(message: str, kind: str, path: str) -> Refusal:
    return Refusal(400, Status(StatusCode.INTERNAL, message), kind, path)
