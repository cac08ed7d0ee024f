from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.events.http_reply import HttpReply
from bridge.aws.events.streamed_reply import StreamedReply
from bridge.aws.invoke import MAX_REPLY
from bridge.rpc.errors import BadReply, ReplyTooLarge
from tests.support.event_stream import prelude
from tests.support.fakes import in_chunks

BODY = b"\0\0\0\0\2\x08\x01" + bytes(20)
STREAMED = prelude(201, x_a="1") + BODY
OBJECT = json.dumps({"statusCode": 201, "headers": {"x-a": "1"}, "body": "hi"}).encode()


def read(chunks: list[bytes]) -> tuple[HttpReply | None, bytes]:
    reply = StreamedReply()
    body = b"".join([reply.feed(chunk) for chunk in chunks])
    body += reply.finish()
    assert reply.head is not None
    return reply.head, body


@given(st.lists(st.integers(0, len(STREAMED)), max_size=20))
def test_a_prelude_may_be_split_anywhere(cuts: list[int]) -> None:
    head, body = read(in_chunks(STREAMED, cuts))

    assert head is not None
    assert (201, (("x-a", "1"),)) == (head.http_status, head.headers)
    assert BODY == body


def test_the_head_is_known_with_the_last_nul() -> None:
    """Not a byte later: headers leave before a message is there."""
    reply, head = StreamedReply(), prelude()

    assert b"" == reply.feed(head[:-1])
    assert reply.head is None
    assert b"" == reply.feed(head[-1:])
    assert reply.head is not None


@given(st.lists(st.integers(0, len(OBJECT)), max_size=20))
def test_a_json_object_is_a_reply_at_its_end(cuts: list[int]) -> None:
    """What functions return that do not stream."""
    head, body = read(in_chunks(OBJECT, cuts))

    assert head is not None
    assert (201, b"hi") == (head.http_status, body)


@pytest.mark.parametrize("chunks", [[], [b"{nonsense"], [b"null"], [b"\0" * 7 + b"x"], [b"nonsense" + bytes(8)]])
def test_what_is_neither(chunks: list[bytes]) -> None:
    with pytest.raises(BadReply):
        read(chunks)


def test_an_object_is_bounded() -> None:
    """What never becomes a prelude is not gathered for ever."""
    reply = StreamedReply()
    with pytest.raises(ReplyTooLarge):  # noqa: PT012 - the chunk that passes the limit
        for _ in range(8):
            reply.feed(b" " * (MAX_REPLY // 7))


def test_a_body_is_not_held() -> None:
    reply = StreamedReply()
    reply.feed(prelude())
    chunk = bytes(1 << 20)

    assert chunk is reply.feed(chunk)
