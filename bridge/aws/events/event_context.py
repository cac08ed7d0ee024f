"""Who calls, under which name, and when, as events tell it: authorities, addresses, certificates, request ids and
times.

What does not change from call to call is made once and remembered; clients choose what that is, so it is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bridge.rpc.call import ClientCertificate
from bridge.rpc.value import FrozenValue

MAX_REMEMBERED = 1024
MAX_KEY = 512
"""Entries of a cache, and characters of a key. Clients choose the keys: a full cache is emptied, a long key not kept.
"""


# -- names -------------------------------------------------------------------------------------------------------------


class Authority(FrozenValue, frozen=True):
    """A call's authority as an event carries it."""

    host: str
    """For the `host` header: with a port, if the client named one."""
    domain: str
    prefix: str
    """The domain's first label."""


_HOST = re.compile(r"([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?)(?::(\d{1,5}))?").fullmatch
_NUMBER = re.compile(r"\d+|0[xX][0-9A-Fa-f]*").fullmatch
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}").fullmatch
_MAX_PORT = 65_535


def read_authority(authority: str) -> Authority:
    """Return a plain host and port as they are; anything else is `localhost`: odd ones crash common runtimes."""
    found = _HOST(authority)
    if found is None or not _is_url_host(found[1]) or int(found[2] or 0) > _MAX_PORT:
        return Authority("localhost", "localhost", "localhost")
    return Authority(authority, found[1], found[1].partition(".")[0])


def _is_url_host(host: str) -> bool:
    """Whether URL parsers take it: a host that ends in a number must be an IPv4 address (WHATWG URL)."""
    last = host.rstrip(".").rpartition(".")[2]
    return _NUMBER(last) is None or _IPV4(host) is not None


def http_context(  # noqa: PLR0913 - the fields of AWS's object
    *,
    account: str,
    api: str,
    caller: Mapping[str, object],
    domain: str,
    prefix: str,
    method: str,
    source: str,
    protocol: str,
    user_agent: str,
) -> dict[str, Any]:
    """Return the `requestContext` of format 2.0 as far as it is the same for all requests of a caller.

    `caller` says how it was identified: `authentication` or `authorizer`. `path` belongs at the end of `http`, the last
    member; the request's id and times follow.
    """
    return {
        "accountId": account,
        "apiId": api,
        **caller,
        "domainName": domain,
        "domainPrefix": prefix,
        "http": {"method": method, "protocol": protocol, "sourceIp": source, "userAgent": user_agent},
    }


def client_cert(certificate: ClientCertificate) -> dict[str, object]:
    """Return a verified client certificate as API Gateway's `clientCert`."""
    return {
        "clientCertPem": certificate.pem,
        "subjectDN": certificate.subject,
        "issuerDN": certificate.issuer,
        "serialNumber": certificate.serial_number,
        "validity": {"notBefore": certificate.not_before, "notAfter": certificate.not_after},
    }


# -- ids and times -----------------------------------------------------------------------------------------------------

# Not %b, which speaks the locale's language.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def event_time(now: float) -> str:
    """Unix seconds as access logs and events write them: `12/Mar/2026:19:03:58 +0000`."""
    at = datetime.fromtimestamp(now, UTC)
    return f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"


class Stamps:
    """Request ids, and times as access logs write them."""

    __slots__ = ("_count", "_instance", "_second", "_time")

    def __init__(self, instance: str) -> None:
        """`instance` begins every id: choose it at random, so that the ids of two processes differ."""
        self._instance = instance
        self._count = 0
        self._second = -1
        self._time = ""

    def stamp(self, now: float) -> tuple[str, str]:
        """Return a new request id, and the time: `12/Mar/2026:19:03:58 +0000`."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._time = event_time(second)
        self._count += 1
        return f"{self._instance}-{self._count:x}", self._time
