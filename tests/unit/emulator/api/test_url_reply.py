"""Functions' replies as HTTP responses, by AWS's rules of inference."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.aws.events.prelude import MAX_PRELUDE
from bridge.emulator.api.url_reply import Head, InvalidUrlReply, Prelude, UrlReply, infer

JSON_TYPE = ("content-type", "application/json")


def inferred(**members: Any) -> UrlReply:
    return infer(json.dumps(members).encode())


@pytest.mark.parametrize("payload", [b'"Hello"', b"[1]", b"null", b"7", b'{"message": "hi"}', b'{"body": "b"}'])
def test_json_without_a_status_code_is_the_body(payload: bytes) -> None:
    """With status 200 and application/json, byte for byte: a string keeps its quotes."""
    assert infer(payload) == UrlReply(Head(200, (JSON_TYPE,)), payload)


def test_an_object_with_a_status_code_says_it_all() -> None:
    """Cookies become set-cookie; numbers and booleans in headers become text."""
    reply = inferred(
        statusCode=201,
        headers={"Content-Type": "text/plain", "X-N": 1, "X-B": True, "X-Null": None},
        cookies=["a=1", "b=2; Secure"],
        body="é",
    )

    assert reply == UrlReply(
        Head(
            201,
            (
                ("content-type", "text/plain"),
                ("x-n", "1"),
                ("x-b", "true"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2; Secure"),
            ),
        ),
        "é".encode(),
    )


def test_without_a_content_type_it_is_json() -> None:
    assert inferred(statusCode=200, body="{}").head.headers == (JSON_TYPE,)


def test_base64_is_decoded() -> None:
    assert inferred(statusCode=200, body="AAEC", isBase64Encoded=True).body == b"\0\1\2"


@pytest.mark.parametrize("name", ["WWW-Authenticate", "Content-Length", "Date", "Connection", "x-amzn-RequestId"])
def test_headers_of_the_url_itself_are_remapped(name: str) -> None:
    headers = dict(inferred(statusCode=200, headers={name: "v"}).head.headers)

    assert headers[f"x-amzn-Remapped-{name.lower()}"] == "v"
    assert name.lower() not in headers


def test_multi_value_headers_do_not_count() -> None:
    """On AWS they belong to load balancers and REST APIs."""
    assert inferred(statusCode=200, multiValueHeaders={"x": ["1"]}).head.headers == (JSON_TYPE,)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not JSON",
        b'"\xff"',
        b"[" * 100_000,
        b'{"statusCode":200,"body":"\\ud800"}',
        b'{"statusCode":200,"headers":{"a":"\\ud800"}}',
        b'{"statusCode":200,"headers":{}}' + bytes(8) + b"body",
        b'{"statusCode":"many"}',
        b'{"statusCode":200,"body":"\xff"}',
        b'{"statusCode":100}',
        b'{"statusCode":200,"body":{}}',
        b'{"statusCode":200,"body":"?","isBase64Encoded":true}',
        b'{"statusCode":200,"headers":[]}',
        b'{"statusCode":200,"headers":{"a b":"c"}}',
        b'{"statusCode":200,"headers":{"a":"b\\r\\nc: d"}}',
        b'{"statusCode":200,"cookies":["a\\nb"]}',
    ],
)
def test_what_is_no_http_response_is_refused(payload: bytes) -> None:
    """Among it the streamed form: a buffered URL reads JSON only."""
    with pytest.raises(InvalidUrlReply):
        infer(payload)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_prelude_may_be_cut_anywhere(size: int) -> None:
    whole = b'{"statusCode":404,"headers":{"x":"1"}}' + bytes(8) + b"\0body"
    prelude = Prelude()
    found = None
    rest = b""
    for at in range(0, len(whole), size):
        chunk = whole[at : at + size]
        if found is None:
            found = prelude.feed(chunk)
        else:
            rest += chunk

    assert found is not None
    head, begun = found
    assert head == Head(404, (("x", "1"), ("content-type", "application/octet-stream")))
    assert begun + rest == b"\0body"


def test_a_prelude_without_members_is_200() -> None:
    found = Prelude().feed(b"{}" + bytes(8))

    assert found == (Head(200, (("content-type", "application/octet-stream"),)), b"")


def test_repeated_headers_of_a_prelude_are_lists() -> None:
    """As Rust's lambda_http writes them."""
    found = Prelude().feed(b'{"headers":{"x":["1","2"],"content-type":"a/b"}}' + bytes(8))

    assert found is not None
    assert found[0].headers == (("x", "1"), ("x", "2"), ("content-type", "a/b"))


@pytest.mark.parametrize("start", [b"{}\0\0\0body more", b"nonsense" + bytes(8), b"x" * MAX_PRELUDE, b"[]" + bytes(8)])
def test_what_begins_with_no_prelude_is_refused(start: bytes) -> None:
    with pytest.raises(InvalidUrlReply):
        Prelude().feed(start)


@pytest.mark.parametrize("body", ["AAE", "AAE=\n", "A\r\nAE", "_-8", "/+8="])
def test_base64_may_look_as_encoders_write_it(body: str) -> None:
    expected = {"A": b"\0\1", "_": b"\xff\xef", "/": b"\xff\xef"}[body[0]]

    assert expected == inferred(statusCode=200, body=body, isBase64Encoded=True).body


def test_a_byte_order_mark_may_stand_before_json() -> None:
    reply = infer(b'\xef\xbb\xbf{"statusCode": 201}')
    begun = Prelude().feed(b'\xef\xbb\xbf{"statusCode": 201}' + bytes(8) + b"x")

    assert 201 == reply.head.http_status
    assert begun is not None
    assert (201, b"x") == (begun[0].http_status, begun[1])
