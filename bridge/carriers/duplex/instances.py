"""Gives each call an instance of one function, and decides when another one is invoked.

A call goes to the instance with the fewest calls. If all are full or about to end, the call waits, and another instance
is invoked. One attempt serves as many waiting calls as an instance takes, so that 1,000 callers start 100 invocations.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Protocol

from bridge.carriers.duplex.attached import AttachedInstance, AttachedInstances
from bridge.carriers.duplex.attaching import Attacher, Invoke, Meeting
from bridge.carriers.http2.connection import Http2Connection
from bridge.config.schema import Duplex
from bridge.rpc.errors import Bug, Draining, Overloaded, RpcError, Throttled, copy_of

MAX_WAITING = 10_000
"""Calls that may wait for an instance. More are refused."""

_logger = logging.getLogger(__name__)


class Observer(Protocol):
    """What is counted."""

    def instance_came(self, seconds: float) -> None:
        """Note that an instance is attached. `seconds`: how long that took."""
        ...

    def instance_left(self) -> None: ...
    def call_began(self) -> None: ...
    def call_ended(self) -> None: ...


class Instances:
    """Owns the instances of one function with its qualifier, role, endpoint and tenant. Belongs to the running loop."""

    def __init__(
        self,
        name: str,
        *,
        invoke: Invoke,
        meeting: Meeting,
        address: str,
        settings: Duplex,
        observer: Observer,
    ) -> None:
        """`name` is the function's in messages, `address` the one that functions connect to."""
        self.name = name
        self._settings = settings
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._attached = AttachedInstances(self, settings)
        self._attacher = Attacher(
            name, self._attached, invoke=invoke, meeting=meeting, address=address, settings=settings
        )
        self._attempts: set[asyncio.Task[None]] = set()
        self._most_attempts: int | None = None
        """Attempts at once, after a throttle. It doubles with each success. None: AWS has throttled none of late."""
        self._waiting: OrderedDict[asyncio.Future[Http2Connection], None] = OrderedDict()
        """Calls that wait, the one that came first in front."""
        self._is_closed = False
        self._is_leaving = False

    def __len__(self) -> int:
        """Return how many instances are attached."""
        return len(self._attached)

    # -- for calls -----------------------------------------------------------------------------------------------------

    async def connection(self) -> Http2Connection:
        """Return a connection with room for a call. The caller must open its stream before it awaits anything else.

        Raises what the invocation raises; Unreachable if the function does not connect; NotDuplex, Overloaded,
        Draining.
        """
        while True:
            found = self._attached.free() if not self._waiting else None
            if found is not None:
                return found
            found = await self._wait()
            if self._attached.room(found) > 0:
                return found  # otherwise the connection was lost meanwhile, and its promise is void

    def request_id_of(self, connection: Http2Connection) -> str:
        """Return AWS's id of the invocation behind a connection."""
        instance = self._attached.of(connection)
        return "" if instance is None else instance.request_id

    async def _wait(self) -> Http2Connection:
        """Wait in line for room on a connection."""
        if self._is_closed:
            raise Draining("the bridge stops")
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} calls wait for an instance of {self.name} already", kind="connections")
        waiter: asyncio.Future[Http2Connection] = self._loop.create_future()
        self._waiting[waiter] = None
        self._attach_as_needed()
        try:
            found = await waiter
        except asyncio.CancelledError:
            self._waiting.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().reserved -= 1
                self._serve()
            raise
        found.reserved -= 1
        return found

    def _serve(self) -> None:
        """Give room to the calls that have waited longest, and invoke more instances if they do not suffice."""
        while self._waiting:
            found = self._attached.free()
            if found is None:
                self._attach_as_needed()
                return
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                found.reserved += 1
                waiter.set_result(found)

    def _refuse(self, calls: int, error: BaseException) -> None:
        """Tell the calls that have waited longest why they cannot be served."""
        while self._waiting and calls > 0:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                calls -= 1
                waiter.set_exception(copy_of(error))

    # -- for the connections -------------------------------------------------------------------------------------------

    def changed(self, connection: Http2Connection) -> None:
        """Look again at a connection: it can take more calls, or fewer."""
        instance = self._attached.of(connection)
        if instance is not None and not connection.can_ever_take_more:
            instance.is_leaving = True
        self._serve()
        if self._is_leaving and instance is not None and not (instance.is_leaving or connection.reserved):
            instance.leave()

    def lost(self, connection: Http2Connection) -> None:
        """Forget a connection that is gone."""
        instance = self._attached.take_out(connection)
        if instance is None:
            return
        if instance.is_counted:
            self._observer.instance_left()
        self._serve()

    # -- attaching -----------------------------------------------------------------------------------------------------

    def _attach_as_needed(self) -> None:
        if self._is_closed:
            return
        needed = -(-len(self._waiting) // self._settings.calls)
        if self._most_attempts is not None:
            needed = min(needed, self._most_attempts)
        while len(self._attempts) < needed:
            self._begin_attempt()

    def _begin_attempt(self, *, needed_in: float = 0.0) -> None:
        """Attach an instance. It may have no calls until so many seconds have passed."""
        attempt = self._loop.create_task(self._attach(self._loop.time() + needed_in))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempt_ended)

    def _attempt_ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        self._serve()

    async def _attach(self, needed_at: float) -> None:
        """Attach an instance, or tell the calls that wait for it why it did not come."""
        begun = self._loop.time()
        try:
            instance = await self._attacher.attach()
        except RpcError as error:
            self._failed(error)
            return
        except Exception:  # the outermost frame: calls that wait must not wait for ever
            _logger.exception("%s: an unexpected error while an instance was attached", self.name)
            self._failed(Bug("internal error"))
            return
        if self._most_attempts is not None:
            self._most_attempts *= 2
        if self._attached.of(instance.connection) is None:
            return  # it has ended again
        instance.is_counted = True
        instance.connection.stay(needed_at - self._loop.time() + self._settings.idle)
        self._observer.instance_came(self._loop.time() - begun)
        self._attached.limit(instance, replace=self._replace, left=self._serve)

    def _failed(self, error: RpcError) -> None:
        # Calls that the other attempts can serve wait for these.
        calls = self._settings.calls
        unserved = len(self._waiting) - (len(self._attempts) - 1) * calls
        if isinstance(error, Throttled):
            self._most_attempts = 1
        else:
            unserved = min(unserved, calls)
        self._refuse(unserved, error)

    def _replace(self, instance: AttachedInstance, seconds: float) -> None:
        """Invoke the next instance, if the calls of this one, which ends in so many seconds, would find no room."""
        calls = instance.connection.open_streams
        if not self._is_leaving and not self._attempts and self._attached.room_beside(instance) < calls:
            self._begin_attempt(needed_in=seconds)

    # -- the end -------------------------------------------------------------------------------------------------------

    @property
    def is_unused(self) -> bool:
        """Whether no instance and no attempt is left, and no call waits."""
        return not (len(self._attached) or self._attempts or self._waiting) and self._attacher.is_idle

    def close_idle(self) -> None:
        """Let every instance end when its last call has. Those that calls wait for are still invoked."""
        self._is_leaving = True
        self._attached.let_all_end()

    async def close(self) -> None:
        """End every instance now. Calls under way fail with Draining."""
        self._is_closed = True
        stopping = Draining("the bridge stops")
        self._refuse(len(self._waiting), stopping)
        for attempt in self._attempts:
            attempt.cancel()
        await self._attached.end_all(stopping)
        await self._attacher.close()
        if self._attempts:
            await asyncio.wait(self._attempts)
