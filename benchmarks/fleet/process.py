"""One process of a bridge: a core that takes calls in order, and the bridge's own queue in front of the function."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, auto
from functools import partial

from benchmarks.fleet.clock import Clock
from benchmarks.fleet.lambda_function import LambdaFunction
from bridge.queueing.learned import NEVER, LearnedLimits
from bridge.queueing.line import Line, Member, Waiter
from bridge.rpc.errors import Quota
from bridge.rpc.places import Places

ROUND_TRIP = 0.002
"""Seconds until a throttle has come back."""


class Outcome(Enum):
    """How a call ends."""

    ANSWERED = auto()
    REFUSED = auto()
    """The queue was full, or the call waited for too long."""
    LATE = auto()
    """The client's deadline passed before the bridge came to the call."""
    LOST = auto()
    """The process died with the call in it."""


class FleetCall:
    """One call. It ends once."""

    __slots__ = ("began", "connection", "outcome")

    def __init__(self, connection: Hashable, began: float) -> None:
        self.connection = connection
        self.began = began
        self.outcome: Outcome | None = None


class Process:
    """A bridge's process."""

    def __init__(
        self,
        clock: Clock,
        function: LambdaFunction,
        *,
        cpu: float,
        end: Callable[[FleetCall, Outcome], None],
        deadline: float = NEVER,
        queue: int | None = 1000,
        wait: float = 10.0,
        max_concurrency: int = 1000,
    ) -> None:
        """`cpu`: seconds of the core for a call. `deadline`: of the client. `queue` and `wait`: of the bridge; None:
        null.
        """
        self._clock = clock
        self._function = function
        self._cpu = cpu
        self._end_call = end
        self._deadline = deadline
        self._queue, self._wait = queue, wait
        self._line: Line[Waiter] = Line(lambda: LearnedLimits(clock.random.random))
        self._member: Member[Waiter] = self._line.member(Places())
        self._member.max_concurrency = max_concurrency
        self._free_at = 0.0
        self._waker = 0
        self._calls: set[FleetCall] = set()
        self.is_alive = True
        self.is_draining = False
        self.cpu_used = 0.0
        """Seconds that the calls so far need, those in the core's queue too."""
        self.cpu_wait = 0.0
        """Seconds that they waited for the core."""
        self.throttled = 0
        self.when_empty: Callable[[], None] | None = None

    @property
    def takes_connections(self) -> bool:
        return self.is_alive and not self.is_draining

    @property
    def calls(self) -> int:
        """Calls that have begun here and not ended."""
        return len(self._calls)

    @property
    def waiting(self) -> int:
        """Calls in the queue in front of the function."""
        return len(self._member.turns) if self.is_alive else 0

    def take(self, call: FleetCall) -> None:
        """Begin with a call of a connection to this process."""
        now = self._clock.now
        self._calls.add(call)
        started = max(now, self._free_at)
        self._free_at = started + self._cpu
        self.cpu_used += self._cpu
        self.cpu_wait += started - now
        self._clock.at(self._free_at, partial(self._admit, call))

    def die(self) -> None:
        """Lose all calls at once."""
        self.is_alive = False
        for call in tuple(self._calls):
            self._finish(call, Outcome.LOST)

    def drain(self, done: Callable[[], None]) -> None:
        """Take no new connections; be done with the last call."""
        self.is_draining = True
        self.when_empty = done
        if not self._calls:
            self._leave()

    def _admit(self, call: FleetCall) -> None:
        """The core has come to the call."""
        now = self._clock.now
        if call.outcome is not None:
            return
        if now - call.began > self._deadline:
            self._finish(call, Outcome.LATE)
        elif self._queue is None or not self._line.is_watched:
            self._send_or_refuse(call)
        elif self._line.may_pass(self._member, None, now=now):
            self._line.send(self._member, call, None, now=now)
            self._send(call)
        elif self.waiting >= self._queue:
            self._finish(call, Outcome.REFUSED)
        else:
            self._let_wait(call)

    def _send_or_refuse(self, call: FleetCall) -> None:
        """No throttle has taught anything yet, or nothing shall be learned."""
        if self._member.has_room:
            self._member.places.calls.add(call)
            self._send(call)
        elif self._queue:
            self._let_wait(call)
        else:
            self._finish(call, Outcome.REFUSED)

    def _let_wait(self, call: FleetCall) -> None:
        waiter = Waiter(call, tenant=None, arrived=call.began)
        self._line.wait(self._member, waiter)
        self._give_up_later(call, waiter)
        self._go_on()

    def _give_up_later(self, call: FleetCall, waiter: Waiter) -> None:
        self._clock.at(call.began + self._wait, partial(self._give_up, call, waiter))

    def _give_up(self, call: FleetCall, waiter: Waiter) -> None:
        if call.outcome is None and not waiter.has_place:
            self._line.leave(self._member, waiter)
            self._finish(call, Outcome.REFUSED)

    def _send(self, call: FleetCall) -> None:
        found = self._function.start(self._clock.now)
        if isinstance(found, Quota):
            self.throttled += 1
            self._clock.after(ROUND_TRIP, partial(self._throttled, call, found))
        else:
            self._clock.after(found, partial(self._answered, call))

    def _answered(self, call: FleetCall) -> None:
        self._function.end()
        if not self.is_alive:
            return
        self._member.places.calls.discard(call)
        if self._line.is_watched:
            self._line.ended(self._member, call, None, now=self._clock.now, is_accepted=True)
        self._finish(call, Outcome.ANSWERED)
        self._go_on()

    def _throttled(self, call: FleetCall, quota: Quota) -> None:
        if not self.is_alive:
            return
        now = self._clock.now
        self._member.places.calls.discard(call)
        if self._queue is None:
            self._finish(call, Outcome.REFUSED)
            return
        self._line.throttled(call, None, now=now, retry_after=None, quota=quota, of_tenant=False)
        if now >= call.began + self._wait:
            self._finish(call, Outcome.REFUSED)
        else:
            waiter = Waiter(call, tenant=None, arrived=call.began)
            self._line.wait_again(self._member, waiter)
            self._give_up_later(call, waiter)
        self._go_on()

    def _go_on(self) -> None:
        """Send the calls whose turn has come, and come back when time alone lets the next one go."""
        if not self.waiting:
            return
        now = self._clock.now
        while (waiter := self._line.next(now=now)) is not None:
            assert isinstance(waiter.call, FleetCall)
            self._send(waiter.call)
        seconds = self._line.seconds_until_next(now=now)
        self._waker += 1
        if seconds != NEVER:
            self._clock.after(seconds, partial(self._woken, self._waker))

    def _woken(self, number: int) -> None:
        if self.is_alive and number == self._waker:
            self._go_on()

    def _finish(self, call: FleetCall, outcome: Outcome) -> None:
        self._calls.discard(call)
        self._end_call(call, outcome)
        if self.is_draining and not self._calls:
            self._leave()

    def _leave(self) -> None:
        done, self.when_empty = self.when_empty, None
        if done is not None:
            self.is_alive = False
            done()
