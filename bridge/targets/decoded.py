"""Decodes replies whose body has a content coding, piece by piece as they arrive. A small body can inflate to a large
one, so other calls run in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from bridge.aws.invoke import MAX_REPLY
from bridge.codecs.codec import Reader
from bridge.codecs.content_coding import ContentDecoder
from bridge.rpc.buffers import Account
from bridge.rpc.errors import BadReply, ReplyTooLarge
from bridge.rpc.events import ResponseEvent
from bridge.targets.slices import finish, in_pieces

_STEPS_AT_ONCE = 16
"""Pieces decoded in one turn of the loop. Each has at most 16 KiB, so a turn takes some tenths of a millisecond."""


async def decoded(codings: tuple[str, ...], parts: AsyncIterator[bytes], *, http_status: int) -> AsyncGenerator[bytes]:
    """Yield the decoded body. If the body of an HTTP error does not decode, the rest is dropped: the HTTP status says
    enough.

    Raises what `parts` and the decoder raise.
    """
    decoder = ContentDecoder(codings)
    steps = 0
    try:
        async for part in parts:
            for data in in_pieces(part):
                for piece in decoder.feed(data):
                    if piece:
                        yield piece
                    steps += 1
                    if not steps % _STEPS_AT_ONCE:
                        await asyncio.sleep(0)
        decoder.finish()
    except BadReply:
        if 200 <= http_status <= 299:
            raise


async def read_decoded(
    reader: Reader,
    codings: tuple[str, ...],
    body: bytes,
    account: Account,
    *,
    http_status: int,
    into: list[ResponseEvent],
) -> None:
    """Add all events of this whole body to `into`. `account` is the call's and counts them. Raises what it, the reader
    and the decoder raise.
    The events before the error have then been added.

    Raises ReplyTooLarge beyond MAX_REPLY bytes: a coded reply may not be larger than Lambda allows for plain ones.
    """
    left = MAX_REPLY
    async with aclosing(decoded(codings, one_part(body), http_status=http_status)) as pieces:
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise ReplyTooLarge(
                    f"the function's reply decodes to more than {MAX_REPLY} bytes, Lambda's limit for replies:"
                    " invoke_mode: response_stream passes on larger ones"
                )
            account.hold(len(piece))
            into += reader.feed(piece)
            if not reader.wants_more:
                break
    into += await finish(reader)


async def one_part(part: bytes, rest: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    """Yield this part, then the rest."""
    if part:
        yield part
    if rest is not None:
        async for each in rest:
            yield each
