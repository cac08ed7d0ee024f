from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.events.event_body import message_format_of
from bridge.aws.events.http_v2 import HttpV2EventEncoder
from bridge.aws.invoke import MAX_REQUEST
from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.errors import PayloadTooLarge
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall

VECTOR = json.loads((Path(__file__).parents[3] / "vectors/http_v2_event.json").read_text())
NOW = 1_773_341_838.25


def event_of(
    metadata: Metadata = (),
    *,
    body: bytes = b"",
    path: str = "/test.v1.Echo/Say",
    content_type: str = "application/grpc",
    authority: str = "bridge.example",
    peer: Peer | None = None,
    timeout: float | None = None,
    encoder: HttpV2EventEncoder | None = None,
) -> dict[str, Any]:
    call = RecordingCall(path, metadata=metadata, content_type=content_type, authority=authority, peer=peer)
    encoded = (encoder or HttpV2EventEncoder("b0")).encode(call, metadata, body, timeout=timeout, now=NOW)
    event: dict[str, Any] = json.loads(encoded)
    return event


def test_whole_event() -> None:
    """The request that a gRPC-Web function behind a function URL knows."""
    metadata = (
        ("user-agent", "grpc-python/1.85.1"),
        ("echo-meta", "abc-123"),
        ("trace-bin", "AAECAw"),
    )

    event = event_of(
        metadata,
        body=b"\0\0\0\0\2\x08\1",
        path="/integration.v1.Test/Unary",
        authority="bridge.example:50051",
        peer=Peer("203.0.113.7"),
        timeout=4.5,
    )

    assert VECTOR == event


def test_what_calls_have_in_common_is_theirs_alone() -> None:
    """The encoder remembers the last client: whatever the next one differs in, its event is its own."""
    shared = HttpV2EventEncoder("b0")
    usual: dict[str, Any] = {"metadata": (("x-a", "1"), ("cookie", "a=1")), "timeout": 5.0}
    others: list[dict[str, Any]] = [
        {},
        {"metadata": (("x-a", "2"),)},
        {"metadata": (("x-a", "1"), ("x-a", "1"))},
        {"content_type": "application/grpc+json"},
        {"authority": "other.example"},
        {"peer": Peer("203.0.113.7")},
        {"peer": Peer("127.0.0.1", ClientCertificate("pem", "CN=a", "CN=b", "1", "from", "to"))},
        {"path": "/other.Echo/Say"},
        {"timeout": None},
        {"timeout": 0.25},
        {"body": b"other"},
    ]
    for other in [each for change in others for each in (change, {})]:
        arguments = usual | other
        event, alone = event_of(**arguments, encoder=shared), event_of(**arguments)
        for each in (event, alone):
            del each["requestContext"]["requestId"]

        assert alone == event


def test_no_method_of_the_older_format() -> None:
    """With requestContext.httpMethod common runtimes would take the event for format 1.0."""
    assert "httpMethod" not in event_of()["requestContext"]


# -- metadata ----------------------------------------------------------------------------------------------------------


def test_metadata_travels_as_headers() -> None:
    metadata = (
        ("x-a", "1"),
        ("authorization", "Bearer t"),
        ("x-bin", "AAEC"),
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "gzip"),
        ("grpc-previous-rpc-attempts", "1"),
        ("grpc-trace-bin", "AA"),
        ("grpc-tags-bin", "AA"),
    )

    headers = event_of(metadata)["headers"]

    assert dict(metadata) == {name: headers[name] for name, _ in metadata}


@pytest.mark.parametrize(
    "name",
    [
        "te",
        "content-encoding",
        "content-length",
        "expect",
        "x-forwarded-client-cert",
        "x-amz-date",
        "x-amz-security-token",
        "x-amzn-requestid",
        "grpc-timeout",
    ],
)
def test_names_that_a_client_may_not_set(name: str) -> None:
    """They belong to a connection, to AWS, or to us."""
    assert name not in event_of(((name, "forged"), ("x-a", "1")))["headers"]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("host", "bridge.example"),
        ("content-type", "application/grpc-web+proto"),
        ("accept", "application/grpc-web+proto"),
        ("x-grpc-web", "1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("accept-encoding", "identity"),
    ],
)
def test_names_that_are_ours(name: str, ours: str) -> None:
    """A client's value gives way: runtimes build URLs of some of them."""
    assert ours == event_of(((name, "forged"), (name, "twice")))["headers"][name]


def test_trace_id_travels() -> None:
    trace = "Root=1-67891233-abcdef012345678912345678"

    assert trace == event_of((("x-amzn-trace-id", trace),))["headers"]["x-amzn-trace-id"]


def test_repeated_names_are_joined_and_listed() -> None:
    """Joined with commas as AWS does; beside that every header as a list, which tells commas from joints."""
    event = event_of((("x-a", "1,2"), ("x-b", "b"), ("x-a", "3"), ("y-bin", "AA"), ("y-bin", "AQ")))

    assert ("1,2,3", "AA,AQ") == (event["headers"]["x-a"], event["headers"]["y-bin"])
    assert ["1,2", "3"] == event["multiValueHeaders"]["x-a"]
    assert ["AA", "AQ"] == event["multiValueHeaders"]["y-bin"]
    assert ["b"] == event["multiValueHeaders"]["x-b"]
    assert event["headers"].keys() == event["multiValueHeaders"].keys()


def test_nothing_is_listed_where_nothing_repeats() -> None:
    """A comma in a single value needs no list: ASCII values are never split."""
    assert "multiValueHeaders" not in event_of((("x-a", "1,2"),))


def test_forbidden_names_are_not_listed_either() -> None:
    event = event_of((("x-amz-date", "1"), ("x-amz-date", "2"), ("te", "a"), ("te", "b")))

    assert not {"x-amz-date", "te"} & event["multiValueHeaders"].keys()


@pytest.mark.parametrize(
    ("sent", "travels"),
    [
        ("caf\xe9", "caf"),
        ("a\tb", "ab"),
        ("a\x7fb", "ab"),
        ('say "hi" \\o/', 'say "hi" \\o/'),
        ("\xff", ""),
    ],
)
def test_only_visible_ascii_travels(sent: str, travels: str) -> None:
    """One other character makes common runtimes refuse the whole event."""
    event = event_of((("x-a", sent), ("user-agent", sent)))

    assert travels == event["headers"]["x-a"]
    assert travels == event["requestContext"]["http"]["userAgent"]


def test_only_visible_ascii_is_listed() -> None:
    assert ["caf", "b"] == event_of((("x-a", "caf\xe9"), ("x-a", "b")))["multiValueHeaders"]["x-a"]


def test_peer_is_appended_to_those_before() -> None:
    """So that a function finds the nearest proxy's word last."""
    event = event_of(
        (("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "198.51.100.2")),
        peer=Peer("203.0.113.7"),
    )

    assert "198.51.100.1,198.51.100.2, 203.0.113.7" == event["headers"]["x-forwarded-for"]
    assert "203.0.113.7" == event["requestContext"]["http"]["sourceIp"]


def test_peer_on_a_unix_socket() -> None:
    """Functions parse addresses; this one is the machine's own."""
    assert "127.0.0.1" == event_of(peer=Peer("unix"))["requestContext"]["http"]["sourceIp"]


# -- what is remade ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "message_format"),
    [
        ("application/grpc", "proto"),
        ("application/grpc+proto", "proto"),
        ("application/grpc+json", "json"),
        ("application/grpc+thrift; a=b", "thrift"),
        ("application/grpc;charset=utf-8", "proto"),
        ("application/grpc+", "proto"),
    ],
)
def test_content_type(sent: str, message_format: str) -> None:
    """The gRPC-Web type of the same message format, exactly: parameters make common runtimes answer 400."""
    headers = event_of(content_type=sent)["headers"]

    assert message_format == message_format_of(sent)
    assert f"application/grpc-web+{message_format}" == headers["content-type"] == headers["accept"]


@pytest.mark.parametrize(
    ("timeout", "text"),
    [(0.25, "250m"), (0.0001, "100000n"), (0.0, "0m"), (-1.0, "0m"), (1e6, "1000000S")],
)
def test_timeout_is_what_is_left(timeout: float, text: str) -> None:
    assert text == event_of(timeout=timeout)["headers"]["grpc-timeout"]


def test_no_timeout_without_a_deadline() -> None:
    assert "grpc-timeout" not in event_of()["headers"]


@pytest.mark.parametrize(
    ("authority", "host", "domain"),
    [
        ("bridge.example", "bridge.example", "bridge.example"),
        ("bridge.example:443", "bridge.example:443", "bridge.example"),
        ("10.0.0.1:50051", "10.0.0.1:50051", "10.0.0.1"),
        ("localhost", "localhost", "localhost"),
        ("Bridge-1.example.", "Bridge-1.example.", "Bridge-1.example."),
    ],
)
def test_plain_authority_travels(authority: str, host: str, domain: str) -> None:
    event = event_of(authority=authority)

    assert (host, domain) == (event["headers"]["host"], event["requestContext"]["domainName"])


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "a b",
        "user@host",
        "[::1]:50051",
        "host:",
        "host:x",
        "host:99999",
        "unix:/run/x.sock",
        "%2Frun%2Fx.sock",
        "a/b",
        "a_b",
        "..",
        "a..b",
        ".a",
        "1.2.3.4.5",
        "256.1.1.1",
        "example.0x7f",
        "1.2.3",
        "caf\xe9",
        'a"b',
        "-x\n",
    ],
)
def test_odd_authority_gives_way(authority: str) -> None:
    """Common runtimes build a URL of it and crash."""
    event = event_of(authority=authority)

    assert "localhost" == event["headers"]["host"] == event["requestContext"]["domainName"]


def test_client_certificate() -> None:
    """In API Gateway's shape, and only from a handshake that we verified."""
    certificate = ClientCertificate(
        "-----BEGIN CERTIFICATE-----\nMII\n",
        "CN=client",
        "CN=ca",
        "a1:b2",
        "May 28 12:30:02 2026 GMT",
        "Aug  5 09:36:04 2027 GMT",
    )

    context = event_of(peer=Peer("10.0.0.1", certificate))["requestContext"]

    assert {
        "clientCert": {
            "clientCertPem": "-----BEGIN CERTIFICATE-----\nMII\n",
            "subjectDN": "CN=client",
            "issuerDN": "CN=ca",
            "serialNumber": "a1:b2",
            "validity": {
                "notBefore": "May 28 12:30:02 2026 GMT",
                "notAfter": "Aug  5 09:36:04 2027 GMT",
            },
        }
    } == context["authentication"]


def test_no_authentication_without_a_certificate() -> None:
    assert "authentication" not in event_of()["requestContext"]


def test_each_event_has_its_own_id() -> None:
    encoder = HttpV2EventEncoder("b0")

    ids = [event_of(encoder=encoder)["requestContext"]["requestId"] for _ in range(3)]

    assert ["b0-1", "b0-2", "b0-3"] == ids


def test_time_follows_the_clock() -> None:
    encoder, call = HttpV2EventEncoder("b0"), RecordingCall()

    times = [
        json.loads(encoder.encode(call, (), b"", timeout=None, now=now))["requestContext"]["time"]
        for now in (0.0, 0.9, 86_400.0)
    ]

    assert [
        "01/Jan/1970:00:00:00 +0000",
        "01/Jan/1970:00:00:00 +0000",
        "02/Jan/1970:00:00:00 +0000",
    ] == times


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_events_just_fit() -> None:
    """The largest event is one byte below the limit; the next body is refused, saying sizes, before it is encoded."""
    encoder, call = HttpV2EventEncoder("b0"), RecordingCall()
    frame = len(encoder.encode(call, (), b"", timeout=None, now=NOW))
    largest = (MAX_REQUEST - 1 - frame) // 4 * 3

    event = encoder.encode(call, (), bytes(largest), timeout=None, now=NOW)

    assert MAX_REQUEST - 4 <= len(event) < MAX_REQUEST
    with pytest.raises(PayloadTooLarge, match=rf"{largest + 1} bytes .* at most 6291455") as caught:
        encoder.encode(call, (), bytes(largest + 1), timeout=None, now=NOW)
    assert StatusCode.RESOURCE_EXHAUSTED is caught.value.code
    assert not caught.value.may_have_run


def test_what_is_remembered_is_bounded() -> None:
    """Clients choose paths and authorities."""
    encoder = HttpV2EventEncoder("b0")

    events = [event_of(path=f"/S/M{number}", authority=f"a{number}", encoder=encoder) for number in range(2500)]

    event_of(path="/S/" + "M" * 10_000, authority="a" * 10_000, encoder=encoder)

    assert "/S/M2499" == events[-1]["rawPath"]
    caches = (encoder._paths, encoder._headers._authorities, encoder._headers._content_types)
    assert not [key for cache in caches for key in cache if len(key) > 1000]
    assert max(len(cache) for cache in caches) <= 1024
    assert len(encoder._senders) <= 16


@pytest.mark.parametrize(
    "large",
    [
        {"authority": "a" * 9000},
        {"content_type": "application/grpc+" + "a" * 9000},
        {"metadata": (("x-amz", "a" * 9000),)},
    ],
)
def test_a_client_with_large_fields_is_not_remembered(large: dict[str, Any]) -> None:
    encoder = HttpV2EventEncoder("b0")
    event_of(**large, encoder=encoder)

    assert {} == encoder._senders


# -- templates --------------------------------------------------------------------------------------------------------

_VALUES = st.one_of(
    st.sampled_from(["", "1", "a,b", 'a"b', "a\\b", "\xe9", "a\tb", "\x7f", "/", "<>"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12),
)
_STEADY_NAMES = (
    "user-agent",
    "traceparent",
    "x-a",
    "cookie",
    "x-forwarded-for",
    "x-amzn-trace-id",
    "x-amz-other",
    "accept",
    "host",
)


@given(data=st.data(), names=st.lists(st.sampled_from(_STEADY_NAMES), max_size=5))
def test_template_gives_what_a_new_encoder_gives(data: st.DataObject, names: list[str]) -> None:
    """Calls of one client that differ in some values, or now and then in a name."""
    shared = HttpV2EventEncoder("b0")
    values = [data.draw(_VALUES) for _ in names]
    for _ in range(6):
        for at in data.draw(st.lists(st.integers(0, max(0, len(names) - 1)), max_size=2)):
            if names:
                values[at] = data.draw(_VALUES)
        if names and data.draw(st.integers(0, 9)) == 0:
            names[0] = data.draw(st.sampled_from(_STEADY_NAMES))
        metadata = tuple(zip(names, values, strict=True))
        event, expected = event_of(metadata, encoder=shared), event_of(metadata)
        for each in (event, expected):
            del each["requestContext"]["requestId"]

        assert expected == event


def test_traces_are_filled_in() -> None:
    """From the third call on nothing else is encoded: the others have taught the template what differs."""
    encoder = HttpV2EventEncoder("b0")

    def call(number: int) -> dict[str, Any]:
        metadata = (
            ("user-agent", "go"),
            ("x-a", "1"),
            ("traceparent", f"00-{number}"),
            ("x-amzn-trace-id", f"{number}"),
        )
        return event_of(metadata, encoder=encoder)

    call(1)
    call(2)
    [sender] = encoder._senders.values()
    template = sender.template
    event = call(3)

    assert template is not None
    assert ["traceparent", "x-amzn-trace-id"] == [gap.name for gap in template.gaps]
    assert [sender] == [*encoder._senders.values()]
    assert ("00-3", "3", "1") == tuple(event["headers"][name] for name in ("traceparent", "x-amzn-trace-id", "x-a"))


@given(
    metadata=st.lists(
        st.tuples(
            st.from_regex(r"[a-z0-9_.-]{1,12}", fullmatch=True),
            st.text(st.characters(max_codepoint=255), max_size=12),
        ),
        max_size=6,
    ),
    authority=st.text(st.characters(max_codepoint=255), max_size=12),
    path=st.text(st.characters(max_codepoint=255), max_size=20),
    body=st.binary(max_size=40),
)
def test_any_call_makes_an_event(metadata: list[tuple[str, str]], authority: str, path: str, body: bytes) -> None:
    """Valid JSON whose headers every runtime takes, and the body unchanged."""
    event = event_of(tuple(metadata), authority=authority, path=path, body=body)

    assert body == b64decode(event["body"])
    assert all(value.isascii() and (value.isprintable() or not value) for value in event["headers"].values())
    assert path == event["rawPath"] == event["requestContext"]["http"]["path"]
