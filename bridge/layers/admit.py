"""admit: sends a call while its target and the process have room. Calls beyond that wait their turn, or are refused
before they cost anything.

A throttled call comes back here: it leaves its place and waits at the head of the queue. `bridge/queueing/` decides who
waits and who is next. `bridge/layers/gate.py` wakes the calls.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Hashable

from bridge.layers.gate import Gate, Turn
from bridge.queueing.line import ONE_TENANT, Member
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import DeadlineExceeded, Overloaded, QueueRefused, RpcError, Throttled
from bridge.rpc.events import Phase
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import QueueLimits
from bridge.rpc.places import Places
from bridge.rpc.status import StatusCode

BUILTIN_CALLS = 10_000
"""Calls of one built-in service that a process may have open. Most are a client's health Watch."""

BUILTIN_CALLS_OF_ONE = 100
"""The same for one connection: a client library opens one Watch for each."""

_LEAST_PUSHBACK = 0.1
_LONGEST_PUSHBACK = 10.0
"""Seconds after which a refused client may try again."""

TenantOf = Callable[[Call], Hashable]
"""Returns the tenant of a call, the same each time. Tenants take turns in the queue."""


def admit(  # noqa: PLR0913 - the target's settings, and what all targets share
    inner: Handler,
    *,
    target: TargetFigures,
    gate: Gate,
    max_concurrency: int,
    queue: QueueLimits | None,
    buffers: Buffers,
    gathers: bool,
    clock: Callable[[], float],
    repeats: bool = True,
    tenant_of: TenantOf | None = None,
    places: Places | None = None,
) -> Handler:
    """`buffers` are those of the process. `gathers` says that the target takes requests whole. Then a call takes its
    place once its request is complete, so that requests which never arrive block no other call. `clock` reads the
    monotonic time. `queue`: None refuses what cannot be sent at once. `repeats`: whether a throttled call waits for
    another turn. `tenant_of`: None means that all calls are of one tenant. `places`: those of the calls, if not the
    target's own.
    """
    if places is None:
        places = target.places
    calls = places.calls
    line = gate.line
    member = line.member(places)
    member.max_concurrency = max_concurrency
    member.tenant_of = tenant_of
    entrance = _Entrance(target, gate, member, queue, clock, repeats=repeats)

    async def admitted(call: Call) -> None:
        if gathers and not call.has_ended:
            await call.read_all()
        if buffers.held >= buffers.limit and buffers.is_full:
            raise buffers.full(0)
        if line.is_watched or len(calls) >= max_concurrency:
            await entrance.take_place(call)
        else:
            calls.add(call)
        while True:
            is_accepted: bool | None = True
            try:
                return await inner(call)
            except Throttled as error:
                throttle, is_accepted = error, None
                calls.discard(call)
                if not entrance.was_throttled(call, error):
                    raise
            except RpcError as error:
                is_accepted = error.may_have_run
                raise
            except asyncio.CancelledError:
                is_accepted = False
                raise
            finally:
                calls.discard(call)
                if line.is_watched and is_accepted is not None:
                    entrance.left(call, is_accepted=is_accepted)
            await entrance.take_place_again(call, throttle)

    return admitted


class _Entrance:
    """The way of calls that cannot simply pass: to a place, into the queue, or back."""

    def __init__(
        self,
        target: TargetFigures,
        gate: Gate,
        member: Member[Turn],
        queue: QueueLimits | None,
        clock: Callable[[], float],
        *,
        repeats: bool,
    ) -> None:
        self._target = target
        self._gate = gate
        self._line = gate.line
        self._member = member
        self._queue = queue
        self._clock = clock
        self._repeats = repeats and queue is not None

    async def take_place(self, call: Call) -> None:
        """Return when a new call has a place. Raises Overloaded."""
        line, member, now = self._line, self._member, self._clock()
        tenant = self._tenant(call)
        if self._queue is None:
            self._refuse_beyond_places(call, now)
        elif not line.may_pass(member, tenant, now=now):
            self._refuse_if_hopeless(call, tenant, self._queue, now)
            turn = Turn(call, tenant)
            line.wait(member, turn)
            await self._wait(turn, self._queue)
            return
        line.send(member, call, tenant, now=now)

    async def take_place_again(self, call: Call, throttle: Throttled) -> None:
        """Return when a throttled call has a place again. It waits at the head. Raises QueueRefused."""
        assert self._queue is not None
        turn = Turn(call, self._tenant(call))
        self._line.wait_again(self._member, turn)
        await self._wait(turn, self._queue, throttle)
        self._target.retries += 1

    def was_throttled(self, call: Call, error: Throttled) -> bool:
        """Learn from it. Returns whether the call shall wait for another turn. It has left its place."""
        line, member, now, tenant = self._line, self._member, self._clock(), self._tenant(call)
        if not self._gate.learns or error.may_have_run:
            line.ended(member, call, tenant, now=now, is_accepted=error.may_have_run)
            self._gate.go_on()
            return False
        line.throttled(
            call,
            tenant,
            now=now,
            retry_after=error.retry_after,
            quota=error.quota,
            of_tenant=tenant is not ONE_TENANT and not error.throttle_reason,
        )
        waits = self._repeats and error.is_transient and call.phase is Phase.NEW and self._is_in_time(call, tenant, now)
        if not waits:
            self._gate.go_on()
        return waits

    def left(self, call: Call, *, is_accepted: bool) -> None:
        """Note that the call has left its place."""
        member = self._member
        self._line.ended(member, call, self._tenant(call), now=self._clock(), is_accepted=is_accepted)
        if member.places.is_short:
            member.places.freed(call.connection, member.max_concurrency)
        self._gate.go_on()

    def _tenant(self, call: Call) -> Hashable:
        tenant_of = self._member.tenant_of
        return ONE_TENANT if tenant_of is None else tenant_of(call)

    def _is_in_time(self, call: Call, tenant: Hashable, now: float) -> bool:
        """Whether the function may be asked again before the call must end. AWS may have said when."""
        assert self._queue is not None
        left = self._queue.wait - call.queued_seconds
        if call.deadline is not None:
            left = min(left, call.deadline - now)
        seconds = self._line.seconds_until_open(tenant, now=now)
        return seconds < left or seconds == math.inf

    async def _wait(self, turn: Turn, queue: QueueLimits, throttle: Throttled | None = None) -> None:
        """Return when the turn has come. `throttle` ended the call's last turn. Raises QueueRefused."""
        call, target, began = turn.call, self._target, self._clock()
        target.queued += 1
        self._gate.go_on()
        try:
            async with asyncio.timeout(max(0.0, queue.wait - call.queued_seconds)):
                await turn.has_come
        except BaseException as error:
            self._give_up(turn)
            waited = call.queued_seconds + self._clock() - began
            if isinstance(error, TimeoutError):
                raise self._waited_too_long(call, queue, throttle) from None
            if isinstance(call.cause, DeadlineExceeded):
                call.cause = DeadlineExceeded(
                    f"the deadline passed while the call waited for its turn at {target.name} ({waited:.3g} s);"
                    f" {len(self._member.turns)} calls wait there"
                )
            raise
        finally:
            seconds = self._clock() - began
            target.queued -= 1
            target.waited(seconds)
            call.queued_seconds += seconds

    def _give_up(self, turn: Turn) -> None:
        if turn.has_place:
            self._member.places.calls.discard(turn.call)
            self.left(turn.call, is_accepted=False)
        elif not turn.is_evicted:
            self._line.leave(self._member, turn)
            self._gate.go_on()

    # -- refusals -----------------------------------------------------------------------------------------------------

    def _refuse_beyond_places(self, call: Call, now: float) -> None:
        """Raise Overloaded if all places are taken, or kept for other connections."""
        places, most = self._member.places, self._member.max_concurrency
        if len(places.calls) < most and not places.is_short:
            return
        has_place = places.ask(call.connection, most, now=now)
        self._line.is_watched = True  # places are short, so calls must say when they end
        if not has_place:
            raise Overloaded(
                f"{self._target.name} has {len(places.calls)} calls in flight, at most {most} (max_concurrency);"
                " try again later",
                kind="max_concurrency",
            )

    def _refuse_if_hopeless(self, call: Call, tenant: Hashable, queue: QueueLimits, now: float) -> None:
        """Raise QueueRefused if the call cannot wait, or would wait for longer than its deadline allows."""
        turns = self._member.turns
        if call.deadline is not None:
            seconds = self._line.seconds_to_wait(self._member, tenant, call.connection)
            if seconds is not None and now + seconds > call.deadline:
                raise QueueRefused(
                    f"the call would wait about {seconds:.3g} s for its turn at {self._target.name}, where {len(turns)}"
                    f" calls wait, but its deadline is in {max(0.0, call.deadline - now):.3g} s",
                    kind=self._count_refusal("deadline"),
                    code=StatusCode.DEADLINE_EXCEEDED,
                )
        if len(turns) < queue.calls:
            return
        evicted = turns.to_evict(tenant, call.connection)
        text = f"{self._target.name} has {len(turns)} calls waiting for their turn, at most {queue.calls} (queue.calls)"
        if evicted is None:
            raise self._refusal(call, "full", text)
        self._line.leave(self._member, evicted)
        evicted.is_evicted = True
        if not evicted.has_come.done():
            text += "; this call's connection or tenant has the most"
            evicted.has_come.set_exception(self._refusal(evicted.call, "full", text))

    def _waited_too_long(self, call: Call, queue: QueueLimits, throttle: Throttled | None) -> QueueRefused:
        waited = f"the call waited {queue.wait:g} s for its turn at {self._target.name}, the longest time (queue.wait)"
        if throttle is None:
            return self._refusal(call, "wait", waited)
        refused = self._refusal(call, "wait", f"{throttle}; {waited}", retry_after=throttle.retry_after)
        refused.request_id = throttle.request_id
        return refused

    def _refusal(self, call: Call, reason: str, text: str, *, retry_after: float | None = None) -> QueueRefused:
        """Return the error. Its status is `throttled_as` if throttles set the limit, else RESOURCE_EXHAUSTED.

        `retry_after` are the seconds that AWS has said, if it did.
        """
        kind = self._count_refusal(reason)
        if not (self._gate.learns and self._member.has_room):
            return QueueRefused(f"{text}; {self._member.max_concurrency} are in flight (max_concurrency)", kind=kind)
        return QueueRefused(
            f"{text}; try again later",
            kind=kind,
            code=call.route.limits.throttled_as,
            retry_after=self._seconds_to_stay_away() if retry_after is None else retry_after,
        )

    def _count_refusal(self, reason: str) -> str:
        """Count it, and return its kind."""
        self._target.queue_refused[reason] += 1
        return f"queue_{reason}"

    def _seconds_to_stay_away(self) -> float:
        """Return when there may be room again: half of the queue is over."""
        pace = self._member.pace
        seconds = 1.0 if pace is None else len(self._member.turns) / pace / 2
        return min(_LONGEST_PUSHBACK, max(_LEAST_PUSHBACK, seconds))


def admit_builtin(
    inner: Handler,
    *,
    name: str,
    calls: int = BUILTIN_CALLS,
    calls_of_one: int = BUILTIN_CALLS_OF_ONE,
) -> Handler:
    """Admit calls of a built-in service. `name` is the service's. `calls` bounds the calls open at a time, in all and
    on one connection.
    """
    by_connection: Counter[Hashable] = Counter()

    async def admitted(call: Call) -> None:
        connection = call.connection
        if by_connection[connection] >= calls_of_one or by_connection.total() >= calls:
            raise Overloaded(
                f"too many calls of {name} are open: at most {calls_of_one} on a connection and {calls} in the process",
                kind="builtin_calls",
            )
        by_connection[connection] += 1
        try:
            await inner(call)
        finally:
            by_connection[connection] -= 1
            if not by_connection[connection]:
                del by_connection[connection]

    return admitted
