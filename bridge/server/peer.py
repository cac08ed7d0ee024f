"""Reads who is at the other end of a socket: the address and, after mutual TLS, the certificate in API
Gateway's terms.
"""

from __future__ import annotations

import ssl
from asyncio import Transport
from collections.abc import Iterable
from itertools import islice
from typing import Any

from bridge.rpc.call import ClientCertificate, Peer


def peer_of(transport: Transport) -> Peer:
    """Return the client's address and, if it showed one, its certificate."""
    name = transport.get_extra_info("peername")
    tls = transport.get_extra_info("ssl_object")
    return Peer(address_of(name), None if tls is None else _certificate_of(tls))


def address_of(name: object) -> str:
    """Return the address of a peer without its port, or `unix`. `name`: as sockets give it."""
    if isinstance(name, tuple):
        # A listener on "::" sees IPv4 clients in mapped form (RFC 4291 2.5.5.2).
        return str(name[0]).removeprefix("::ffff:")
    return "unknown" if name is None else "unix"  # None if the peer left before its address was read


def _certificate_of(tls: ssl.SSLObject) -> ClientCertificate | None:
    fields: dict[str, Any] = tls.getpeercert() or {}
    der = tls.getpeercert(binary_form=True)
    if not fields or der is None:
        return None  # the client sent no certificate, or was not asked for one
    return ClientCertificate(
        pem=ssl.DER_cert_to_PEM_cert(der),
        subject=_distinguished_name(fields["subject"]),
        issuer=_distinguished_name(fields["issuer"]),
        serial_number=_colon_hex(fields["serialNumber"]),
        not_before=fields["notBefore"],
        not_after=fields["notAfter"],
        uris=_first_two(value for kind, value in fields.get("subjectAltName", ()) if kind == "URI"),
        common_names=_first_two(value for part in fields["subject"] for key, value in part if key == "commonName"),
    )


def _first_two(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(islice(values, 2))


_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
}


def _distinguished_name(name: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """Return the name in the form of RFC 4514, most specific part first: `CN=client,O=Example`."""
    parts = ["+".join(f"{_SHORT_NAMES.get(key, key)}={_escape(value)}" for key, value in relative) for relative in name]
    return ",".join(reversed(parts))


def _escape(value: str) -> str:
    escaped = "".join(f"\\{letter}" if letter in ',+"\\<>;=' else letter for letter in value)
    if escaped[:1] in ("#", " "):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped.replace("\0", "\\00")


def _colon_hex(serial: str) -> str:
    digits = serial.lower().zfill(len(serial) + len(serial) % 2)
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
