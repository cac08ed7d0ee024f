"""Line: the calls of one function, in flight and waiting, over all entries of the configuration that lead to it.

It decides who is sent, who waits and who is refused. It reads no clock and wakes nobody: bridge/layers/admit.py does.
While nothing is learned and nobody waits, `is_watched` is False, and a call need not ask.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from bridge.queueing.learned import NEVER, LearnedLimits
from bridge.queueing.turns import Turns
from bridge.rpc.errors import Quota
from bridge.rpc.places import Placed, Places

TENANT_FORGOTTEN_AFTER = 300.0
"""Seconds since a tenant's last throttle."""
MOST_TENANTS = 1000
"""Tenants that have limits of their own. The one that was throttled longest ago is forgotten first."""

MEASURED_FROM = 10
"""Calls that must have ended while others waited, before anybody is told how long the queue takes."""
_MEASURED = 64

ONE_TENANT: Hashable = None
"""The tenant of all calls if the target has no tenants."""


class Waiter:
    """A call that waits, or has waited, for its turn."""

    __slots__ = ("arrived", "call", "connection", "has_place", "tenant")

    def __init__(self, call: Placed, *, tenant: Hashable, arrived: float) -> None:
        self.call = call
        self.tenant = tenant
        self.connection = call.connection
        self.arrived = arrived
        self.has_place = False
        """Whether its turn has come: the call is in flight."""


WaiterType = TypeVar("WaiterType", bound=Waiter)


class Member(Generic[WaiterType]):
    """One target that leads to the function: its calls in flight, and its queue."""

    __slots__ = ("_ended", "max_concurrency", "places", "tenant_of", "turns")

    def __init__(self, places: Places) -> None:
        self.places = places
        self.max_concurrency = 1
        """Calls in flight, as the configuration in force says."""
        self.turns: Turns[WaiterType] = Turns()
        self.tenant_of: Callable[[Any], Hashable] | None = None
        """The tenant of a call. None: all calls are of one."""
        self._ended: deque[float] = deque(maxlen=_MEASURED)
        """When the last calls ended, while others waited all the time."""

    @property
    def has_room(self) -> bool:
        return len(self.places.calls) < self.max_concurrency

    def measure(self, now: float) -> None:
        """Count a call that has ended."""
        if self.turns:
            self._ended.append(now)
        elif self._ended:
            self._ended.clear()

    def forget_pace(self) -> None:
        """Measure anew: the queue has stood still, which says nothing about the time to come."""
        self._ended.clear()

    @property
    def pace(self) -> float | None:
        """Calls a second that the queue moves on. None: fewer than MEASURED_FROM were measured."""
        ended = self._ended
        if len(ended) < MEASURED_FROM or ended[-1] <= ended[0]:
            return None
        return (len(ended) - 1) / (ended[-1] - ended[0])


class _Tenant:
    __slots__ = ("calls", "limits", "throttled_at")

    def __init__(self, calls: set[Placed], limits: LearnedLimits) -> None:
        self.calls = calls
        """In flight."""
        self.limits = limits
        self.throttled_at = 0.0


class Line(Generic[WaiterType]):
    """All times are monotonic seconds."""

    def __init__(self, new_limits: Callable[[], LearnedLimits] = LearnedLimits) -> None:
        self._new_limits = new_limits
        self.limits = new_limits()
        self.members: dict[int, Member[WaiterType]] = {}
        self._waiting: OrderedDict[Member[WaiterType], None] = OrderedDict()
        """Members with waiting calls, in the order of their turns."""
        self._tenants: OrderedDict[Hashable, _Tenant] = OrderedDict()
        """Those that AWS has throttled, the last one at the end."""
        self._sent: dict[Placed, float] = {}
        """When calls in flight were sent. Those that were sent while nobody watched are not here."""
        self.is_watched = False
        """Whether calls must ask for their place, and say when they end."""

    def member(self, places: Places) -> Member[WaiterType]:
        """Return the target that owns these places."""
        found = self.members.get(id(places))
        if found is None:
            found = self.members[id(places)] = Member(places)
        return found

    @property
    def in_flight(self) -> int:
        return sum(len(member.places.calls) for member in self.members.values())

    def forget_old(self, *, now: float) -> None:
        """Forget what was learned long ago."""
        while self._tenants:
            tenant, state = next(iter(self._tenants.items()))
            if now - state.throttled_at <= TENANT_FORGOTTEN_AFTER:
                break
            del self._tenants[tenant]
        is_short = any(member.places.is_short for member in self.members.values())
        self.is_watched = self.limits.has_any(now=now) or bool(self._waiting or self._tenants) or is_short
        if not self.is_watched:
            self._sent.clear()

    # -- calls that come and go ---------------------------------------------------------------------------------------

    def may_pass(self, member: Member[WaiterType], tenant: Hashable, *, now: float) -> bool:
        """Whether a new call may be sent at once. If so, call `send` next."""
        return (
            not member.turns
            and member.has_room
            and self.limits.seconds_until_open(self.in_flight, now=now) <= 0
            and not self._seconds_until_tenant(tenant, now)
        )

    def send(self, member: Member[WaiterType], call: Placed, tenant: Hashable, *, now: float) -> None:
        """Give the call a place."""
        member.places.calls.add(call)
        self._sent[call] = now
        self.limits.sent(now=now)
        state = self._tenants.get(tenant) if self._tenants else None
        if state is not None:
            state.calls.add(call)
            state.limits.sent(now=now)

    def ended(
        self, member: Member[WaiterType], call: Placed, tenant: Hashable, *, now: float, is_accepted: bool
    ) -> None:
        """Note that a call has left its place without a throttle. `is_accepted`: the function took it."""
        sent = self._sent.pop(call, -NEVER)
        member.measure(now)
        if is_accepted:
            self.limits.accepted(self.in_flight + 1, sent=sent, now=now)
        state = self._tenants.get(tenant) if self._tenants else None
        if state is not None:
            count = len(state.calls)
            state.calls.discard(call)
            if is_accepted:
                state.limits.accepted(count, sent=sent, now=now)
        self.forget_old(now=now)

    def throttled(
        self,
        call: Placed,
        tenant: Hashable,
        *,
        now: float,
        retry_after: float | None,
        quota: Quota,
        of_tenant: bool,
    ) -> None:
        """Note that a call has left its place because it was throttled. `of_tenant`: only its tenant's calls are."""
        sent = self._sent.pop(call, -NEVER)
        state = self._tenants.get(tenant) if not of_tenant else self._throttled_tenant(tenant, now)
        if state is not None:
            state.calls.discard(call)
        if state is not None and of_tenant:
            limits, others = state.limits, len(state.calls)
        else:
            limits, others = self.limits, self.in_flight
        limits.throttled(others, sent=sent, now=now, retry_after=retry_after, quota=quota)
        if not others:
            for member in self.members.values():
                member.forget_pace()
        self.is_watched = True

    def _throttled_tenant(self, tenant: Hashable, now: float) -> _Tenant:
        state = self._tenants.get(tenant) or self._new_tenant(tenant)
        self._tenants.move_to_end(tenant)
        state.throttled_at = now
        return state

    def _new_tenant(self, tenant: Hashable) -> _Tenant:
        if len(self._tenants) >= MOST_TENANTS:
            self._tenants.popitem(last=False)
        calls = {
            call
            for member in self.members.values()
            if member.tenant_of is not None
            for call in member.places.calls
            if member.tenant_of(call) == tenant
        }
        state = self._tenants[tenant] = _Tenant(calls, self._new_limits())
        return state

    # -- calls that wait ----------------------------------------------------------------------------------------------

    def wait(self, member: Member[WaiterType], waiter: WaiterType) -> None:
        """Let the call wait behind the others of its connection."""
        member.turns.add(waiter)
        self._waiting.setdefault(member)
        self.is_watched = True

    def wait_again(self, member: Member[WaiterType], waiter: WaiterType) -> None:
        """Let a throttled call wait at the head."""
        waiter.has_place = False
        member.turns.put_back(waiter)
        self._waiting.setdefault(member)
        self._waiting.move_to_end(member, last=False)
        self.is_watched = True

    def leave(self, member: Member[WaiterType], waiter: WaiterType) -> None:
        """Take out a call that gives up waiting."""
        member.turns.remove(waiter)
        if not member.turns:
            del self._waiting[member]

    def next(self, *, now: float) -> WaiterType | None:
        """Return the call whose turn has come. It has its place, as after `send`."""
        if not self._waiting or self.limits.seconds_until_open(self.in_flight, now=now) > 0:
            return None
        is_blocked = (lambda tenant: self._seconds_until_tenant(tenant, now) > 0) if self._tenants else None
        for member in tuple(self._waiting):
            waiter = member.turns.take(is_blocked) if member.has_room else None
            if waiter is None:
                continue
            if member.turns:
                self._waiting.move_to_end(member)
            else:
                del self._waiting[member]
            waiter.has_place = True
            self.send(member, waiter.call, waiter.tenant, now=now)
            return waiter
        return None

    def seconds_until_next(self, *, now: float) -> float:
        """When to call `next` although no call has ended. NEVER: time alone changes nothing."""
        if not self._waiting:
            return NEVER
        seconds = self.limits.seconds_until_open(self.in_flight, now=now)
        if seconds > 0 or not self._tenants:
            return seconds or NEVER
        blocked = (
            self._seconds_until_tenant(tenant, now)
            for member in self._waiting
            if member.has_room
            for tenant in member.turns.tenants
        )
        return min((each for each in blocked if each > 0), default=NEVER)

    def seconds_until_open(self, tenant: Hashable, *, now: float) -> float:
        """When a call of this tenant may be sent, were it the first that waits. NEVER: when another call ends."""
        return max(
            self.limits.seconds_until_open(self.in_flight, now=now),
            self._seconds_until_tenant(tenant, now),
        )

    def _seconds_until_tenant(self, tenant: Hashable, now: float) -> float:
        state = self._tenants.get(tenant) if self._tenants else None
        return 0.0 if state is None else state.limits.seconds_until_open(len(state.calls), now=now)

    def seconds_to_wait(self, member: Member[WaiterType], tenant: Hashable, connection: Hashable) -> float | None:
        """How long a new call of this connection waits, as fast as the queue moves now. None: nobody knows yet."""
        pace = member.pace
        return None if pace is None else member.turns.ahead_of(tenant, connection) / pace
