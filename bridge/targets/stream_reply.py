"""Passes a reply on while it arrives. Each message leaves when it is whole, and the next is read when the client has
room.

Takes a reader of the payload format and the body in parts of any size. It does not know the carrier.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from bridge.codecs.codec import Reader
from bridge.rpc.buffers import SMALL, Portion
from bridge.rpc.call import Call
from bridge.rpc.errors import RpcError
from bridge.rpc.events import ResponseEvent
from bridge.rpc.limits import LARGEST_MESSAGE
from bridge.targets.request_id import with_request_id
from bridge.targets.slices import finish, in_pieces, in_slices


def largest_message(max_response: int | None) -> int:
    """Return the bound on one streamed message (bytes)."""
    return LARGEST_MESSAGE if max_response is None else max_response


async def stream_reply(
    call: Call, reader: Reader, parts: AsyncIterator[bytes], *, begun: bytes = b"", request_id: str
) -> None:
    """Send the whole response. `begun` holds the bytes of the body that have arrived. `request_id` is AWS's, or empty.

    Raises what the reader, `parts` and the call's window raise.
    """
    held = Portion(call)
    await _send(call, reader.open())
    await _pass_on(call, reader, begun, held)
    while reader.wants_more:
        try:
            part = await anext(parts)
        except StopAsyncIteration:
            break
        except RpcError:
            if not reader.has_ended:
                raise
            break
        await _pass_on(call, reader, part, held)
    call.hold(held.size)  # the last message, once more as an event
    call.send_all(with_request_id(await finish(reader), request_id))


async def _pass_on(call: Call, reader: Reader, part: bytes, held: Portion) -> None:
    """`held` is the part of the call's account for bytes in the reader."""
    for piece in in_pieces(part):
        before = call.held
        events = reader.feed(piece)
        inflated = call.held - before
        waiting = reader.held if reader.held > SMALL else 0
        if waiting > held.size:
            held.become(waiting)
        await _send(call, events)
        if waiting < held.size:
            held.become(waiting)
        if inflated:
            call.let_go(inflated)


async def _send(call: Call, events: list[ResponseEvent]) -> None:
    async for event in in_slices(events):
        if not call.send(event):
            await call.writable()
