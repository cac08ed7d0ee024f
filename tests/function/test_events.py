"""The shapes of events beside http-v2, and how each is told from the others."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from lambda_fn import LambdaServer
from lambda_fn.events import shape_of
from lambda_fn.events.shape import BadEvent, paths_of
from lambda_fn.http import Certificate, HttpReply, HttpRequest, Peer
from lambda_fn.status import Refused
from tests.support.lambda_channel import LambdaContextDouble, frame, http_v2_event

BODY = b64encode(frame(b"hi")).decode()

HTTP_V1: dict[str, Any] = {
    "version": "1.0",
    "resource": "/{proxy+}",
    "path": "/s.S/M",
    "httpMethod": "POST",
    "headers": {"Content-Type": "application/grpc-web", "X-Name": "2"},
    "multiValueHeaders": {"Content-Type": ["application/grpc-web"], "X-Name": ["1", "2"]},
    "requestContext": {
        "httpMethod": "POST",
        "identity": {
            "sourceIp": "192.0.2.1",
            "clientCert": {"clientCertPem": "PEM", "subjectDN": "CN=a"},
        },
        "requestTimeEpoch": 1_700_000_000_500,
    },
    "body": BODY,
    "isBase64Encoded": True,
}

ALB: dict[str, Any] = {
    "requestContext": {"elb": {"targetGroupArn": "arn:aws:…"}},
    "httpMethod": "POST",
    "path": "/s.S/M",
    "headers": {
        "content-type": "application/grpc-web",
        "x-forwarded-for": "203.0.113.9, 192.0.2.1",
    },
    "body": BODY,
    "isBase64Encoded": True,
}


@pytest.mark.parametrize(
    ("event", "name"),
    [(http_v2_event("/s.S/M", b""), "http-v2"), (HTTP_V1, "http-v1"), (ALB, "alb")],
    ids=["http-v2", "http-v1", "alb"],
)
def test_an_event_is_known_by_its_shape(event: dict[str, Any], name: str) -> None:
    """No shape is taken for another."""
    assert name == shape_of(event).name


def test_http_v1_is_read() -> None:
    """Names in lower case; repeats from multiValueHeaders."""
    assert HttpRequest(
        "POST",
        "/s.S/M",
        (
            ("content-type", "application/grpc-web"),
            ("x-name", "1"),
            ("x-name", "2"),
        ),
        frame(b"hi"),
        Peer("192.0.2.1", Certificate("PEM", "CN=a")),
        1_700_000_000.5,
    ) == shape_of(HTTP_V1).decode(HTTP_V1)


def test_alb_is_read() -> None:
    """The peer is the address that the balancer itself saw: the last one."""
    request = shape_of(ALB).decode(ALB)

    assert Peer("192.0.2.1") == request.peer
    assert (None, frame(b"hi")) == (request.sent_at, request.body)


REPLY = HttpReply(200, (("content-type", "x/y"), ("a", "1"), ("a", "2")), b"\x00\xff")
JOINED = {"content-type": "x/y", "a": "1,2"}
LISTED = {"content-type": ["x/y"], "a": ["1", "2"]}


def test_a_reply_to_http_v1_has_both_forms_of_headers() -> None:
    """API Gateway merges them."""
    assert {
        "statusCode": 200,
        "headers": JOINED,
        "multiValueHeaders": LISTED,
        "body": "AP8=",
        "isBase64Encoded": True,
    } == shape_of(HTTP_V1).encode(REPLY, HTTP_V1)


def test_a_reply_to_alb_has_the_form_of_headers_that_the_event_had() -> None:
    """A target group reads only the one it is set to."""
    single = shape_of(ALB).encode(REPLY, ALB)
    several = shape_of(ALB).encode(REPLY, ALB | {"multiValueHeaders": {}})

    assert {
        "statusCode": 200,
        "statusDescription": "200 OK",
        "headers": JOINED,
        "body": "AP8=",
        "isBase64Encoded": True,
    } == single
    assert (LISTED, False) == (several["multiValueHeaders"], "headers" in several)


def test_text_and_empty_bodies_are_not_encoded() -> None:
    """What is ASCII already need not be base64, and API Gateway v1 would hand it on as such."""
    event = http_v2_event("/s.S/M", b"")
    text = shape_of(event).encode(HttpReply(200, body=b"AP8=", is_text=True), event)
    empty = shape_of(event).encode(HttpReply(200), event)

    assert ("AP8=", False) == (text["body"], text["isBase64Encoded"])
    assert ("", False) == (empty["body"], empty["isBase64Encoded"])


def test_cookies_are_one_header() -> None:
    """HTTP API 2.0 takes them out of the headers."""
    event = http_v2_event("/s.S/M", b"") | {"cookies": ["a=1", "b=2"]}

    assert "a=1; b=2" == shape_of(event).decode(event).header("cookie")


def test_header_values_may_be_lists_and_nulls() -> None:
    """Emulators and hand-written events have them."""
    event = http_v2_event("/s.S/M", b"")
    event |= {"headers": {"A": ["1", "2"], "b": None}, "multiValueHeaders": None}

    assert (("a", "1"), ("a", "2")) == shape_of(event).decode(event).headers


def test_the_size_of_a_reply_is_that_of_its_json() -> None:
    """Known without making it; a byte too many, at most."""
    event = http_v2_event("/s.S/M", b"")
    for size in range(4):
        reply = HttpReply(200, (("a", "b"),), bytes(size))
        actual = len(json.dumps(shape_of(event).encode(reply, event)))

        assert 0 <= shape_of(event).size_of(reply, event) - actual <= 1


def test_an_http_api_puts_its_stage_before_the_path() -> None:
    """It is no part of a template; `$default` is not there."""
    event = http_v2_event("/prod/v1/ping", b"", stage="prod")
    other = http_v2_event("/production/v1/ping", b"", stage="prod")

    assert "/v1/ping" == shape_of(event).decode(event).path
    assert "/production/v1/ping" == shape_of(other).decode(other).path


@pytest.mark.parametrize(
    "event",
    [
        http_v2_event("/", b"") | {"rawQueryString": "a=1&a=%26&b="},
        HTTP_V1 | {"multiValueQueryStringParameters": {"a": ["1", "&"], "b": [""]}},
        ALB | {"multiValueQueryStringParameters": {"a": ["1", "%26"], "b": [""]}},
    ],
    ids=["http-v2", "http-v1", "alb"],
)
def test_the_query_is_decoded_once(event: dict[str, Any]) -> None:
    """API Gateway decodes it for us, a load balancer does not."""
    assert (("a", "1"), ("a", "&"), ("b", "")) == shape_of(event).decode(event).query


def test_a_query_may_have_one_value_a_name() -> None:
    """A target group without multi-value headers."""
    event = ALB | {"queryStringParameters": {"a": "x%20y"}}

    assert (("a", "x y"),) == shape_of(event).decode(event).query


def test_the_size_of_json_text_counts_its_escapes() -> None:
    """A JSON reply inside the reply's JSON."""
    event = http_v2_event("/s.S/M", b"")
    reply = HttpReply(200, (), b'{"a":"\\u00e9\n"}\n', is_text=True)
    actual = len(json.dumps(shape_of(event).encode(reply, event)))

    assert 0 <= shape_of(event).size_of(reply, event) - actual <= 1


@pytest.mark.parametrize("wrong", [True, 1, "text", ["a"], {"a": 1}], ids=repr)
@pytest.mark.parametrize("field", ["headers", "multiValueHeaders", "cookies", "body", "rawPath", "rawQueryString"])
def test_a_field_of_the_wrong_type_is_the_callers_mistake(field: str, wrong: object) -> None:
    """The handler answers whatever stands in the field: never with an exception of its own."""
    server = LambdaServer()
    event = http_v2_event("/s.S/M", b"") | {field: wrong}

    reply = server.handler(event, LambdaContextDouble())
    server.close()

    assert isinstance(reply, dict)
    assert 200 <= reply["statusCode"] < 500


def test_the_answer_says_which_shape_was_meant() -> None:
    event = http_v2_event("/s.S/M", b"") | {"headers": 5}

    with pytest.raises(BadEvent, match="looks like http-v2 but has a field of the wrong type"):
        shape_of(event).read(event)


@pytest.mark.parametrize(
    ("path", "resource", "parameters", "found"),
    [
        ("/v1/things/x", "/{proxy+}", {"proxy": "v1/things/x"}, ()),
        ("/shop/v1/things/x", "/{proxy+}", {"proxy": "v1/things/x"}, ("/v1/things/x",)),
        ("/a/b/v1/things/x", "/{proxy+}", {"proxy": "v1/things/x"}, ("/v1/things/x",)),
        ("/shop/v1/things/x", "/v1/{proxy+}", {"proxy": "things/x"}, ("/v1/things/x", "/things/x")),
        ("/v1/things/x", "/v1/{proxy+}", {"proxy": "things/x"}, ("/v1/things/x", "/things/x")),
        ("/shop/v1/things/a%2Fb", "/v1/things/{name}", {"name": "a%2Fb"}, ("/v1/things/a%2Fb",)),
        ("/shop/v1/things", "/v1/things", None, ("/v1/things",)),
        ("/v1/things", "/v1/things", None, ()),
        ("/v1/things", "", None, ()),
        ("/v1/things", "/{proxy+}", None, ()),
    ],
)
def test_a_base_path_is_found_by_the_resource(
    path: str, resource: str, parameters: dict[str, str] | None, found: tuple[str, ...]
) -> None:
    """API Gateway leaves the base path of a custom domain in the path, and says what of it is the API's."""
    assert found == paths_of(path, resource, parameters)


@pytest.mark.parametrize(
    ("domain", "api", "path"),
    [
        ("abc.execute-api.eu-west-1.amazonaws.com", "abc", "/v1/100%25"),
        ("api.example.com", "abc", "/v1/100%25"),
        ("abc.lambda-url.eu-west-1.on.aws", "abc", "/v1/100%"),
        ("f.lambda-url.eu-west-1.localhost", "f", "/v1/100%"),
        ("any.example", "bridge", "/v1/100%"),
    ],
)
def test_an_http_api_hands_the_path_on_decoded(domain: str, api: str, path: str) -> None:
    """Its percent signs are meant; a function URL and the bridge leave the path as it was sent."""
    event = http_v2_event("/v1/100%", b"")
    event["requestContext"] |= {"domainName": domain, "apiId": api}

    assert path == shape_of(event).decode(event).path


def test_format_1_of_an_http_api_has_its_stage_and_a_decoded_path() -> None:
    event = HTTP_V1 | {"version": "1.0", "path": "/prod/v1/100%", "resource": "$default"}
    event["requestContext"] = HTTP_V1["requestContext"] | {"stage": "prod"}
    request = shape_of(event).decode(event)

    assert ("/v1/100%25", "/prod/v1/100%25") == request.paths


def test_a_path_may_begin_with_the_name_of_its_stage() -> None:
    """Behind a custom domain the stage is not there."""
    event = http_v2_event("/v1/things", b"", stage="v1")

    assert ("/things", "/v1/things") == shape_of(event).decode(event).paths


@pytest.mark.parametrize("query", ["a=%ff", "%ff=1", "a=%", "a=%zz"])
def test_a_query_that_is_not_encoded_text_is_refused(query: str) -> None:
    """When it is read: calls that have no use for it are none the worse."""
    event = http_v2_event("/", b"") | {"rawQueryString": query}
    request = shape_of(event).decode(event)

    with pytest.raises(Refused):
        _ = request.query


@pytest.mark.parametrize("wrong", [True, 1, ["a"], {"a": 1}], ids=repr)
@pytest.mark.parametrize("field", ["rawQueryString", "routeKey", "pathParameters"])
def test_a_query_or_a_route_of_the_wrong_type_is_the_callers_mistake(field: str, wrong: object) -> None:
    """Also where the query and the route are read."""
    server = LambdaServer()
    event = http_v2_event("/v1/a", b"") | {"routeKey": "GET /{proxy+}", "pathParameters": {}} | {field: wrong}
    event["requestContext"]["http"]["method"] = "GET"

    reply = server.handler(event, LambdaContextDouble())
    server.close()

    assert isinstance(reply, dict)
    assert 400 <= reply["statusCode"] < 500
