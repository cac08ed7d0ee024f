"""Inflates one compressed message of a call on a native server, in either direction."""

from __future__ import annotations

import asyncio
from functools import partial

from bridge.rpc.buffers import Account
from bridge.rpc.compression import inflate
from bridge.rpc.errors import MessageTooLarge

INFLATED_ON_LOOP = 4 << 10
"""Bytes of a compressed message up to which it is inflated on the loop. A larger one may inflate to more than 4 MiB, so
a thread inflates it.
"""


async def inflate_message(data: bytes, encoding: str, *, max_size: int, account: Account) -> bytes:
    """Inflate a message to at most `max_size` bytes, and to what the call's account has room for.

    Raises MessageTooLarge, BuffersFull, and BadReply for data that does not decode.
    """
    room = account.room
    inflated = partial(inflate, data, encoding, max_size=min(max_size, room))
    try:
        return inflated() if len(data) <= INFLATED_ON_LOOP else await asyncio.to_thread(inflated)
    except MessageTooLarge:
        if room < max_size:
            raise account.buffers.full(room) from None
        raise
