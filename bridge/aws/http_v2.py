"""The function-URL event (payload format 2.0 of HTTP APIs): a call becomes the JSON that a function gets.

In go a call with its gathered body, the time left and the wall time; out come the bytes for Invoke. What comes back is read by
http_reply and the codecs. Any function that serves gRPC-Web behind a function URL takes this event, unmodified.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from datetime import UTC, datetime
from typing import TypeVar

from msgspec.json import Encoder

from bridge.aws.invoke import MAX_REQUEST
from bridge.rpc.call import Call, ClientCertificate, Peer
from bridge.rpc.deadline import format_timeout
from bridge.rpc.errors import PayloadTooLarge
from bridge.rpc.metadata import Metadata, clean_value
from bridge.rpc.value import Value

_REMADE = frozenset(
    ("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "expect", "grpc-timeout", "host", "te",
     "x-forwarded-client-cert", "x-forwarded-port", "x-forwarded-proto", "x-grpc-web"),
)  # fmt: skip
"""Names whose values are ours or nobody's. Common runtimes build a URL of host and x-forwarded-proto and crash on odd ones; a
content coding would change the body; x-forwarded-client-cert would vouch for a certificate that nobody has seen."""

_AMAZON = "x-amz"
_TRACE_ID = "x-amzn-trace-id"

# As a function URL says it of itself: its port is always 443.
_CONSTANT = {"x-grpc-web": "1", "x-forwarded-proto": "https", "x-forwarded-port": "443"}

_MAX_REMEMBERED = 1024
_MAX_KEY = 512
"""Entries of a cache, and characters of a key. Clients choose the keys: a full cache is emptied, a long key not kept."""

_encode = Encoder().encode


class EventEncoder:
    """Encodes calls as events; what does not change from call to call is encoded once."""

    __slots__ = ("_authorities", "_count", "_instance", "_paths", "_second", "_time")

    def __init__(self, instance: str) -> None:
        """`instance` begins every event's requestId: choose it at random, so that the ids of two processes differ."""
        self._instance = instance.encode()
        self._count = 0
        self._paths: dict[str, tuple[bytes, bytes]] = {}
        self._authorities: dict[str, _Authority] = {}
        self._second = -1
        self._time = b""

    def encode(
        self, call: Call, metadata: Metadata, body: bytes, *, timeout: float | None, now: float
    ) -> bytes:
        """The event. `metadata` and `body` are the call's, as the function shall see them; `timeout`: seconds left for the
        call; `now`: wall time. Raises PayloadTooLarge.
        """
        before_headers, path = self._path(call.path)
        authority = self._authority(call.authority)
        source = _source_of(call.peer)
        headers = _client_headers(metadata)
        forwarded = headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = f"{forwarded}, {source}" if forwarded else source
        headers["host"] = authority.host
        headers["content-type"] = headers["accept"] = _web_type(call.content_type)
        if timeout is not None:
            headers["grpc-timeout"] = format_timeout(timeout)
        encoded = _encode(headers)
        if _needs_care(encoded):
            headers = _careful(headers)
            encoded = _encode(headers)
        self._count += 1
        start = b"".join(
            (
                before_headers,
                encoded[1:],
                _multi_value_headers(metadata, headers),
                b',"requestContext":{"accountId":"anonymous","apiId":"bridge",',
                authority.domain,
                _authentication(call.peer.certificate),
                b',"http":{"method":"POST","path":',
                path,
                b',"protocol":"HTTP/1.1","sourceIp":"%b","userAgent":' % source.encode(),
                _encode(headers.get("user-agent", "")),
                b'},"requestId":"%b-%x","routeKey":"$default","stage":"$default","time":"%b","timeEpoch":%d}'
                % (self._instance, self._count, self._time_at(now), now * 1000),
                b',"isBase64Encoded":true,"body":"',
            )
        )
        size = len(start) + 4 * ((len(body) + 2) // 3) + 2
        if size >= MAX_REQUEST:
            raise PayloadTooLarge(
                f"the request of {len(body)} bytes makes an event of {size} bytes, and Lambda takes"
                f" at most {MAX_REQUEST - 1}: send less in one call"
            )
        return b"".join((start, b2a_base64(body, newline=False), b'"}'))

    def _path(self, path: str) -> tuple[bytes, bytes]:
        """What stands before the headers of this path's events; the path itself, encoded."""
        known = self._paths.get(path)
        if known is not None:
            return known
        encoded = _encode(path)
        start = (
            b'{"version":"2.0","routeKey":"$default","rawPath":%b,"rawQueryString":"","headers":%b,'
        )
        made = start % (encoded, _encode(_CONSTANT)[:-1]), encoded
        _remember(self._paths, path, made)
        return made

    def _authority(self, authority: str) -> _Authority:
        known = self._authorities.get(authority)
        if known is not None:
            return known
        made = _read_authority(authority)
        _remember(self._authorities, authority, made)
        return made

    def _time_at(self, now: float) -> bytes:
        """`12/Mar/2026:19:03:58 +0000`, made once a second."""
        second = int(now)
        if second != self._second:
            at = datetime.fromtimestamp(second, UTC)
            self._second = second
            self._time = f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000".encode()
        return self._time


# Not %b, which speaks the locale's language.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


_Made = TypeVar("_Made")


def _remember(cache: dict[str, _Made], key: str, made: _Made) -> None:
    if len(key) > _MAX_KEY:
        return
    if len(cache) >= _MAX_REMEMBERED:
        cache.clear()
    cache[key] = made


# -- headers ---------------------------------------------------------------------------------------------------------------


def message_format_of(content_type: str) -> str:
    """The `X` of `application/grpc+X`; `proto` if it has none. Parameters do not count."""
    if content_type == "application/grpc":
        return "proto"
    return content_type.partition(";")[0].partition("+")[2].strip().lower() or "proto"


def _web_type(content_type: str) -> str:
    return f"application/grpc-web+{message_format_of(content_type)}"


def _client_headers(metadata: Metadata) -> dict[str, str]:
    """The client's metadata, repeated names joined with commas as AWS does, without the names that are remade."""
    headers = dict(metadata)
    if len(headers) != len(metadata):
        headers = {name: ",".join(values) for name, values in _listed(metadata).items()}
    if not _REMADE.isdisjoint(headers):
        headers = {name: value for name, value in headers.items() if name not in _REMADE}
    return headers


def _listed(metadata: Metadata) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in metadata:
        values.setdefault(name, []).append(value)
    return values


def _needs_care(encoded: bytes) -> bool:
    """Whether there may be a value that not every runtime takes, or a name that is AWS's: rare, and cheapest seen in the JSON."""
    return (
        not encoded.isascii()
        or b"\\" in encoded  # an escape: a control character, a quote or a backslash
        or b"\x7f" in encoded
        or b'"x-amz' in encoded
    )


def _careful(headers: dict[str, str]) -> dict[str, str]:
    """Values in visible ASCII, because one other character fails the whole event; of the names that are AWS's the trace id."""
    return {
        name: clean_value(value)
        for name, value in headers.items()
        if not name.startswith(_AMAZON) or name == _TRACE_ID
    }


def _multi_value_headers(metadata: Metadata, headers: dict[str, str]) -> bytes:
    """`multiValueHeaders`, of all headers, for calls that repeat a name; for others `headers` says the same.

    An ASCII value may hold commas of its own, so that only this tells one value from two.
    """
    if len(dict(metadata)) == len(metadata):
        return b""
    values = {name: [value] for name, value in (_CONSTANT | headers).items()}
    for name, parts in _listed(metadata).items():
        if name in headers and name not in _REMADE and name != "x-forwarded-for":
            values[name] = [clean_value(part) for part in parts]
    return b',"multiValueHeaders":' + _encode(values)


# -- request context --------------------------------------------------------------------------------------------------------


class _Authority(Value, frozen=True):
    """A call's authority as the event carries it."""

    host: str
    domain: bytes
    """`domainName` and `domainPrefix`, encoded."""


_HOST = re.compile(r"([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?)(?::(\d{1,5}))?").fullmatch
_NUMBER = re.compile(r"\d+|0[xX][0-9A-Fa-f]*").fullmatch
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}").fullmatch
_MAX_PORT = 65_535


def _read_authority(authority: str) -> _Authority:
    found = _HOST(authority)
    if found is None or not _is_url_host(found[1]) or int(found[2] or 0) > _MAX_PORT:
        authority = domain = "localhost"
    else:
        domain = found[1]
    prefix = domain.partition(".")[0]
    return _Authority(authority, b'"domainName":"%b","domainPrefix":"%b"' % (domain.encode(), prefix.encode()))  # fmt: skip


def _is_url_host(host: str) -> bool:
    """Whether URL parsers take it: a host that ends in a number must be an IPv4 address (WHATWG URL, "host parsing")."""
    last = host.rstrip(".").rpartition(".")[2]
    return _NUMBER(last) is None or _IPV4(host) is not None


def _source_of(peer: Peer) -> str:
    """The peer's IP address; who comes over a Unix socket is on this machine."""
    return "127.0.0.1" if peer.address == "unix" else peer.address


def _authentication(certificate: ClientCertificate | None) -> bytes:
    """The verified client certificate, in the shape of an API Gateway with mutual TLS."""
    if certificate is None:
        return b""
    shape = {
        "clientCertPem": certificate.pem,
        "subjectDN": certificate.subject,
        "issuerDN": certificate.issuer,
        "serialNumber": certificate.serial_number,
        "validity": {"notBefore": certificate.not_before, "notAfter": certificate.not_after},
    }
    return b',"authentication":{"clientCert":%b}' % _encode(shape)
