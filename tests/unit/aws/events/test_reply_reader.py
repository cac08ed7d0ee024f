"""ReplyReader: whatever it has learned, it says what the decoder says."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.aws.events import envoy, http_reply
from bridge.aws.events.http_reply import HttpReply
from bridge.aws.events.reply_reader import ReplyReader
from bridge.rpc.errors import BadReply


class Counting:
    """A decoder that counts what it is asked."""

    def __init__(self, decode: Callable[[bytes], HttpReply]) -> None:
        self._decode = decode
        self.count = 0

    def __call__(self, payload: bytes) -> HttpReply:
        self.count += 1
        return self._decode(payload)


def payload(data: bytes, /, **others: object) -> bytes:
    fields = {
        "statusCode": 200,
        "headers": {"content-type": "application/grpc-web+proto"},
        "isBase64Encoded": True,
        "body": b64encode(data).decode(),
    }
    return json.dumps(fields | others).encode()


def outcome(read: Callable[[bytes], HttpReply], text: bytes) -> HttpReply | str:
    try:
        return read(text)
    except BadReply as error:
        return str(error)


def test_replies_that_differ_in_their_body_are_decoded_once() -> None:
    """The first is read and learned from, which takes two more readings; the others are looked at."""
    decode = Counting(http_reply.decode_reply)
    reader = ReplyReader(decode)

    for body in (b"first", b"s", bytes(range(256)) * 4000, b"x" * 24, b""):
        assert http_reply.decode_reply(payload(body)) == reader.read(payload(body))
    assert 3 == decode.count


@pytest.mark.parametrize(
    "order",
    [("statusCode", "headers", "body", "isBase64Encoded"), ("body", "isBase64Encoded", "headers", "statusCode")],
)
def test_the_body_may_stand_anywhere(order: tuple[str, ...]) -> None:
    """Whatever order a runtime writes the fields in, and with whatever spaces."""
    decode = Counting(http_reply.decode_reply)
    reader = ReplyReader(decode)

    for body in (
        b"one",
        b"another",
        b"a third one, which is longer than the part of a body that is sought",
    ):
        fields = json.loads(payload(body))
        text = json.dumps({name: fields[name] for name in order}, indent=1).encode()
        assert body == reader.read(text).body
    assert 3 == decode.count


def test_text_that_looks_like_the_body_is_not_learned() -> None:
    """Here a header holds the very text that the body's base64 would be, and the body itself is no base64."""
    reader = ReplyReader(http_reply.decode_reply)
    plain = {"isBase64Encoded": False, "body": "hello"}
    for header in (b"hello", b"others", b"more"):
        text = payload(b"", headers={"x-a": b64encode(header).decode()}, **plain)

        assert http_reply.decode_reply(text) == reader.read(text)


@pytest.mark.parametrize(
    ("learned", "read"),
    [
        # The body is one of the texts that are tried in its place.
        (
            b'{"headers":{"etag":"TWFu"},"isBase64Encoded":true,"body":"TWFu"}',
            b'{"headers":{"etag":"AAAA"},"isBase64Encoded":true,"body":"TWFu"}',
        ),
        (
            b'{"headers":{"etag":"QUJD"},"isBase64Encoded":true,"body":"QUJD"}',
            b'{"headers":{"etag":"AAAA"},"isBase64Encoded":true,"body":"QUJD"}',
        ),
        # A field's name looks like the body.
        (
            b'{"isBase64Encoded":true,"\\u0062ody":"TWFu","body":"body"}',
            b'{"isBase64Encoded":true,"\\u0062ody":"TWFu","AAAA":"body"}',
        ),
    ],
)
def test_texts_that_only_seem_to_be_the_body(learned: bytes, read: bytes) -> None:
    """They were found first."""
    reader = ReplyReader(http_reply.decode_reply)
    reader.read(learned)

    assert http_reply.decode_reply(read) == reader.read(read)


def test_two_bodies_of_which_the_last_counts() -> None:
    """As JSON decoders have it."""
    reader = ReplyReader(http_reply.decode_reply)
    for one, other in ((b"same", b"same"), (b"same", b"other"), (b"other", b"same")):
        text = b'{"body":"%b","isBase64Encoded":true,"body":"%b"}' % (b64encode(one), b64encode(other))

        assert other == reader.read(text).body


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text.replace(b'"}', b"}"),
        lambda text: text.replace(b'"body": "', b'"body": "='),
        lambda text: text.replace(b'"body": "', b'"body": "\\u0041'),
        lambda text: text.replace(b'"body": "', b'"body": "QQ", "other": "'),
        lambda text: text.replace(b'"}', b'\n"}'),
        lambda text: text[: text.index(b'"body": "') + 9] + b"}",
        lambda text: text[: text.index(b'"body": "') + 9] + b'"}',
        lambda text: text.replace(b"200", b"201"),
        lambda text: text + b"\0" * 8 + text,
        lambda text: b"",
        lambda text: b"null",
    ],
)
def test_what_is_nearly_like_it_is_read_anew(spoil: Callable[[bytes], bytes]) -> None:
    """Cut off, with a body that is no base64 or has escapes, with another field: as the decoder says, an error
    or not.
    """
    reader = ReplyReader(http_reply.decode_reply)
    for body in (b"first one", b"second one"):
        reader.read(payload(body))
    text = spoil(payload(b"third one"))

    assert outcome(http_reply.decode_reply, text) == outcome(reader.read, text)


def test_replies_that_are_never_alike_are_learned_from_less_and_less() -> None:
    """Else each would be read twice."""
    decode = Counting(http_reply.decode_reply)
    reader = ReplyReader(decode)
    for number in range(1000):
        reader.read(payload(b"body", headers={"x-number": str(number)}))

    assert 1000 + 2 * 10 == decode.count


def test_large_surroundings_are_not_kept() -> None:
    """Functions choose them."""
    decode = Counting(http_reply.decode_reply)
    reader = ReplyReader(decode)
    for _ in range(3):
        reader.read(payload(b"body", headers={"x-large": "v" * 5000}))

    assert 3 == decode.count


def test_envoys_shape() -> None:
    """It has fields of its own; they are read by its decoder."""
    decode = Counting(envoy.decode_envoy_reply)
    reader = ReplyReader(decode)
    for body in (b"one", b"two", b"three"):
        fields = {
            "status_code": 200,
            "headers": {"a": "b"},
            "cookies": [],
            "is_base64_encoded": True,
            "body": b64encode(body).decode(),
        }
        text = json.dumps(fields).encode()
        assert envoy.decode_envoy_reply(text) == reader.read(text)


def test_random_replies_in_random_order() -> None:
    """Several shapes through one reader: each is what the decoder makes of it."""
    rng = random.Random(11)
    reader = ReplyReader(http_reply.decode_reply)
    for _ in range(3000):
        body = rng.randbytes(rng.choice((0, 1, 2, 3, 24, 25, 500)))
        others: dict[str, object] = {"statusCode": rng.choice((200, "200", 500))}
        if rng.random() < 0.3:
            others |= {
                "isBase64Encoded": False,
                "body": rng.choice(("", "text", b64encode(body).decode())),
            }
        text = payload(body, **others)
        if rng.random() < 0.1:
            at = rng.randrange(len(text))
            text = text[:at] + rng.randbytes(1) + text[at + 1 :]

        assert outcome(http_reply.decode_reply, text) == outcome(reader.read, text)


def test_every_form_of_reply_before_and_behind_every_other() -> None:
    """What was learned from one form never changes what another means."""
    vectors = Path(__file__).parents[3] / "vectors/http_replies.json"
    payloads = [str(vector["payload"]).encode() for vector in json.loads(vectors.read_text())]
    for first in payloads:
        reader = ReplyReader(http_reply.decode_reply)
        for text in (first, first, *payloads):
            assert outcome(http_reply.decode_reply, text) == outcome(reader.read, text)
