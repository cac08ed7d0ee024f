"""What all shapes of event have in common, and each one's own."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.events import alb, envoy, http_v1, http_v2
from bridge.aws.events.event_body import GRPC, GRPC_WEB, JSON, PROTOBUF, BodyKind
from bridge.aws.events.http_reply import HttpReply
from bridge.aws.invoke import MAX_REQUEST
from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.errors import BadReply, PayloadTooLarge
from bridge.rpc.metadata import Metadata
from tests.support.fakes import RecordingCall

VECTORS = Path(__file__).parents[2] / "vectors"
NOW = 1_773_341_838.25
ENCODERS = {
    "http-v2": http_v2.HttpV2EventEncoder,
    "http-v1": http_v1.HttpV1EventEncoder,
    "alb": alb.AlbEventEncoder,
    "envoy": envoy.EnvoyEventEncoder,
}
KINDS = {"grpc-web": GRPC_WEB, "grpc": GRPC, "protobuf": PROTOBUF, "json": JSON}

CERTIFICATE = ClientCertificate(
    pem="-----BEGIN CERTIFICATE-----\nAA+/=\n-----END CERTIFICATE-----\n",
    subject='CN=client,O="Acme"',
    issuer="CN=ca",
    serial_number="7",
    not_before="Jan  1 00:00:00 2026 GMT",
    not_after="Jan  1 00:00:00 2027 GMT",
)


def event_of(
    shape: str,
    metadata: Metadata = (),
    *,
    kind: BodyKind = GRPC_WEB,
    body: bytes = b"",
    content_type: str = "application/grpc",
    peer: Peer | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    call = RecordingCall(
        "/test.v1.Echo/Say",
        metadata=metadata,
        content_type=content_type,
        authority="bridge.example:50051",
        peer=peer,
    )
    encoder: Any = ENCODERS[shape]("b0", kind)
    event: dict[str, Any] = json.loads(encoder.encode(call, metadata, body, timeout=timeout, now=NOW))
    return event


@pytest.mark.parametrize("shape", ["http-v1", "alb", "envoy"])
def test_whole_events(shape: str) -> None:
    """The request as each front end writes it."""
    vector = json.loads((VECTORS / f"{shape.replace('-', '_')}_event.json").read_text())
    metadata = (("user-agent", "grpc-python/1.85.1"), ("x-a", "1"), ("x-a", "2,3"), ("t-bin", "AA"))

    event = event_of(shape, metadata, body=b"\0\0\0\0\2\x08\1", peer=Peer("203.0.113.7"), timeout=4.5)

    assert vector == event


@pytest.mark.parametrize("shape", ENCODERS)
def test_the_way_up_has_the_same_rules(shape: str) -> None:
    """What a client may not set, what is remade, what is cleaned: whatever the shape."""
    metadata = (
        ("host", "evil"),
        ("x-forwarded-proto", "ftp"),
        ("x-amz-date", "1"),
        ("te", "x"),
        ("accept-encoding", "gzip"),
        ("content-type", "x"),
        ("x-forwarded-client-cert", "forged"),
        ("x-amzn-mtls-clientcert-leaf", "forged"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-odd", "a\nbü\x00c"),
        ("authorization", "Bearer t"),
        ("x-amzn-trace-id", "Root=1"),
    )

    headers = event_of(shape, metadata, peer=Peer("203.0.113.7"), timeout=1)["headers"]

    assert {
        "x-grpc-web": "1",
        "x-forwarded-proto": "https",
        "x-forwarded-port": "443",
        "accept-encoding": "identity",
        "x-forwarded-for": "1.2.3.4, 203.0.113.7",
        "host": "bridge.example:50051",
        "content-type": "application/grpc-web+proto",
        "accept": "application/grpc-web+proto",
        "grpc-timeout": "1000m",
        "x-odd": "abc",
        "authorization": "Bearer t",
        "x-amzn-trace-id": "Root=1",
    } == headers


@pytest.mark.parametrize("shape", ENCODERS)
@pytest.mark.parametrize(
    ("payload", "content_type", "labels"),
    [
        ("grpc-web", "application/grpc-web+proto", {"x-grpc-web": "1"}),
        ("grpc", "application/grpc+proto", {"te": "trailers"}),
        ("protobuf", "application/x-protobuf", {}),
        ("json", "application/json", {}),
    ],
)
def test_bodies_are_labelled(shape: str, payload: str, content_type: str, labels: dict[str, str]) -> None:
    """By their payload; JSON travels as text, the others as base64."""
    body = '{"a": "\\"ü\\n"}'.encode()

    event = event_of(shape, kind=KINDS[payload], body=body)

    headers = event["headers"]
    assert (content_type, content_type) == (headers["content-type"], headers["accept"])
    assert labels == {name: headers[name] for name in ("x-grpc-web", "te") if name in headers}
    is_base64 = event["is_base64_encoded" if shape == "envoy" else "isBase64Encoded"]
    assert is_base64 is (payload != "json")
    sent = event["body"]
    assert body == (b64decode(sent) if is_base64 else sent.encode())


@pytest.mark.parametrize("payload", ["grpc-web", "grpc"])
def test_the_client_s_message_format_is_named(payload: str) -> None:
    event = event_of("http-v1", kind=KINDS[payload], content_type="application/grpc+thrift")

    assert event["headers"]["content-type"].endswith("+thrift")


@pytest.mark.parametrize("shape", ENCODERS)
@pytest.mark.parametrize("kind", [GRPC_WEB, JSON], ids=["base64", "text"])
def test_events_above_lambda_s_limit(shape: str, kind: BodyKind) -> None:
    """The largest that fits is sent, one byte more is refused with its size."""
    call = RecordingCall()
    encoder: Any = ENCODERS[shape]("b", kind)

    def size_of(length: int) -> int:
        return len(encoder.encode(call, (), b"a" * length, timeout=None, now=NOW))

    empty = size_of(0)
    most = MAX_REQUEST - 1 - empty
    fits = most if kind is JSON else most // 4 * 3

    assert size_of(fits) < MAX_REQUEST
    with pytest.raises(PayloadTooLarge, match=rf"of {fits + 8} bytes .* at most {MAX_REQUEST - 1}"):
        size_of(fits + 8)


@pytest.mark.parametrize("shape", ["http-v1", "alb"])
def test_every_header_is_listed(shape: str) -> None:
    """In the older formats a function may read either form."""
    event = event_of(shape, (("x-a", "1"), ("x-a", "2,3"), ("cookie", "a=1"), ("cookie", "b=2")))

    assert event["headers"].keys() == event["multiValueHeaders"].keys()
    assert ("1,2,3", ["1", "2,3"]) == (event["headers"]["x-a"], event["multiValueHeaders"]["x-a"])
    assert ["a=1; b=2"] == event["multiValueHeaders"]["cookie"]


def test_cookies_of_format_2() -> None:
    """They have a field of their own, each by itself."""
    event = event_of("http-v2", (("cookie", "a=1; b=2"), ("x-a", "1"), ("cookie", "c=3")))

    assert ["a=1", "b=2", "c=3"] == event["cookies"]
    assert "cookie" not in event["headers"]
    assert "cookie" not in event["multiValueHeaders"]
    assert "cookies" not in event_of("http-v2")


def test_certificates() -> None:
    """A verified one goes where each front end puts it."""
    peer = Peer("203.0.113.7", CERTIFICATE)

    in_v1 = event_of("http-v1", peer=peer)["requestContext"]["identity"]["clientCert"]
    in_v2 = event_of("http-v2", peer=peer)["requestContext"]["authentication"]["clientCert"]
    in_alb = event_of("alb", peer=peer)["headers"]
    in_envoy = event_of("envoy", peer=peer)["headers"]["x-forwarded-client-cert"]

    assert in_v1 == in_v2
    assert CERTIFICATE.pem == in_v1["clientCertPem"]
    assert (
        "NotBefore=Jan  1 00:00:00 2026 GMT;NotAfter=Jan  1 00:00:00 2027 GMT"
        == in_alb["x-amzn-mtls-clientcert-validity"]
    )
    assert "-----BEGIN%20CERTIFICATE-----%0AAA+/=%0A" in in_alb["x-amzn-mtls-clientcert-leaf"]
    assert 'Subject="CN=client,O=\\"Acme\\""' in in_envoy
    assert 'Cert="-----BEGIN%20CERTIFICATE-----%0AAA%2B%2F%3D%0A' in in_envoy


@given(
    shape=st.sampled_from(sorted(ENCODERS)),
    metadata=st.lists(st.tuples(st.from_regex(r"[a-z0-9_.-]{1,12}", fullmatch=True), st.text(max_size=12)), max_size=6),
    body=st.binary(max_size=40),
)
def test_any_metadata_makes_an_event(shape: str, metadata: list[tuple[str, str]], body: bytes) -> None:
    """JSON with the body in it, whose headers every runtime takes."""
    event = event_of(shape, tuple(metadata), body=body)

    assert body == b64decode(event["body"])
    assert all(value.isascii() and value.isprintable() for value in event["headers"].values())


# -- Envoy's replies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        ({"status_code": 201, "body": "hi"}, HttpReply(201, (), b"hi")),
        ({"body": "aGk=", "is_base64_encoded": True}, HttpReply(200, (), b"hi")),
        (
            {"headers": {"X-A": "1", "X-B": "2"}, "multi_value_headers": {"x-a": ["3", "4"]}},
            HttpReply(200, (("x-a", "3"), ("x-a", "4"), ("x-b", "2")), b""),
        ),
        (
            {"status_code": 200, "cookies": ["a=1", "b=2"]},
            HttpReply(200, (("set-cookie", "a=1"), ("set-cookie", "b=2")), b""),
        ),
    ],
)
def test_envoy_replies(payload: dict[str, Any], reply: HttpReply) -> None:
    assert reply == envoy.decode_envoy_reply(json.dumps(payload).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b'{"statusCode":200}',
        b'{"status_code":"x"}',
        b'{"body":1}',
        b'{"status_code":200,"body":"!","is_base64_encoded":true}',
    ],
)
def test_payloads_that_are_no_envoy_reply(payload: bytes) -> None:
    """Those in the spelling of gateways among them."""
    with pytest.raises(BadReply):
        envoy.decode_envoy_reply(payload)
