"""HTTP requests as function-URL events."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from bridge.aws.events.http_v2 import HttpV2EventEncoder
from bridge.emulator.api.url_event import UrlRequest, encode_url_event
from tests.support.fakes import RecordingCall

NOW = 1773342238.5


def event_of(
    *,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    query: str = "",
    path: str = "/",
    caller: str | None = None,
) -> Any:
    request = UrlRequest("POST", path, query, headers, body, "HTTP/1.1", "127.0.0.1", 9001, caller=caller)
    return json.loads(encode_url_event(request, function="fn", request_id="id-1", trace_id="Root=1", now=NOW))


def test_the_whole_event() -> None:
    """What AWS leaves out where there is nothing to say is left out: body, cookies, parameters, authorizer."""
    assert event_of(headers=(("Host", "h:1"), ("User-Agent", "curl"))) == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {
            "host": "h:1",
            "user-agent": "curl",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": "9001",
            "x-forwarded-proto": "http",
            "x-amzn-trace-id": "Root=1",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "fn",
            "domainName": "fn.lambda-url.us-east-1.localhost",
            "domainPrefix": "fn",
            "http": {
                "method": "POST",
                "path": "/",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "curl",
            },
            "requestId": "id-1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2026:19:03:58 +0000",
            "timeEpoch": 1773342238500,
        },
        "isBase64Encoded": False,
    }


def members(event: Any) -> Any:
    """The names of an object's members, and of the objects among them; not those of its headers."""
    found = {name: members(value) for name, value in event.items() if isinstance(value, dict) and name != "headers"}
    return set(event), found


def test_the_members_are_those_of_the_bridges_event() -> None:
    """A function cannot tell by them which way a request came."""
    call = RecordingCall("/a.B/M", metadata=(("user-agent", "x"), ("cookie", "a=b")), content_type="application/grpc")
    encoded = HttpV2EventEncoder("b0").encode(call, call.metadata, b"x", timeout=None, now=NOW)
    at_the_url = event_of(headers=(("cookie", "a=b"), ("content-type", "application/grpc-web")), body=b"x")

    assert members(json.loads(encoded)) == members(at_the_url)


def test_who_signed_is_in_the_authorizer() -> None:
    event = event_of(caller="AKIA")
    iam = event["requestContext"]["authorizer"]["iam"]

    assert event["requestContext"]["accountId"] == "123456789012"
    assert (iam["accessKey"], iam["accountId"]) == ("AKIA", "123456789012")
    assert iam["userArn"] == "arn:aws:iam::123456789012:user/AKIA"
    assert sorted(iam) == [
        "accessKey",
        "accountId",
        "callerId",
        "cognitoIdentity",
        "principalOrgId",
        "userArn",
        "userId",
    ]


def test_the_signature_stays_with_the_url() -> None:
    """A URL without IAM passes the header on: it is the function's."""
    headers = (("Authorization", "x"),)

    assert "authorization" not in event_of(headers=headers, caller="AKIA")["headers"]
    assert event_of(headers=headers)["headers"]["authorization"] == "x"


def test_headers_are_in_lower_case_and_repeats_joined() -> None:
    """Those between client and URL only stay behind."""
    headers = event_of(headers=(("X-A", "1"), ("x-a", "2"), ("Connection", "close"), ("TE", "trailers")))["headers"]

    assert headers["x-a"] == "1,2"
    assert {"connection", "te"}.isdisjoint(headers)


def test_the_client_is_added_to_those_it_forwards_for() -> None:
    headers = event_of(headers=(("X-Forwarded-For", "10.0.0.1"),))["headers"]

    assert headers["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"


def test_cookies_are_a_field_of_their_own() -> None:
    event = event_of(headers=(("Cookie", "a=1; b=2"), ("cookie", "c=3")))

    assert event["cookies"] == ["a=1", "b=2", "c=3"]
    assert "cookie" not in event["headers"]


def test_path_and_query_stay_as_sent_and_parameters_are_decoded() -> None:
    """A repeated parameter's values are joined with commas."""
    event = event_of(path="/a%20b", query="x=1&y=%2F&x=2&z")

    assert (event["rawPath"], event["requestContext"]["http"]["path"]) == ("/a%20b", "/a%20b")
    assert event["rawQueryString"] == "x=1&y=%2F&x=2&z"
    assert event["queryStringParameters"] == {"x": "1,2", "y": "/", "z": ""}


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json; charset=utf-8", "application/problem+json", "image/svg+xml", "Application/XML"],
)
def test_text_stays_text(content_type: str) -> None:
    event = event_of(headers=(("Content-Type", content_type),), body="é".encode())

    assert (event["body"], event["isBase64Encoded"]) == ("é", False)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/grpc-web+proto", b"\0\0"),
        ("application/x-www-form-urlencoded", b"a=1"),
        ("", b"abc"),
        ("text/plain", b"\xff"),
    ],
)
def test_everything_else_is_base64(content_type: str, body: bytes) -> None:
    """Forms too, as on AWS; and text that is no UTF-8."""
    event = event_of(headers=(("Content-Type", content_type),), body=body)

    assert (event["body"], event["isBase64Encoded"]) == (b64encode(body).decode(), True)


def test_header_bytes_that_are_no_text_are_replaced() -> None:
    """aiohttp hands them over as surrogates, which JSON cannot hold."""
    assert event_of(headers=(("X-A", "a\udcff"),))["headers"]["x-a"] == "a\ufffd"
