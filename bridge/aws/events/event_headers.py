"""A call's metadata as the HTTP headers of a request to a function: the rules for the way up, the same in every shape
of event.

Repeated names are joined with commas, as AWS does, and also listed. Fields that the bridge owns are set anew. Values
are visible ASCII.
"""

from __future__ import annotations

from msgspec.json import Encoder

from bridge.aws.events.event_body import BodyKind
from bridge.aws.events.event_context import MAX_KEY, MAX_REMEMBERED, Authority, read_authority
from bridge.rpc.call import CallFacts
from bridge.rpc.deadline import format_timeout
from bridge.rpc.hop import AMAZON, TRACE_ID, Action, Leg, forwarded_for, names
from bridge.rpc.metadata import Metadata, clean_value
from bridge.rpc.remembered import Remembered

REMADE = names(Leg.EVENT, Action.DROP, Action.ANEW)
"""Names whose values are ours or nobody's; bridge.rpc.hop has the reasons."""

SINGLE = names(Leg.EVENT, Action.JOIN)
"""Names that are one value to those who read them, however often they were sent."""

# As a function URL says it of itself: its port is always 443.
_FORWARDED = {"x-forwarded-proto": "https", "x-forwarded-port": "443"}

_NO_CODING = {"accept-encoding": "identity"}
"""Without it any content coding would do (RFC 9110 12.5.3), and functions that compress always would take it for a yes.
"""

_encode = Encoder().encode


class HeaderWriter:
    """Writes headers for one kind of body."""

    __slots__ = ("_authorities", "_content_types", "constant")

    def __init__(self, kind: BodyKind) -> None:
        self._authorities = Remembered(read_authority, most=MAX_REMEMBERED, largest=MAX_KEY)
        self._content_types = Remembered(kind.content_type, most=MAX_REMEMBERED, largest=MAX_KEY)
        self.constant: dict[str, str] = dict(kind.marks) | _FORWARDED | _NO_CODING
        """Headers of every request, which `write` leaves out."""

    def write(
        self, call: CallFacts, metadata: Metadata, authority: Authority, *, timeout: float | None
    ) -> tuple[dict[str, str], bool]:
        """Return the headers, and whether a name repeats in the metadata, so that `listed` says more than they do.

        `metadata` is the call's, as the function shall see it; `timeout`: seconds left. Values may still need
        `encode_headers`.
        """
        content_type = self._content_types[call.content_type]
        headers = dict(metadata)
        repeats = len(headers) != len(metadata)
        if repeats:
            headers = _joined(metadata)
        if not REMADE.isdisjoint(headers):
            headers = {name: value for name, value in headers.items() if name not in REMADE}
        earlier = headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = forwarded_for(earlier, call.peer)
        headers["host"] = authority.host
        headers["content-type"] = headers["accept"] = content_type
        if timeout is not None:
            headers["grpc-timeout"] = format_timeout(timeout)
        return headers, repeats

    def write_ready(
        self, call: CallFacts, metadata: Metadata, *, timeout: float | None
    ) -> tuple[Authority, dict[str, str]]:
        """Return the call's authority; the headers, which need nothing more. For events of which nothing is kept from
        call to call.
        """
        authority = self.authority_of(call)
        written, _ = self.write(call, metadata, authority, timeout=timeout)
        return authority, encode_headers(written)[0]

    def authority_of(self, call: CallFacts) -> Authority:
        return self._authorities[call.authority]

    def listed(self, metadata: Metadata, headers: dict[str, str]) -> dict[str, list[str]]:
        """Every header as a list of its values: an ASCII value may hold commas of its own, only this tells one from
        two.

        `headers`: what was written for this metadata.
        """
        values = {name: [value] for name, value in (self.constant | headers).items()}
        for name, parts in _gathered(metadata).items():
            if name in headers and name not in REMADE and name not in SINGLE:
                values[name] = [clean_value(part) for part in parts]
        return values


def client_headers(metadata: Metadata) -> dict[str, str]:
    """Return the client's metadata alone, a string a name, without names that are remade and those that are AWS's."""
    joined = _joined(metadata)
    return sanitized({name: value for name, value in joined.items() if name not in REMADE})


def encode_headers(headers: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """Return the headers with values that every runtime takes and no names that are AWS's. The same as JSON."""
    encoded = _encode(headers)
    if not needs_care(encoded):
        return headers, encoded
    headers = sanitized(headers)
    return headers, _encode(headers)


def needs_care(encoded: bytes) -> bool:
    """Whether there may be a value that not every runtime takes, or a name that is AWS's. Rare; seen in the JSON."""
    return (
        not encoded.isascii()
        or b"\\" in encoded  # an escape: a control character, a quote or a backslash
        or b"\x7f" in encoded
        or b'"x-amz' in encoded
    )


def sanitized(headers: dict[str, str]) -> dict[str, str]:
    """Values in visible ASCII, because one other character fails the whole event; of the names that are AWS's the trace
    id.
    """
    return {
        name: clean_value(value) for name, value in headers.items() if not name.startswith(AMAZON) or name == TRACE_ID
    }


def _joined(metadata: Metadata) -> dict[str, str]:
    # RFC 9113 8.2.3: pieces of a cookie are joined with semicolons.
    return {name: ("; " if name == "cookie" else ",").join(values) for name, values in _gathered(metadata).items()}


def _gathered(metadata: Metadata) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in metadata:
        values.setdefault(name, []).append(value)
    return values
