"""Replies whose body has a content coding, decoded as they come and in turns: a small body can mean much work."""

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
"""Pieces of at most 16 KiB in one turn of the loop: some tenths of a millisecond."""


async def decoded(
    codings: tuple[str, ...], parts: AsyncIterator[bytes], *, http_status: int
) -> AsyncGenerator[bytes]:
    """The body behind its codings. An HTTP error's body that does not decode is left out: its status says enough.

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
    """Adds all events of this whole body. `account`: of the call, which holds them. Raises what it, the reader and the decoder raise;
    what came before it has been added then.

    ReplyTooLarge beyond MAX_REPLY bytes: a coding lets no reply grow above what Lambda gives without one.
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
    """This part, then the rest."""
    if part:
        yield part
    if rest is not None:
        async for each in rest:
            yield each
