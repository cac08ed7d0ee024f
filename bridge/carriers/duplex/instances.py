"""The attached instances of one function: which of them takes the next call, and when another one is invoked.

An instance is an invocation that lasts: the function has connected, and calls go to it over that connection. A call
goes to the instance with the fewest calls. If all are full or about to end, the call waits, and another instance is
invoked. One attempt serves as many waiting calls as an instance takes, so that 1,000 callers start 100 invocations.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from bridge.carriers.duplex.rendezvous import Arrival, Arrived
from bridge.carriers.http2.connection import Http2Connection
from bridge.carriers.http2.liveness import ConnectionTimes
from bridge.config.schema import Duplex
from bridge.rpc.errors import (
    Bug,
    ConnectionLost,
    Draining,
    FunctionError,
    NotDuplex,
    Overloaded,
    RpcError,
    Throttled,
    Unreachable,
    copy_of,
)
from bridge.rpc.value import FrozenValue

MAX_WAITING = 10_000
"""Calls that may wait for an instance. More are refused."""
LEAVES_EARLY = 0.1
"""The part of an invocation's time at whose beginning no new calls are sent to it, at most LEAVES_EARLY_SECONDS."""
LEAVES_EARLY_SECONDS = 30.0
ENDS_EARLY = 1.0
"""Seconds before the end of an invocation at which the calls that outlive it are ended. The function ends the
connection by itself half a second later.
"""
LAST_BYTES_SECONDS = 1.0
"""How long the connection of an invocation that has returned may stay. The function has closed it, but what it sent
last may not have been read yet.
"""

_logger = logging.getLogger(__name__)


class Reply(FrozenValue, frozen=True):
    """What an invocation returned at its end."""

    reason: str
    """Why the function did not connect; empty: it did, or does not say."""
    knows_duplex: bool
    """Whether it is a function that follows such orders."""


Invoke = Callable[[str], Awaitable[Reply]]
"""Takes a token and runs the function with the order to connect, until it returns. Raises RpcError."""


class Meeting(Protocol):
    """Where functions connect, as bridge.carriers.duplex.rendezvous.Rendezvous says."""

    def expect(self, arrived: Arrived) -> str: ...
    def forget(self, token: str) -> None: ...


class Observer(Protocol):
    """What is counted."""

    def instance_came(self, seconds: float) -> None:
        """Note that an instance is attached. `seconds`: how long that took."""
        ...

    def instance_left(self) -> None: ...
    def call_began(self) -> None: ...
    def call_ended(self) -> None: ...


class Instance:
    """One attached invocation."""

    __slots__ = ("connection", "is_attached", "is_leaving", "remaining", "request_id", "timers")

    def __init__(self, arrival: Arrival, connection: Http2Connection) -> None:
        self.request_id = arrival.request_id
        self.remaining = arrival.remaining
        """Seconds that the invocation had left when the function connected; None: nobody knows."""
        self.connection = connection
        self.is_attached = False
        """Whether its server has spoken HTTP/2."""
        self.is_leaving = False
        """Whether it takes no new calls."""
        self.timers: list[asyncio.TimerHandle] = []


class Instances:
    """Owns the attached instances of one function, with its qualifier, role, endpoint and tenant. Belongs to the
    running loop.
    """

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
        self._invoke = invoke
        self._meeting = meeting
        self._address = address
        self._settings = settings
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._instances: dict[Http2Connection, Instance] = {}
        self._invocations: set[asyncio.Task[Reply]] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._most_attempts: int | None = None
        """Attempts at once, after a throttle. It doubles with each success. None: AWS has throttled none of late."""
        self._waiting: deque[asyncio.Future[Http2Connection]] = deque()
        self._is_closed = False
        self._is_leaving = False

    def __len__(self) -> int:
        """Return how many instances are attached."""
        return len(self._instances)

    # -- for calls -----------------------------------------------------------------------------------------------------

    async def connection(self) -> Http2Connection:
        """Return a connection with room for a call. The caller must open its stream before it awaits anything else.

        Raises what the invocation raises; Unreachable if the function does not connect; NotDuplex, Overloaded,
        Draining.
        """
        while True:
            found = self._free() if not self._waiting else None
            if found is not None:
                return found
            found = await self._wait()
            if self._room(found) > 0:
                return found

    def request_id_of(self, connection: Http2Connection) -> str:
        """Return AWS's id of the invocation behind a connection."""
        instance = self._instances.get(connection)
        return "" if instance is None else instance.request_id

    def changed(self, connection: Http2Connection) -> None:
        """Look again at a connection: it can take more calls, or fewer."""
        instance = self._instances.get(connection)
        if instance is not None and not connection.can_ever_take_more:
            instance.is_leaving = True
        self._serve()

    def lost(self, connection: Http2Connection) -> None:
        """Forget a connection that is gone."""
        instance = self._instances.pop(connection, None)
        if instance is None:
            return
        for timer in instance.timers:
            timer.cancel()
        if instance.is_attached:
            self._observer.instance_left()
        self._serve()

    @property
    def is_unused(self) -> bool:
        """Whether no instance and no attempt is left, and no call waits."""
        return not (self._instances or self._attempts or self._invocations or self._waiting)

    def close_idle(self) -> None:
        """Let every instance end when its last call has."""
        self._is_leaving = True
        for instance in list(self._instances.values()):
            instance.is_leaving = True
            instance.connection.close()

    async def close(self) -> None:
        """End every instance now. Calls under way fail with Draining."""
        self._is_closed = True
        stopping = Draining("the bridge stops")
        self._refuse(len(self._waiting), stopping)
        for attempt in self._attempts:
            attempt.cancel()
        for instance in list(self._instances.values()):
            await instance.connection.end(stopping)
        # The functions return by themselves, now that their connections have ended. Nobody waits for their replies.
        for invocation in self._invocations:
            invocation.cancel()
        if self._attempts or self._invocations:
            await asyncio.wait(self._attempts | self._invocations)

    def _room(self, connection: Http2Connection) -> int:
        """How many more calls the instance takes."""
        instance = self._instances.get(connection)
        if instance is None or instance.is_leaving:
            return 0
        return min(connection.capacity, self._settings.calls - connection.open_streams - connection.reserved)

    def _free(self) -> Http2Connection | None:
        """Return the connection with the fewest calls that takes another one."""
        rooms = ((self._room(connection), connection) for connection in self._instances)
        room, found = max(rooms, key=lambda each: each[0], default=(0, None))
        return found if room > 0 else None

    async def _wait(self) -> Http2Connection:
        if self._is_closed:
            raise Draining("the bridge stops")
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} calls wait for an instance of {self.name} already", kind="connections")
        waiter: asyncio.Future[Http2Connection] = self._loop.create_future()
        self._waiting.append(waiter)
        self._attach_as_needed()
        try:
            found = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().reserved -= 1
                self._serve()
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise
        found.reserved -= 1
        return found

    def _serve(self) -> None:
        """Give room to the calls that have waited longest, and invoke more instances if they do not suffice."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            found = self._free()
            if found is None:
                self._attach_as_needed()
                return
            found.reserved += 1
            self._waiting.popleft().set_result(found)

    def _refuse(self, calls: int, error: BaseException) -> None:
        """Tell the calls that have waited longest why they cannot be served."""
        while self._waiting and calls > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                calls -= 1
                waiter.set_exception(copy_of(error))

    # -- attaching -----------------------------------------------------------------------------------------------------

    def _attach_as_needed(self) -> None:
        if self._is_closed or (self._is_leaving and not self._waiting):
            return
        needed = -(-len(self._waiting) // self._settings.calls)
        if self._most_attempts is not None:
            needed = min(needed, self._most_attempts)
        while len(self._attempts) < needed:
            self._begin_attempt()

    def _begin_attempt(self) -> None:
        attempt = self._loop.create_task(self._attach())
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempt_ended)

    def _attempt_ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        self._serve()

    async def _attach(self) -> None:
        """Invoke the function and wait until it has connected."""
        begun = self._loop.time()
        arrived: asyncio.Future[Instance] = self._loop.create_future()

        def take(arrival: Arrival) -> None:
            if arrived.done():
                arrival.transport.abort()
            else:
                arrived.set_result(self._adopt(arrival))

        token = self._meeting.expect(take)
        invocation = self._loop.create_task(self._run(token))
        self._invocations.add(invocation)
        invocation.add_done_callback(self._invocations.discard)
        try:
            async with asyncio.timeout(self._settings.attach):
                instance = await self._arrival(arrived, invocation)
                await instance.connection.wait_until_ready()
        except TimeoutError:
            self._give_up(token, arrived, invocation, self._too_late())
        except asyncio.CancelledError:
            self._give_up(token, arrived, invocation, Draining("the bridge stops"))
            raise
        except RpcError as error:
            self._give_up(token, arrived, invocation, error)
        except Exception:  # the outermost frame: calls that wait must not wait for ever
            _logger.exception("%s: an unexpected error while an instance was attached", self.name)
            self._give_up(token, arrived, invocation, Bug("internal error"))
        else:
            instance.is_attached = instance.connection in self._instances
            if instance.is_attached:
                self._observer.instance_came(self._loop.time() - begun)
            if self._most_attempts is not None:
                self._most_attempts *= 2
            self._limit(instance)
            invocation.add_done_callback(lambda ended: self._invocation_ended(instance, ended))

    async def _arrival(self, arrived: asyncio.Future[Instance], invocation: asyncio.Task[Reply]) -> Instance:
        """Return the instance once it has connected. Raises what the invocation raises; NotDuplex, Unreachable."""
        await asyncio.wait((arrived, invocation), return_when=asyncio.FIRST_COMPLETED)
        if not arrived.done():
            raise self._not_attached(invocation.result())
        return arrived.result()

    async def _run(self, token: str) -> Reply:
        return await self._invoke(token)

    def _adopt(self, arrival: Arrival) -> Instance:
        """Speak HTTP/2 on the connection that the function opened. The next bytes that arrive are HTTP/2's, so this
        happens before the loop reads again.
        """
        times = ConnectionTimes(idle=self._settings.idle, look=min(1.0, self._settings.idle / 2))
        connection = Http2Connection(self, times=times)
        instance = self._instances[connection] = Instance(arrival, connection)
        arrival.transport.set_protocol(connection)
        connection.connection_made(arrival.transport)
        if arrival.rest:
            connection.data_received(arrival.rest)
        return instance

    def _give_up(
        self,
        token: str,
        arrived: asyncio.Future[Instance],
        invocation: asyncio.Task[Reply],
        error: RpcError,
    ) -> None:
        self._meeting.forget(token)
        if arrived.done():
            arrived.result().connection.abort(error)
        arrived.cancel()
        invocation.cancel()
        invocation.add_done_callback(_seen)
        # One attempt serves so many calls; others have attempts of their own.
        served = self._settings.calls
        if isinstance(error, Throttled):
            self._most_attempts = 1
            served = max(served, len(self._waiting) - (len(self._attempts) - 1) * self._settings.calls)
        self._refuse(served, error)

    def _not_attached(self, reply: Reply) -> RpcError:
        if not reply.knows_duplex:
            because = f" ({reply.reason})" if reply.reason else ""
            return NotDuplex(
                f"{self.name} does not connect to the bridge{because}: it needs grpc-lambda-fn with LambdaServer or"
                " forward, and duplex not switched off there"
            )
        return Unreachable(f"{self.name} did not connect to {self._address}: {reply.reason or 'it does not say why'}")

    def _too_late(self) -> Unreachable:
        return Unreachable(
            f"{self.name} did not connect to {self._address} within {self._settings.attach:g} s: check that its subnet"
            " has a route there, that the security groups allow the port, that the name is known there, and that it"
            " starts within that time"
        )

    # -- the end of an instance ----------------------------------------------------------------------------------------

    def _limit(self, instance: Instance) -> None:
        """Send no new calls shortly before the invocation's time is over, and end those that outlive it."""
        remaining = instance.remaining
        if remaining is None:
            return
        early = max(ENDS_EARLY, min(LEAVES_EARLY * remaining, LEAVES_EARLY_SECONDS))
        times = [(remaining - early, self._leave), (remaining - ENDS_EARLY, self._out_of_time)]
        if remaining > 2 * early:
            times.append((remaining - 2 * early, self._replace))
        instance.timers = [self._loop.call_later(max(0.0, seconds), act, instance) for seconds, act in times]

    def _replace(self, instance: Instance) -> None:
        """Invoke the next instance before this one leaves, if its calls would not find room elsewhere."""
        if self._is_leaving or self._attempts or not instance.connection.open_streams:
            return
        room = sum(self._room(each) for each in self._instances if each is not instance.connection)
        if room < instance.connection.open_streams:
            self._begin_attempt()

    def _leave(self, instance: Instance) -> None:
        instance.is_leaving = True
        instance.connection.close()  # at once if it has no calls
        self._serve()

    def _out_of_time(self, instance: Instance) -> None:
        instance.connection.abort(
            ConnectionLost(
                f"{self.name} reached its time limit before the call ended: raise the function's timeout (Lambda"
                " allows 30 minutes), or let the client begin again"
            )
        )

    def _invocation_ended(self, instance: Instance, ended: asyncio.Task[Reply]) -> None:
        """End the instance with its invocation. A lost Invoke connection says nothing about the function."""
        if ended.cancelled():
            return
        if instance.connection not in self._instances:
            _seen(ended)
            return
        error = ended.exception()
        if isinstance(error, FunctionError):
            instance.connection.abort(ConnectionLost(f"{error}; the call may have run"))
        elif error is None:
            instance.is_leaving = True
            returned = ConnectionLost(f"{self.name} returned before the call ended; it may have run")
            instance.timers.append(self._loop.call_later(LAST_BYTES_SECONDS, instance.connection.abort, returned))
            self._serve()
        else:
            _logger.warning("%s: the Invoke connection was lost, its calls go on: %s", self.name, error)


def _seen(task: asyncio.Task[Reply]) -> None:
    """Mark the task's exception as seen."""
    if not task.cancelled():
        task.exception()
