"""RunningCall: a RecordingCall whose handler runs in a task and can be aborted, as the server does it."""

from __future__ import annotations

import asyncio

from bridge.rpc.call import Handler
from bridge.rpc.errors import RpcError
from tests.support.fakes import RecordingCall


class RunningCall(RecordingCall):
    """The first cause counts; a call that has its status is left alone; a task that has not begun is not cancelled."""

    _task: asyncio.Task[None]
    _is_running = False

    def run(self, handler: Handler) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self._serve(handler))
        return self._task

    async def _serve(self, handler: Handler) -> None:
        self._is_running = True
        await handler(self)

    def abort(self, cause: RpcError) -> None:
        if self.cause is not None or self.status is not None:
            return
        self.cause = cause
        if self._is_running:
            self._task.cancel()
