"""Reads a request's header block into the head of a call, or into the answer that refuses it (gRPC PROTOCOL-HTTP2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter

from bridge.http2.events import Fields
from bridge.http2.headers import size_of_names
from bridge.rpc.deadline import parse_timeout
from bridge.rpc.hop import Leg, not_passed
from bridge.rpc.metadata import PASSED_GRPC_REQUEST, Metadata, is_binary, picker
from bridge.rpc.remembered import Remembered
from bridge.rpc.status import Status, StatusCode, encode_message
from bridge.rpc.value import FrozenValue

CONTENT_TYPE = "application/grpc"

_OWN = not_passed(Leg.CALL) | {":method", ":path", ":scheme", ":authority"}
"""Names that are not metadata, because they describe the call or its connection."""
_GRPC = "grpc-"
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3})?={0,2}"
_BASE64_LIST = re.compile(rf" *{_BASE64}(?: *, *{_BASE64})* *").fullmatch


_name_of = itemgetter(0)


class RequestHead(FrozenValue, frozen=True):
    """The facts in the header block of a call."""

    path: str
    metadata: Metadata
    content_type: str
    authority: str
    timeout: float | None


class Refusal(FrozenValue, frozen=True):
    """The answer to a request that is not a gRPC call: an HTTP status for HTTP clients and a gRPC status for gRPC
    clients.
    """

    http_status: int
    status: Status
    kind: str
    """The metric label, a short constant."""
    path: str
    extra: Fields = ()
    """Fields that the HTTP status requires."""
    is_not_grpc: bool = False
    """Whether the request has no sign of gRPC. Its client then gets an HTTP answer with a body to read."""

    @property
    def fields(self) -> Fields:
        """A trailers-only response, for gRPC clients."""
        return (
            (":status", str(self.http_status)),
            ("content-type", CONTENT_TYPE),
            *self.extra,
            *self.end,
        )

    @property
    def head(self) -> Fields:
        """The header list that opens the answer to a request that is not gRPC. `text` and `end` follow."""
        return (
            (":status", str(self.http_status)),
            ("content-type", "text/plain; charset=utf-8"),
            *self.extra,
        )

    @property
    def text(self) -> bytes:
        return f"{self.status.message}\n".encode()

    @property
    def end(self) -> Fields:
        return (
            ("grpc-status", str(int(self.status.code))),
            ("grpc-message", encode_message(self.status.message)),
        )


HTTP1_REFUSAL = Refusal(
    400,
    Status(StatusCode.INTERNAL, "an HTTP/1.x request: this port speaks gRPC over HTTP/2"),
    "http1",
    "",
)
"""A request that the engine has answered itself. Its path was not read."""

TLS_REFUSAL = Refusal(
    400,
    Status(StatusCode.INTERNAL, "a TLS client: this port speaks gRPC without TLS; `tls` on the listener turns TLS on"),
    "tls",
    "",
)
"""A ClientHello on a port without TLS."""


class _Places(FrozenValue, frozen=True):
    """Where the facts of a usual call are in its list of fields. Names repeat from call to call, so this is worked out
    once for each list of names.
    """

    method: int
    path: int
    authority: int
    content_type: int
    timeout: int | None
    metadata: Callable[[Fields], Metadata]
    binary: tuple[int, ...]
    """Metadata whose values must be base64."""


def _places_of(names: tuple[str, ...]) -> _Places | None:
    """None for lists that need a closer look: those that lack a name, or repeat one that describes the call."""
    own = [name for name in names if not _is_metadata(name)]
    if len({*own}) < len(own) or "host" in own or not {":method", ":path", ":authority", "content-type"}.issubset(own):
        return None
    metadata = [at for at, name in enumerate(names) if _is_metadata(name)]
    return _Places(
        names.index(":method"),
        names.index(":path"),
        names.index(":authority"),
        names.index("content-type"),
        names.index("grpc-timeout") if "grpc-timeout" in names else None,
        picker(metadata),
        tuple([at for at in metadata if is_binary(names[at])]),
    )


_PLACES = Remembered(_places_of, most=256, largest=2 << 10, size_of=size_of_names)
"""By the names of a list."""


def parse_request_head(fields: Fields) -> RequestHead | Refusal:
    """Read a checked header list (names in lower case, pseudo-headers first)."""
    places = _PLACES[tuple(map(_name_of, fields))]
    if places is None or fields[places.method][1] != "POST" or not fields[places.authority][1]:
        return _look_through(fields)
    for at in places.binary:
        if _BASE64_LIST(fields[at][1]) is None:
            return _look_through(fields)
    content_type = fields[places.content_type][1]
    if content_type != CONTENT_TYPE and not is_grpc(content_type):
        return _look_through(fields)
    timeout = None
    if places.timeout is not None:
        try:
            timeout = parse_timeout(fields[places.timeout][1])
        except ValueError:
            return _look_through(fields)
    return RequestHead(
        fields[places.path][1], places.metadata(fields), content_type, fields[places.authority][1], timeout
    )


def _is_metadata(name: str) -> bool:
    """Whether fields of this name travel on as metadata."""
    return name not in _OWN and (not name.startswith(_GRPC) or name in PASSED_GRPC_REQUEST)


def _look_through(fields: Fields) -> RequestHead | Refusal:
    """Read a list of any form. The first fault decides the refusal."""
    own = dict(fields)
    path = own.get(":path", "")
    metadata = []
    for field in fields:
        name = field[0]
        if not _is_metadata(name):
            continue
        # gRPC-Go refuses it too. Inside the function it would fail later and less clearly.
        if is_binary(name) and _BASE64_LIST(field[1]) is None:
            reason = f"the metadata {name[:60]} is not base64"
            return _malformed(reason, "bad_binary_metadata", path)
        metadata.append(field)
    if "host" in own and [name for name, _ in fields].count("host") > 1:
        return _malformed("more than one host", "bad_host", path)
    timeout: float | None = None
    if "grpc-timeout" in own:
        try:
            timeout = parse_timeout(own["grpc-timeout"])
        except ValueError as error:
            return _malformed(str(error), "bad_timeout", path)
    if own.get(":method") != "POST":
        status = Status(StatusCode.INTERNAL, "gRPC calls are POST requests")
        # RFC 9110 9.3.2: the answer to a HEAD has no body.
        return Refusal(405, status, "bad_method", path, (("allow", "POST"),), is_not_grpc=own.get(":method") != "HEAD")
    content_type = own.get("content-type", "")
    if not is_grpc(content_type):
        status = Status(StatusCode.INTERNAL, "this port speaks gRPC: content-type must be application/grpc")
        return Refusal(415, status, "bad_content_type", path, is_not_grpc=True)
    # gRFC A41: the authority decides, and a host header next to it is dropped.
    authority = own.get(":authority") or own.get("host", "")
    return RequestHead(path, tuple(metadata), content_type, authority, timeout)


def is_grpc(content_type: str) -> bool:
    """Whether the type is `application/grpc`, alone or followed by `+` or `;`. gRPC-Web and longer names are not."""
    return content_type == CONTENT_TYPE or content_type.startswith(("application/grpc+", "application/grpc;"))


def _malformed(message: str, kind: str, path: str) -> Refusal:
    return Refusal(400, Status(StatusCode.INTERNAL, message), kind, path)
