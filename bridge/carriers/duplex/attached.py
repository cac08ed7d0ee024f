"""The instances of one function that have connected: how many more calls each takes, and when each of them leaves.

An instance is an invocation that lasts. Its end is the end of its connection or of its invocation, and it leaves before
its time is over. This module knows nothing of calls that wait, and invokes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bridge.carriers.duplex.rendezvous import InstanceArrival
from bridge.carriers.http2.connection import Http2Connection, Http2ConnectionOwner
from bridge.carriers.http2.liveness import ConnectionTimes
from bridge.config.schema import Duplex
from bridge.rpc.errors import ConnectionLost, FunctionError, RpcError, Unreachable
from bridge.rpc.value import FrozenValue

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


class AttachedReply(FrozenValue, frozen=True):
    """What an invocation returned at its end."""

    reason: str
    """Why the function did not connect; empty: it did, or does not say."""
    knows_duplex: bool
    """Whether it is a function that follows such orders."""


class AttachedInstance:
    """One invocation whose function has connected."""

    __slots__ = ("connection", "is_counted", "is_leaving", "remaining", "request_id", "timers")

    def __init__(self, arrival: InstanceArrival, connection: Http2Connection) -> None:
        self.request_id = arrival.request_id
        self.remaining = arrival.remaining
        """Seconds that the invocation had left when the function connected; None: nobody knows."""
        self.connection = connection
        self.is_counted = False
        """Whether it counts as attached: its server has spoken HTTP/2."""
        self.is_leaving = False
        """Whether it takes no new calls."""
        self.timers: list[asyncio.TimerHandle] = []

    def leave(self) -> None:
        """Take no new calls, and end with the last one, or at once without calls."""
        self.is_leaving = True
        self.connection.close()


class AttachedInstances:
    """Belongs to the running loop. Its length is the number of instances that have connected."""

    def __init__(self, owner: Http2ConnectionOwner, settings: Duplex) -> None:
        """`owner` is that of the connections."""
        self._owner = owner
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._by_connection: dict[Http2Connection, AttachedInstance] = {}

    def __len__(self) -> int:
        return len(self._by_connection)

    def adopt(self, arrival: InstanceArrival) -> AttachedInstance:
        """Speak HTTP/2 on the connection that the function opened. The next bytes that arrive are HTTP/2's, so this
        happens before the loop reads again.
        """
        times = ConnectionTimes(idle=self._settings.idle, look=min(1.0, self._settings.idle / 2))
        connection = Http2Connection(self._owner, times=times, asks_tcp=False)
        instance = self._by_connection[connection] = AttachedInstance(arrival, connection)
        arrival.transport.set_protocol(connection)
        connection.connection_made(arrival.transport)
        if arrival.rest:
            connection.data_received(arrival.rest)
        return instance

    def of(self, connection: Http2Connection) -> AttachedInstance | None:
        return self._by_connection.get(connection)

    def take_out(self, connection: Http2Connection) -> AttachedInstance | None:
        """Forget an instance whose connection is gone. Returns it, if it was known."""
        instance = self._by_connection.pop(connection, None)
        if instance is not None:
            for timer in instance.timers:
                timer.cancel()
        return instance

    # -- room for calls ------------------------------------------------------------------------------------------------

    def room(self, connection: Http2Connection) -> int:
        """How many more calls the instance takes."""
        instance = self._by_connection.get(connection)
        if instance is None or instance.is_leaving:
            return 0
        return min(connection.capacity, self._settings.calls - connection.open_streams - connection.reserved)

    def room_beside(self, instance: AttachedInstance) -> int:
        """How many more calls the other instances take."""
        return sum(self.room(each) for each in self._by_connection if each is not instance.connection)

    def free(self) -> Http2Connection | None:
        """Return the connection with the fewest calls that takes another one."""
        rooms = ((self.room(connection), connection) for connection in self._by_connection)
        room, found = max(rooms, key=lambda each: each[0], default=(0, None))
        return found if room > 0 else None

    # -- the end of an instance ----------------------------------------------------------------------------------------

    def let_all_end(self) -> None:
        """Let every instance end with its last call."""
        for instance in list(self._by_connection.values()):
            instance.leave()

    async def end_all(self, error: RpcError) -> None:
        """End every instance now. Its calls fail with this error."""
        for instance in list(self._by_connection.values()):
            await instance.connection.end(error)

    def limit(
        self,
        instance: AttachedInstance,
        *,
        replace: Callable[[AttachedInstance, float], None],
        left: Callable[[], None],
    ) -> None:
        """Send no new calls shortly before the invocation's time is over, and end those that outlive it. `left` is
        called when the instance takes no more. Before that, `replace` is called with the seconds until its end: the
        next instance shall be there by then, and when calls that outlive the limit begin again.
        """
        remaining = instance.remaining
        if remaining is None:
            return
        early = max(ENDS_EARLY, min(LEAVES_EARLY * remaining, LEAVES_EARLY_SECONDS))

        def leave() -> None:
            instance.leave()
            left()

        times: list[tuple[float, Callable[[], None]]] = [
            (remaining - early, leave),
            (remaining - ENDS_EARLY, lambda: instance.connection.abort(self._out_of_time())),
        ]
        if remaining > 2 * early:
            times.append((remaining - 2 * early, lambda: replace(instance, 2 * early)))
        instance.timers += [self._loop.call_later(max(0.0, seconds), act) for seconds, act in times]

    def invocation_ended(self, instance: AttachedInstance, ended: asyncio.Task[AttachedReply]) -> None:
        """End the instance with its invocation. A lost Invoke connection says nothing about the function."""
        if ended.cancelled():
            return
        error = ended.exception()
        connection = instance.connection
        if connection not in self._by_connection:
            return
        if isinstance(error, FunctionError):
            # Calls that still wait for the instance get what Invoke says.
            connection.abort(ConnectionLost(f"{error}; the call may have run") if connection.open_streams else error)
        elif error is None:
            instance.is_leaving = True
            instance.timers.append(self._loop.call_later(LAST_BYTES_SECONDS, self._returned, connection))
        else:
            _logger.warning("%s: the Invoke connection was lost, its calls go on: %s", self._owner.name, error)

    def _returned(self, connection: Http2Connection) -> None:
        name = self._owner.name
        if connection.open_streams:
            connection.abort(ConnectionLost(f"{name} returned before the call ended; it may have run"))
        else:
            connection.abort(Unreachable(f"{name} connected and returned before it took a call"))

    def _out_of_time(self) -> ConnectionLost:
        return ConnectionLost(
            f"{self._owner.name} reached its time limit before the call ended: raise the function's timeout (Lambda"
            " allows 30 minutes), or let the client begin again"
        )
