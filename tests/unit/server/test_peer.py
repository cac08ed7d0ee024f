"""The peer: addresses, and certificates in API Gateway's terms."""

import asyncio
from typing import Any

import pytest

from bridge.rpc.call import Peer
from bridge.server.peer import peer_of


class Transport(asyncio.Transport):
    def __init__(self, **extra: Any) -> None:
        super().__init__(extra)


class Tls:
    """As ssl.SSLObject tells of a verified client."""

    def __init__(self, fields: dict[str, Any] | None, der: bytes | None = b"der") -> None:
        self._fields = fields
        self._der = der

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self._der if binary_form else self._fields


def _certificate(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "subject": (
            (("countryName", "DE"),),
            (("organizationName", "Example"),),
            (("commonName", "client"),),
        ),
        "issuer": ((("commonName", "Example CA"),),),
        "serialNumber": "ABC",
        "notBefore": "May 28 12:30:02 2019 GMT",
        "notAfter": "Aug  5 09:36:04 2021 GMT",
    }
    return plain | fields


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("10.1.2.3", 5000), "10.1.2.3"),
        (("2001:db8::1", 5000, 0, 0), "2001:db8::1"),
        (("::ffff:10.1.2.3", 5000, 0, 0), "10.1.2.3"),
        ("", "unix"),
        (b"", "unix"),
        (None, "unknown"),
    ],
)
def test_address_is_without_its_port(name: object, address: str) -> None:
    """IPv4 clients of an IPv6 listener keep their own form; Unix sockets have no address."""
    assert Peer(address) == peer_of(Transport(peername=name))


def test_certificate_is_told_as_api_gateway_tells_it() -> None:
    """Names most specific first, the serial number in pairs."""
    peer = peer_of(Transport(peername=("10.1.2.3", 1), ssl_object=Tls(_certificate())))
    certificate = peer.certificate

    assert certificate is not None
    assert "CN=client,O=Example,C=DE" == certificate.subject
    assert "CN=Example CA" == certificate.issuer
    assert "0a:bc" == certificate.serial_number
    assert "May 28 12:30:02 2019 GMT" == certificate.not_before
    assert "Aug  5 09:36:04 2021 GMT" == certificate.not_after
    assert certificate.pem.startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(("fields", "der"), [({}, None), ({}, b"der"), (None, None)])
def test_client_without_a_verified_certificate_has_none(fields: dict[str, Any] | None, der: bytes | None) -> None:
    """None was sent, or none was asked for."""
    peer = peer_of(Transport(peername=("10.1.2.3", 1), ssl_object=Tls(fields, der)))

    assert Peer("10.1.2.3") == peer


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "CN=plain"),
        ("a,b=c+d", "CN=a\\,b\\=c\\+d"),
        ('say "hi"; <x>\\', 'CN=say \\"hi\\"\\; \\<x\\>\\\\'),
        ("#1", "CN=\\#1"),
        (" both ", "CN=\\ both\\ "),
        (" ", "CN=\\ "),
        ("nul\0", "CN=nul\\00"),
    ],
)
def test_name_cannot_pretend_to_be_two(value: str, written: str) -> None:
    """RFC 4514 2.4: what separates parts is escaped."""
    subject = ((("commonName", value),),)
    peer = peer_of(Transport(ssl_object=Tls(_certificate(subject=subject))))

    assert peer.certificate is not None
    assert written == peer.certificate.subject


def test_parts_of_one_relative_name_stay_together() -> None:
    """RFC 4514 2.2: joined by a plus; names without a short form are spelt out."""
    subject = ((("commonName", "a"), ("emailAddress", "a@b")), (("organizationName", "O"),))
    peer = peer_of(Transport(ssl_object=Tls(_certificate(subject=subject))))

    assert peer.certificate is not None
    assert "O=O,CN=a+emailAddress=a@b" == peer.certificate.subject


def test_certificate_tells_its_uris_and_common_names() -> None:
    """No more than two of each, because a second one makes them useless as a name."""
    names = tuple(("URI", f"spiffe://a/{number}") for number in range(1000))
    fields = _certificate(
        subject=((("commonName", "one"), ("commonName", "two")), (("commonName", "three"),)),
        subjectAltName=(("DNS", "x"), ("email", "a@b"), *names),
    )
    certificate = peer_of(Transport(peername=("10.0.0.1", 1), ssl_object=Tls(fields))).certificate

    assert certificate is not None
    assert ("spiffe://a/0", "spiffe://a/1") == certificate.uris
    assert ("one", "two") == certificate.common_names
