"""Reads a call's request for targets that take it whole."""

from __future__ import annotations

import asyncio
from typing import Literal

from bridge.codecs.identity import uncompressed
from bridge.rpc.call import Call
from bridge.rpc.metadata import Metadata
from bridge.targets.slices import join_in_slices

CompressionMode = Literal["pass", "identity"]
"""Messages as the client sent them, or inflated here."""


async def read_whole_request(call: Call, compression: CompressionMode, large: asyncio.Lock) -> tuple[Metadata, bytes]:
    """Metadata and body as the target shall see them. All targets share `large`, so that one large body at a time is
    inflated.

    Raises what `read_all` and `uncompressed` raise.
    """
    if compression == "pass":
        return call.metadata, await call.read_all()
    body, limits = await call.read_all(), call.route.limits
    metadata, parts = uncompressed(
        call.metadata,
        body,
        max_message=limits.max_request,
        max_body=limits.max_buffered,
        account=call,
    )
    return metadata, await join_in_slices(parts, large)
