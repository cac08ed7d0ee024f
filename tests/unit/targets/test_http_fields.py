from __future__ import annotations

from hashlib import sha256
from ssl import PEM_cert_to_DER_cert
from urllib.parse import unquote

import pytest
import trustme

from bridge.aws.events.event_body import GRPC_WEB
from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.errors import NoRoute
from bridge.rpc.metadata import Metadata
from bridge.targets.http_fields import request_fields, request_path
from tests.support.fakes import RecordingCall


def fields_of(
    *metadata: tuple[str, str],
    call: RecordingCall | None = None,
    own: dict[str, str] | None = None,
    timeout: float | None = None,
    is_signed: bool = False,
) -> Metadata:
    call = call or RecordingCall(metadata=metadata)
    return request_fields(
        call,
        call.metadata,
        kind=GRPC_WEB,
        timeout=timeout,
        own=own or {},
        is_signed=is_signed,
    )


def values(fields: Metadata, name: str) -> list[str]:
    return [value for key, value in fields if key == name]


def test_a_call_without_metadata() -> None:
    assert (
        ("content-type", "application/grpc-web+proto"),
        ("accept", "application/grpc-web+proto"),
        ("accept-encoding", "identity"),
        ("x-grpc-web", "1"),
        ("grpc-timeout", "1500m"),
        ("user-agent", "grpc-lambda-bridge"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost:50051"),
    ) == fields_of(timeout=1.5)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("application/grpc", "application/grpc-web+proto"),
        ("application/grpc+json; charset=utf-8", "application/grpc-web+json"),
    ],
)
def test_content_type_is_mapped(sent: str, expected: str) -> None:
    fields = fields_of(call=RecordingCall(content_type=sent))

    assert [expected] == values(fields, "content-type") == values(fields, "accept")


def test_metadata_goes_up_as_fields() -> None:
    """A repeated name is a repeated field, in order; -bin values stay as they are."""
    fields = fields_of(("x-a", "1"), ("x-bin", "AAE"), ("x-a", "2, 3"), ("grpc-encoding", "gzip"))

    assert ["1", "2, 3"] == values(fields, "x-a")
    assert ["AAE"] == values(fields, "x-bin")
    assert ["gzip"] == values(fields, "grpc-encoding")


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-date",
        "x-amz-security-token",
        "x-amzn-oidc-identity",
        "x-amz-content-sha256",
        "expect",
        "content-encoding",
        "x-forwarded-client-cert",
        "x-forwarded-proto",
        "proxy-authorization",
    ],
)
def test_names_that_are_not_the_clients_to_set(name: str) -> None:
    """They would speak for AWS, for a proxy, or for the framing."""
    assert [] == values(fields_of((name, "x")), name)


def test_the_trace_id_is_passed() -> None:
    assert ["Root=1-2"] == values(fields_of(("x-amzn-trace-id", "Root=1-2")), "x-amzn-trace-id")


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\0b", "caf\u00e9", "a\tb"])
def test_values_are_visible_ascii(value: str) -> None:
    """None can end its line."""
    (sent,) = values(fields_of(("x-a", value)), "x-a")

    assert sent.isascii()
    assert sent.isprintable()


def test_user_agent_and_cookie_are_one_field_each() -> None:
    """HTTP/2 may cut a cookie into pieces (RFC 9113 8.2.3)."""
    fields = fields_of(("user-agent", "grpc-go/1.70"), ("cookie", "a=1"), ("cookie", "b=2"))

    assert ["grpc-go/1.70 grpc-lambda-bridge"] == values(fields, "user-agent")
    assert ["a=1; b=2"] == values(fields, "cookie")


def test_who_called_whom() -> None:
    """Our peer is appended; the client's authority takes the place of what it says itself."""
    call = RecordingCall(
        metadata=(("x-forwarded-for", "10.0.0.1"), ("x-forwarded-host", "spoofed")),
        peer=Peer("10.0.0.2"),
        authority="greeter.example:443",
    )
    fields = fields_of(call=call)

    assert ["10.0.0.1, 10.0.0.2"] == values(fields, "x-forwarded-for")
    assert ["greeter.example:443"] == values(fields, "x-forwarded-host")


def test_a_call_without_authority_over_a_socket() -> None:
    fields = fields_of(call=RecordingCall(peer=Peer("unix"), authority=""))

    assert ["127.0.0.1"] == values(fields, "x-forwarded-for")
    assert [] == values(fields, "x-forwarded-host")


def test_a_verified_certificate_is_told() -> None:
    """As Envoy writes it, and only ours: what the client claims is removed."""
    pem = trustme.CA().cert_pem.bytes().decode()
    certificate = ClientCertificate(pem, 'CN=a "b",O=c\\d', "CN=ca", "1", "then", "later")
    call = RecordingCall(metadata=(("x-forwarded-client-cert", "Hash=forged"),), peer=Peer("10.0.0.2", certificate))
    (value,) = values(fields_of(call=call), "x-forwarded-client-cert")
    digest, cert, subject = value.split(";")

    assert f"Hash={sha256(PEM_cert_to_DER_cert(pem)).hexdigest()}" == digest
    assert pem == unquote(cert.removeprefix('Cert="').removesuffix('"'))
    assert r'Subject="CN=a \"b\",O=c\\d"' == subject


def test_authorization_is_passed_unless_ours_is_sent() -> None:
    sent = (("authorization", "Bearer x"), ("x-forwarded-authorization", "forged"))

    assert ["Bearer x"] == values(fields_of(*sent), "authorization")
    signed = fields_of(*sent, is_signed=True)
    assert [] == values(signed, "authorization")
    assert ["Bearer x"] == values(signed, "x-forwarded-authorization")


def test_configured_fields_come_before_the_clients() -> None:
    """An API key of the operator's cannot be replaced by a caller."""
    fields = fields_of(
        ("x-api-key", "client"),
        ("x-a", "1"),
        own={"x-api-key": "operator", "authorization": "ours"},
    )

    assert ["operator"] == values(fields, "x-api-key")
    assert ["ours"] == values(fields, "authorization")
    assert ["1"] == values(fields, "x-a")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pkg.v1.Service/Method", "/pkg.v1.Service/Method"),
        ("/a_b.C-d/E~f", "/a_b.C-d/E~f"),
        ("/a.B/C?admin=1", "/a.B/C%3Fadmin%3D1"),
        ("/a.B/C#x", "/a.B/C%23x"),
        ("/a.B/%2e%2e", "/a.B/%252e%252e"),
        ("/a.B/..%2fadmin", "/a.B/..%252fadmin"),
        ("/a.B/..;x", "/a.B/..%3Bx"),
        ("/a.B/\\..", "/a.B/%5C.."),
        ("/a@b/C+d", "/a%40b/C%2Bd"),
    ],
)
def test_a_path_is_a_name_and_nothing_else(path: str, expected: str) -> None:
    """It cannot leave the prefix, begin a query, or mean one thing to us and another to the server."""
    assert expected == request_path(path)


@pytest.mark.parametrize("path", ["/a.B/.", "/a.B/.."])
def test_steps_between_folders_are_no_methods(path: str) -> None:
    with pytest.raises(NoRoute):
        request_path(path)
