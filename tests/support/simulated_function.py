"""A function with AWS's limits and its callers, in simulated time: what a Line does with them, without waiting."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count

from bridge.queueing.learned import NEVER, LearnedLimits
from bridge.queueing.line import Line, Member, Waiter
from bridge.rpc.errors import Quota
from bridge.rpc.places import Places


class SimulatedCall:
    """A call of one connection."""

    def __init__(self, connection: Hashable, began: float) -> None:
        self.connection = connection
        self.began = began


@dataclass
class Quotas:
    """AWS's side: calls at a time, and calls a second. Functions of one account may share it."""

    concurrency: int | None = None
    rate: float | None = None
    retry_after: float | None = None
    kind: Quota = Quota.FUNCTION
    """What a throttle for too many calls at a time names."""
    running: int = 0
    _tokens: float = NEVER
    _counted: float = 0.0

    def refuse(self, now: float) -> Quota | None:
        """Why a call is throttled; None: it is not, and runs."""
        if self.rate is not None:
            self._tokens = min(self.rate, self._tokens + (now - self._counted) * self.rate)
            self._counted = now
            if self._tokens < 1:
                return Quota.RATE
        if self.concurrency is not None and self.running >= self.concurrency:
            return self.kind
        if self.rate is not None:
            self._tokens -= 1
        self.running += 1
        return None


@dataclass
class Outcomes:
    """What the callers of one function saw."""

    waits: list[float] = field(default_factory=list)
    """Seconds from a call's beginning to its answer."""
    ended: list[float] = field(default_factory=list)
    sent: int = 0
    throttled: list[float] = field(default_factory=list)
    """When."""

    def answered(self, since: float, until: float) -> int:
        return sum(since <= at < until for at in self.ended)


class Simulation:
    """One clock for any number of functions, each with a Line and callers in a closed loop."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it so many seconds from now."""
        heappush(self._events, (self.now + seconds, next(self._numbers), what))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heappop(self._events)
            what()
        self.now = until


class SimulatedFunction:
    """Calls that go through a Line to a function with a quota."""

    def __init__(
        self,
        simulation: Simulation,
        quota: Quotas,
        *,
        seconds: float = 0.1,
        refused_in: float = 0.002,
        max_concurrency: int = 1000,
    ) -> None:
        """`seconds`: how long a call runs. `refused_in`: how long a throttle takes to come back."""
        self.simulation = simulation
        self.quota = quota
        self.seconds = seconds
        self.refused_in = refused_in
        self.outcomes = Outcomes()
        self.line: Line[Waiter] = Line(lambda: LearnedLimits(simulation.random.random))
        self.member: Member[Waiter] = self.line.member(Places())
        self.member.max_concurrency = max_concurrency
        self.is_down = False
        """Whether every call is throttled."""
        self._waker = 0

    def callers(self, number: int, *, connections: int = 16) -> None:
        """So many callers that call again as soon as they are answered."""
        for caller in range(number):
            self.simulation.at(caller * 1e-5, partial(self._call, f"c{caller % connections}"))

    def _call(self, connection: str) -> None:
        now = self.simulation.now
        call = SimulatedCall(connection, now)
        if not self.line.is_watched and self.member.has_room:
            self.member.places.calls.add(call)
            self._send(call)
        elif self.line.may_pass(self.member, None, now=now):
            self.line.send(self.member, call, None, now=now)
            self._send(call)
        else:
            self.line.wait(self.member, Waiter(call, tenant=None, arrived=now))
            self._go_on()

    def _send(self, call: SimulatedCall) -> None:
        self.outcomes.sent += 1
        reason = Quota.FUNCTION if self.is_down else self.quota.refuse(self.simulation.now)
        if reason is not None:
            self.simulation.at(
                self.refused_in * self.simulation.random.uniform(0.5, 1.5), lambda: self._refused(call, reason)
            )
        else:
            self.simulation.at(self.seconds * self.simulation.random.uniform(0.9, 1.1), lambda: self._answered(call))

    def _answered(self, call: SimulatedCall) -> None:
        now = self.simulation.now
        self.quota.running -= 1
        self.member.places.calls.discard(call)
        if self.line.is_watched:
            self.line.ended(self.member, call, None, now=now, is_accepted=True)
        self.outcomes.waits.append(now - call.began)
        self.outcomes.ended.append(now)
        self.simulation.at(0.001, lambda: self._call(str(call.connection)))
        self._go_on()

    def _refused(self, call: SimulatedCall, reason: Quota) -> None:
        now = self.simulation.now
        self.outcomes.throttled.append(now)
        self.member.places.calls.discard(call)
        self.line.throttled(
            call,
            None,
            now=now,
            retry_after=self.quota.retry_after,
            quota=reason,
            of_tenant=False,
        )
        self.line.wait_again(self.member, Waiter(call, tenant=None, arrived=call.began))
        self._go_on()

    def _go_on(self) -> None:
        now = self.simulation.now
        while (waiter := self.line.next(now=now)) is not None:
            assert isinstance(waiter.call, SimulatedCall)
            self._send(waiter.call)
        seconds = self.line.seconds_until_next(now=now)
        self._waker += 1
        if seconds != NEVER:
            mine = self._waker
            self.simulation.at(seconds, lambda: self._go_on() if mine == self._waker else None)


def recent(times: deque[float] | list[float], since: float) -> int:
    return sum(at >= since for at in times)
