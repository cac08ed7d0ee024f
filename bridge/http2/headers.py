"""Checks header lists by RFC 9113 8.2 (fields) and 8.3 (requests). Takes decoded fields and returns a verdict.

It knows neither compression nor streams nor gRPC: a request without gRPC can be well-formed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bridge.http2.events import Fields
from bridge.rpc.remembered import Remembered
from bridge.rpc.value import FrozenValue

FIELD_OVERHEAD = 32
"""Bytes that each field counts in addition to its name and value, in lists and in tables (RFC 9113 6.5.2, RFC 7541
4.1).
"""

_NAME = re.compile(r":?[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
# RFC 9110 5.5: a value may hold no control characters but HTAB. NUL, CR and LF are dangerous.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_DIGITS = re.compile(r"[0-9]{1,18}").fullmatch

_NOT_METADATA = frozenset(
    (
        ":method",
        ":scheme",
        ":path",
        ":authority",
        "host",
        "te",
        "content-type",
        "content-length",
        "user-agent",
        "accept-encoding",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-accept-encoding",
        "grpc-message-type",
        "grpc-previous-rpc-attempts",
    ),
)
"""Names that HTTP/2 and gRPC libraries send themselves, once each. All others are the call's own metadata."""

# The kinds of special names. Each pseudo-header has a bit. CONNECT has neither of the last two.
_METHOD, _AUTHORITY, _SCHEME, _PATH, _ORDINARY, _CONTENT_LENGTH, _TE, _FORBIDDEN = (1 << bit for bit in range(8))
_RULES = {
    ":method": _METHOD,
    ":authority": _AUTHORITY,
    ":scheme": _SCHEME,
    ":path": _PATH,
    "content-length": _CONTENT_LENGTH,
    "te": _TE,  # RFC 9113 8.2.2: with no other value than "trailers"
    # RFC 9113 8.2.2: these speak of a connection that HTTP/2 frames have replaced.
    "connection": _FORBIDDEN,
    "proxy-connection": _FORBIDDEN,
    "keep-alive": _FORBIDDEN,
    "transfer-encoding": _FORBIDDEN,
    "upgrade": _FORBIDDEN,
    ":status": _FORBIDDEN,
}
_RARE = {name for name, rule in _RULES.items() if rule in (_FORBIDDEN, _CONTENT_LENGTH)}
"""Names that need a closer look."""
_REQUIRED = _METHOD | _SCHEME | _PATH
_PSEUDO = _REQUIRED | _AUTHORITY
_CONNECT = _METHOD | _AUTHORITY


class HeaderList(FrozenValue, frozen=True):
    """One decoded header block."""

    fields: Fields
    flaw: str | None = None
    """Why one of its fields may not be in any list (RFC 9113 8.2.1)."""
    fault: str | None = None
    """Why it is malformed as a request: its flaw, or the result of `request_fault`."""
    content_length: int | None = None
    excess: str = ""
    """Which limit the list passed and by how much, in words for the client. `fields` is then empty. It is empty for a
    list within the limits.
    """
    work: int = 0
    """The cost of reading a list above the limits, in bytes of a usual header block."""


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
    """How many entries are the call's own metadata. The first entry of a name that libraries send is not counted."""
    return len(fields) - len(_NOT_METADATA.intersection([name for name, _ in fields]))


SPACE = " \t"
"""What is taken off both ends of a value."""


def stripped(value: str) -> str:
    """Return the value without surrounding spaces. RFC 9113 8.2.1 forbids them, but gRPC fails no call for them."""
    return value.strip(SPACE)


def flaw_in(fields: Fields) -> str | None:
    """Return the first fault of any single field."""
    for name, _ in fields:
        if flaw := name_flaw(name):
            return flaw
    return value_flaw_in(fields)


def value_flaw_in(fields: Fields) -> str | None:
    """Return the first fault of any value."""
    for _, value in fields:
        if flaw := value_flaw(value):
            return flaw
    return None


class Shape(FrozenValue, frozen=True):
    """What the names of a header list say about it, whatever their values are. Names repeat from call to call, so they
    are checked once.
    """

    flaw: str | None
    """Why no list may have one of these names."""
    is_usual: bool
    """Whether only the values of the fields below can make a request with these names malformed."""
    required: tuple[int, int, int] = (0, 0, 0)
    """Where `:method`, `:scheme` and `:path` are. Their values may not be empty."""
    te: int | None = None
    """Where `te` is, if it is in the list."""


def _shape_of(names: tuple[str, ...]) -> Shape:
    for name in names:
        if flaw := name_flaw(name):
            return Shape(flaw, is_usual=False)
    if not _are_usual(names):
        return Shape(None, is_usual=False)
    required = (names.index(":method"), names.index(":scheme"), names.index(":path"))
    return Shape(None, is_usual=True, required=required, te=names.index("te") if "te" in names else None)


def _are_usual(names: tuple[str, ...]) -> bool:
    """Whether the names are those of a common gRPC request: pseudo-headers in front, each once, no rare names."""
    pseudo, ordinary = (names[:4], names[4:]) if ":authority" in names else (names[:3], names[3:])
    expected = {":method", ":scheme", ":path", ":authority"} if len(pseudo) == 4 else {":method", ":scheme", ":path"}
    return (
        {*pseudo} == expected
        and _RARE.isdisjoint(ordinary)
        and not any(name[0] == ":" for name in ordinary)
        and ordinary.count("te") <= 1
    )


def size_of_names(names: tuple[str, ...]) -> int:
    """Bytes of a list of names, as limits count them."""
    return sum(map(len, names)) + FIELD_OVERHEAD * len(names)


_SHAPES = Remembered(_shape_of, most=256, largest=2 << 10, size_of=size_of_names)
"""By the names of a list."""


def checked_request(fields: Fields, flaw: str | None = None) -> HeaderList:
    """Return the list with its verdict as a request (RFC 9113 8.3.1) and its content-length. `flaw` is the fault of a
    single value.
    """
    return checked_by_names(tuple([name for name, _ in fields]), fields, flaw)


def checked_by_names(names: tuple[str, ...], fields: Fields, flaw: str | None) -> HeaderList:
    """See checked_request. `names` are those of the fields."""
    shape = _SHAPES[names]
    flaw = shape.flaw or flaw
    if flaw is not None:
        return HeaderList(fields, flaw, flaw)
    if shape.is_usual:
        method, scheme, path = shape.required
        te = shape.te
        if fields[method][1] and fields[scheme][1] and fields[path][1] and (te is None or fields[te][1] == "trailers"):
            return HeaderList(fields)
    return _looked_through(fields)


def _looked_through(fields: Fields) -> HeaderList:
    """Return the verdict on a list whose single fields are sound."""
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


def trailers_fault(fields: Fields) -> str | None:
    """Why these fields cannot be trailers (RFC 9113 8.1)."""
    for name, _ in fields:
        if _RULES.get(name, _ORDINARY) & (_PSEUDO | _FORBIDDEN):
            return f"a field that has no place in trailers: {name}"
    return None


_STATUS = re.compile(r"[1-9][0-9]{2}").fullmatch
"""Statuses above 599 do not exist (RFC 9110 15). gRPC's mapping of HTTP statuses turns them into UNKNOWN."""


def response_fault(fields: Fields) -> str | None:
    """Why these fields cannot open a response (RFC 9113 8.3.2): `:status`, once and in front, is its only
    pseudo-header.

    Fields about a connection are accepted. Servers behind old proxies send them, and clients never see them.
    """
    if not fields or fields[0][0] != ":status" or _STATUS(fields[0][1]) is None:
        return "a response whose first field is no valid :status"
    return response_trailers_fault(fields[1:])


def response_trailers_fault(fields: Fields) -> str | None:
    """Why these fields cannot be the trailers of a response: they hold a pseudo-header."""
    for name, _ in fields:
        if name[0] == ":":
            return f"a pseudo-header in a wrong place: {name}"
    return None
