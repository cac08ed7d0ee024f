from __future__ import annotations

import json
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.events.http_reply import MOST_HEADERS, HttpReply, decode_reply
from bridge.rpc.errors import BadReply

VECTORS = json.loads((Path(__file__).parents[3] / "vectors/http_replies.json").read_text())
EIGHT_NULS = bytes(8)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_replies(vector: dict[str, Any]) -> None:
    """The forms in which functions answer."""
    expected = HttpReply(
        vector.get("http_status", 200),
        tuple((name, value) for name, value in vector.get("headers", [])),
        b64decode(vector.get("body", "")),
    )

    assert expected == decode_reply(vector["payload"].encode())


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "nothing"),
        (b"null", "null"),
        (b'"hello"', "a string"),
        (b"[1]", "a list"),
        (b"12", "a number"),
        (b"-1", "a number"),
        (b"true", "true"),
        (b" false", "false"),
        (b"hello", "no JSON"),
        (b'{"statusCode":200', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"{}", "no HTTP reply"),
        (b'{"message":"Internal error"}', "no HTTP reply"),
        (b'{"statusCode":200,"body":{"a":1}}', "wrong type"),
        (b'{"statusCode":200,"headers":[]}', "wrong type"),
        (b'{"statusCode":200,"body":"AA==","isBase64Encoded":"true"}', "wrong type"),
        (b'{"statusCode":true}', "wrong type"),
        (b'{"statusCode":0}', "invalid statusCode: it must be a number from 100 to 599"),
        (b'{"statusCode":1000}', "statusCode"),
        (b'{"statusCode":"OK"}', "statusCode"),
        (b'{"statusCode":200,"body":"!","isBase64Encoded":true}', "not base64"),
        (b'{"statusCode":200,"body":"AAAAA","isBase64Encoded":true}', "not base64"),
        (b'{"statusCode":200,"body":"AA=A","isBase64Encoded":true}', "not base64"),
        (b'{"statusCode":200,"body":"AAA==","isBase64Encoded":true}', "not base64"),
        (b"\xef\xbb\xbf" * 3 + b'{"statusCode":200}', "no JSON"),
        (b"\xef\xbb\xbf" * 100_000, "no JSON"),
        (b"\xef\xbb\xbf", "nothing"),
        ('{"statusCode":200,"body":"é","isBase64Encoded":true}'.encode(), "not base64"),
        (b'{"a":' * 100_000, "no JSON"),
        (b'{"statusCode":200,"body":"\xff"}', "no JSON"),
        (b'{"statusCode":200}' + bytes(7), "neither JSON nor a prelude"),
        (b'{"statusCode":200}\0x', "neither JSON nor a prelude"),
        (EIGHT_NULS, "nothing"),
        (b"null" + EIGHT_NULS + b"x", "null"),
        (b"\0\0\0\0\x05hello", "neither JSON nor a prelude"),
    ],
)
def test_payloads_that_are_no_reply(payload: bytes, told: str) -> None:
    """Each is told for what it is, with what was expected."""
    with pytest.raises(BadReply, match=told):
        decode_reply(payload)


def test_nuls_in_the_body_are_the_body_s() -> None:
    """The first eight end the prelude; a message's prefix may follow with more."""
    body = bytes(20)

    assert body == decode_reply(b'{"statusCode":200}' + EIGHT_NULS + body).body


def test_a_prelude_is_sought_within_bounds() -> None:
    """A separator megabytes away is none."""
    with pytest.raises(BadReply):
        decode_reply(b" " * (1 << 20) + b"{}" + EIGHT_NULS)


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["statusCode", "headers", "body", "isBase64Encoded", "cookies"]),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_payload_is_a_reply_or_a_bad_one(payload: bytes) -> None:
    """Anything but BadReply would be a bug."""
    with suppress(BadReply):
        assert 100 <= decode_reply(payload).http_status <= 599


@pytest.mark.parametrize(
    "headers",
    [
        {"headers": {f"h{number}": "" for number in range(MOST_HEADERS + 1)}},
        {"multiValueHeaders": {"h": [""] * (MOST_HEADERS + 1)}},
        {"headers": {"a": ""}, "multiValueHeaders": {"b": [""] * 600, "c": [""] * 600}},
    ],
)
def test_too_many_headers_are_no_reply(headers: dict[str, Any]) -> None:
    """Each costs, and a reply has room for half a million."""
    with pytest.raises(BadReply, match="more than 1000 headers"):
        decode_reply(json.dumps({"statusCode": 200, **headers}).encode())
