"""The calls of one connection whose handlers have not returned."""

from __future__ import annotations

import asyncio

from bridge.rpc.errors import RpcError
from bridge.server.call import ServedCall

_ABORTS_AT_ONCE = 50


class OpenCalls(dict[int, ServedCall]):
    """By stream. This keeps the tasks of the calls alive."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return [call.task for call in self.values() if call.task is not None]

    def abort(self, cause: RpcError) -> None:
        """End all calls, some in each turn of the loop. Ending a thousand at once would delay other connections."""
        left = [each for each in self.values() if each.cause is None and each.status is None]
        for call in left[:_ABORTS_AT_ONCE]:
            call.abort(cause)
        if len(left) > _ABORTS_AT_ONCE:
            asyncio.get_running_loop().call_soon(self.abort, cause)

    def check_age(self, now: float) -> None:
        """Call this about once a second, with the loop's time."""
        for call in tuple(self.values()):
            call.check_age(now)

    def transport_drained(self) -> None:
        """Wake the senders that wait for the transport."""
        for call in tuple(self.values()):
            call.transport_drained()
