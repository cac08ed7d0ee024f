"""What a header list must be: RFC 9113 8.2 (fields) and 8.3 (requests). Decoded fields in, a verdict out.

Knows nothing of compression or of streams, and nothing of gRPC: a request that is no gRPC call is well-formed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bridge.http2.events import Fields
from bridge.rpc.value import Value

FIELD_OVERHEAD = 32
"""What each field counts on top of its name and value, in lists and in tables (RFC 9113 6.5.2, RFC 7541 4.1)."""

_NAME = re.compile(r":?[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
# RFC 9110 5.5: control characters other than HTAB have no place in a value; NUL, CR and LF are dangerous.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_DIGITS = re.compile(r"[0-9]{1,18}").fullmatch

_NOT_METADATA = frozenset(
    (":method", ":scheme", ":path", ":authority", "host", "te", "content-type", "content-length", "user-agent", "accept-encoding",
     "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-message-type", "grpc-previous-rpc-attempts"),
)  # fmt: skip
"""Names that HTTP/2 and gRPC libraries send by themselves, once each. All others are the call's own metadata."""

# What is special about a name. Pseudo-headers have a bit each; CONNECT has none of the last two.
_METHOD, _AUTHORITY, _SCHEME, _PATH, _ORDINARY, _CONTENT_LENGTH, _TE, _FORBIDDEN = (
    1 << bit for bit in range(8)
)
_RULES = {
    ":method": _METHOD, ":authority": _AUTHORITY, ":scheme": _SCHEME, ":path": _PATH,
    "content-length": _CONTENT_LENGTH,
    "te": _TE,  # RFC 9113 8.2.2: with no other value than "trailers"
    # RFC 9113 8.2.2: these speak of a connection that HTTP/2 frames have replaced.
    "connection": _FORBIDDEN, "proxy-connection": _FORBIDDEN, "keep-alive": _FORBIDDEN, "transfer-encoding": _FORBIDDEN,
    "upgrade": _FORBIDDEN,
    ":status": _FORBIDDEN,
}  # fmt: skip
_RARE = {name for name, rule in _RULES.items() if rule in (_FORBIDDEN, _CONTENT_LENGTH)}
"""Names that need a closer look."""
_REQUIRED = _METHOD | _SCHEME | _PATH
_PSEUDO = _REQUIRED | _AUTHORITY
_CONNECT = _METHOD | _AUTHORITY


class HeaderList(Value, frozen=True):
    """One decoded header block."""

    fields: Fields
    flaw: str | None = None
    """Why a field of it may not be in any list (RFC 9113 8.2.1)."""
    fault: str | None = None
    """Why it is malformed as a request: its flaw, or what `request_fault` says."""
    content_length: int | None = None
    excess: str = ""
    """Which limit the list passed and by how much, as a client reads it; `fields` is empty then. Empty for a list within the limits."""
    work: int = 0
    """What it cost to read a list above the limits, as so many bytes of a usual header block."""


def name_flaw(name: str) -> str | None:
    """Why no field may have this name (RFC 9113 8.2.1)."""
    if _NAME(name) is None:
        return "a field name that is empty or holds upper-case or forbidden characters"
    if name[0] == ":" and name not in _RULES:
        return "an unknown pseudo-header"
    return None


def value_flaw(value: str) -> str | None:
    """Why no field may have this value."""
    if value.isprintable() or _CONTROL(value) is None:
        return None
    return "a field value that holds control characters"


def metadata_count(fields: Sequence[tuple[str, str]]) -> int:
    """How many entries are the call's own metadata. A name that a library sends by itself is left out once, not each time."""
    return len(fields) - len(_NOT_METADATA.intersection([name for name, _ in fields]))


def stripped(value: str) -> str:
    """The value without the spaces around it: RFC 9113 8.2.1 forbids them, gRPC says not to fail a call over them."""
    return value.strip(" \t")


def flaw_in(fields: Fields) -> str | None:
    """The first thing that is wrong with any field by itself."""
    for name, value in fields:
        if flaw := name_flaw(name) or value_flaw(value):
            return flaw
    return None


def checked_request(fields: Fields, flaw: str | None = None) -> HeaderList:
    """The list with its verdict as a request (RFC 9113 8.3.1) and its content-length. `flaw`: what its fields by themselves showed."""
    if flaw is not None:
        return HeaderList(fields, flaw, flaw)
    return HeaderList(fields) if _is_usual(fields) else _looked_through(fields)


def _looked_through(fields: Fields) -> HeaderList:
    """The verdict on fields that are sound by themselves."""
    seen = 0
    content_length: int | None = None
    for name, value in fields:
        rule = _RULES.get(name)
        if rule is None:
            seen |= _ORDINARY
            continue
        if rule & _PSEUDO:
            if seen & (rule | _ORDINARY):
                return HeaderList(fields, None, f"{name} twice or behind ordinary fields")
            if value:
                seen |= rule
            continue
        seen |= _ORDINARY
        if rule == _FORBIDDEN or (rule == _TE and value.lower() != "trailers"):
            return HeaderList(fields, None, f"a field that has no place in a request: {name}")
        if rule == _CONTENT_LENGTH:
            if _DIGITS(value) is None or content_length not in (None, int(value)):
                return HeaderList(fields, None, "a content-length that is not one number")
            content_length = int(value)
    if seen & _REQUIRED != _REQUIRED and seen & _PSEUDO != _CONNECT:
        return HeaderList(fields, None, ":method, :scheme or :path missing or empty")
    return HeaderList(fields, None, None, content_length)


def _is_usual(fields: Fields) -> bool:
    """Whether these are sound at a glance, as what gRPC clients send is: no name twice, the pseudo-headers in front, nothing rare."""
    values = dict(fields)
    return (
        len(values) == len(fields) > 3
        and _RARE.isdisjoint(values)
        and fields[0][0][0] == fields[1][0][0] == fields[2][0][0] == ":"
        and (fields[3][0][0] == ":") is (":authority" in values)
        and bool(values.get(":method") and values.get(":scheme") and values.get(":path"))
        and values.get("te", "trailers") == "trailers"
    )


def trailers_fault(fields: Fields) -> str | None:
    """Why these are no trailers (RFC 9113 8.1)."""
    for name, _ in fields:
        if _RULES.get(name, _ORDINARY) & (_PSEUDO | _FORBIDDEN):
            return f"a field that has no place in trailers: {name}"
    return None


_STATUS = re.compile(r"[1-9][0-9]{2}").fullmatch
"""Those above 599 do not exist (RFC 9110 15), and are left to gRPC's mapping of HTTP statuses: it makes UNKNOWN of them."""


def response_fault(fields: Fields) -> str | None:
    """Why these are no head of a response (RFC 9113 8.3.2): `:status`, once and in front, is its only pseudo-header.

    Fields that speak of a connection are let pass. Servers behind old proxies send them, and no client is shown them.
    """
    if not fields or fields[0][0] != ":status" or _STATUS(fields[0][1]) is None:
        return "a response whose first field is no valid :status"
    return response_trailers_fault(fields[1:])


def response_trailers_fault(fields: Fields) -> str | None:
    """Why these are no trailers of a response: they hold a pseudo-header."""
    for name, _ in fields:
        if name[0] == ":":
            return f"a pseudo-header in a wrong place: {name}"
    return None
