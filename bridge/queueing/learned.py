"""What a function's throttles teach: how many calls it takes at a time, how many a second, and when to ask again.

In: what was sent, accepted and throttled, and when. Out: whether another call may be sent. It knows no call. The text
of docs/decisions/025-calls-wait-their-turn.md says why it learns in this way.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from bridge.rpc.errors import Quota

NEVER = float("inf")

LIMIT_FORGOTTEN_AFTER = 60.0
"""Seconds. A limit that nobody has met for so long says nothing about the function any more."""
LONGEST_PAUSE = 60.0
"""Seconds that a Retry-After may stop all calls. A longer one is asked again."""

_DECREASE = 0.9
_SHARED_DECREASE = 0.9
_AFTER_OUTAGE = 0.95
_AT_ONCE_AFTER_OUTAGE = 0.5
_HOLD_ROUNDS = 8
_HOLD_CALLS = 24
"""Rounds, and calls, that are accepted at the learned limit before more is tried. Each try costs a throttled call."""
_FIRST_STEP = 0.03
"""Part of the limit by which it rises first when more is tried."""
_SHORTEST_HOLD, _LONGEST_HOLD = 1.25, 10.0
"""Seconds after which slow functions are tried again: while they grow, and when they have stopped growing."""
_GROWN = 1.05
"""A function that takes so many times as many calls as before the last try grows."""
_SHARED_HOLD = 0.5
"""Seconds between two tries for more of what is shared. It is a time, so that all gain the same."""
_LEAST_PAUSE = 0.05
"""Seconds after a throttle for too many calls a second, until the function has room for a few again."""
_FIRST_PAUSE = 0.05
_LONGEST_BACKOFF = 0.5
"""Seconds between tries while every call is throttled and AWS does not say how long to wait."""


class LearnedLimits:
    """The limits of one function, or of one tenant of it. All times are monotonic seconds."""

    def __init__(self, random: Callable[[], float] = random.random) -> None:
        """`random` gives a number from 0 to 1."""
        self._concurrency = _Concurrency()
        self._rate = _Rate()
        self._random = random
        self._paused_until = 0.0
        self._vain_tries = 0
        """Calls that were throttled although no other was in flight, since the last one that was accepted."""

    @property
    def concurrency(self) -> int | None:
        """How many calls at a time the function takes. None: no throttle has said so."""
        limit = self._concurrency.limit
        return None if limit is None else int(limit)

    @property
    def rate(self) -> float | None:
        """How many calls a second it takes."""
        return self._rate.rate

    def has_any(self, *, now: float) -> bool:
        """Whether anything is known."""
        self._forget_old(now)
        return self._concurrency.limit is not None or self._rate.rate is not None or now < self._paused_until

    def seconds_until_open(self, in_flight: int, *, now: float) -> float:
        """When the next call may be sent: 0 now, NEVER before one of those in flight has ended."""
        self._forget_old(now)
        limit = self._concurrency.limit
        if limit is not None and in_flight >= int(limit):
            self._concurrency.reached_at = now
            return NEVER
        return max(0.0, self._paused_until - now, self._rate.seconds_until_open(now))

    def sent(self, *, now: float) -> None:
        """Count a call that is sent now."""
        self._rate.sent(now)

    def accepted(self, in_flight: int, *, sent: float, now: float) -> None:
        """Learn from a call that has ended and was not throttled.

        `sent` is when it was sent, `in_flight` the calls at that time with it.
        """
        if sent > self._concurrency.changed_at:
            self._vain_tries = 0
        self._concurrency.accepted(in_flight, sent=sent, now=now)
        self._rate.accepted(sent=sent, now=now)

    def throttled(self, others: int, *, sent: float, now: float, retry_after: float | None, quota: Quota) -> None:
        """Learn from a call that was throttled. `others` are the calls in flight without it."""
        wait = min(retry_after or 0.0, LONGEST_PAUSE)
        if quota is Quota.RATE:
            self._rate.throttled(others, sent=sent, now=now, quiet=wait)
            self._pause(now + max(wait, _LEAST_PAUSE))
            return
        self._concurrency.throttled(others, sent=sent, now=now, quiet=wait, is_shared=quota is Quota.ACCOUNT)
        if not others:
            # The end of a call says when there is room again. Without one in flight only time can tell.
            self._back_off(now, wait)

    def _back_off(self, now: float, wait: float) -> None:
        """Let all calls wait, longer with each try that fails, and at least `wait` seconds."""
        backoff = min(_LONGEST_BACKOFF, _FIRST_PAUSE * 2.0 ** min(self._vain_tries, 10))
        self._vain_tries += 1
        self._pause(now + max(wait, backoff * (1 + self._random()) / 2))

    def _forget_old(self, now: float) -> None:
        """Forget limits that nobody has met for LIMIT_FORGOTTEN_AFTER."""
        concurrency, rate = self._concurrency, self._rate
        if concurrency.limit is not None and now - concurrency.reached_at > LIMIT_FORGOTTEN_AFTER:
            self._concurrency = _Concurrency()
        if rate.rate is not None and now - rate.reached_at > LIMIT_FORGOTTEN_AFTER:
            self._rate = _Rate()

    def _pause(self, until: float) -> None:
        self._paused_until = max(self._paused_until, until)


class Pauses(LearnedLimits):
    """What throttles teach about a function whose calls share invocations. How many calls it takes, they do not say:
    it must not be invoked for a moment.
    """

    def __init__(self, random: Callable[[], float] = random.random) -> None:
        super().__init__(random)
        self._throttled_at = -NEVER

    def accepted(self, in_flight: int, *, sent: float, now: float) -> None:  # noqa: ARG002 - as the other limits
        """Note that the function takes calls."""
        if sent > self._throttled_at:
            self._vain_tries = 0

    def throttled(
        self,
        others: int,  # noqa: ARG002 - as the other limits
        *,
        sent: float,
        now: float,
        retry_after: float | None,
        quota: Quota,  # noqa: ARG002 - as the other limits
    ) -> None:
        """Let all calls wait a little. Many of them learn of one throttle, which counts once.

        A long Retry-After is asked again before it is over, because instances that are attached take calls meanwhile.
        """
        if sent <= self._throttled_at:
            return
        self._throttled_at = now
        self._back_off(now, min(retry_after or 0.0, _LONGEST_BACKOFF))


class _Concurrency:
    """Additive increase, multiplicative decrease, of the number of calls at a time.

    When a call is throttled, the others in flight are what the function takes. So the limit falls to their number at
    once, and by a tenth at most once in a round trip. Up to the number that was taken, it rises again with each round
    of accepted calls. Then it holds for some rounds before it tries more. The step of the increase is 1, or a few parts
    of a hundred when more is tried. It doubles with each round in which nothing is throttled, as in TCP's slow start.
    While tries find that a function grows, as Lambda lets a cold one grow, the next ones come sooner.
    """

    def __init__(self) -> None:
        self.limit: float | None = None
        self.changed_at = -NEVER
        """A round counts calls that were sent after this."""
        self.reached_at = -NEVER
        self._throttled_at = -NEVER
        self._decreased_at = -NEVER
        self._proven = NEVER
        """What the function took when it last throttled. NEVER: more is being tried."""
        self._quiet_until = -NEVER
        """No more is tried before this time: AWS's Retry-After."""
        self._accepted = 0
        """In this round."""
        self._step = 1
        self._tried_from: float | None = None
        """The limit from which more is being tried. None: nothing is."""
        self._longest_hold = _SHORTEST_HOLD
        """Seconds. A function that throttles for the first time is probably cold, and Lambda lets it grow."""
        self._peak = 1
        """Calls in flight at the first throttle after an accepted call."""
        self._is_new_episode = True
        self._was_alone = False
        """Whether the last throttle found no other call in flight."""
        self._is_shared = False
        """Whether others use the same quota."""

    def throttled(self, others: int, *, sent: float, now: float, quiet: float, is_shared: bool) -> None:
        if self._is_new_episode:
            self._peak, self._is_new_episode = others + 1, False
        limit = others + 1.0 if self.limit is None else self.limit
        if self.limit is None or sent > self._decreased_at:
            limit *= _DECREASE
            self._decreased_at = now
        self.limit = max(1.0, min(limit, others))
        self._note_growth(others)
        # A call that is throttled alone says nothing of what the function took before: find that again quickly.
        self._proven = max(1.0, others or self._peak * _AFTER_OUTAGE)
        self._is_shared, self._was_alone = is_shared, not others
        if is_shared:
            # Let others have some. Those with less rise as fast, so that all come to the same share.
            self.limit = self._proven = max(1.0, min(self.limit, others * _SHARED_DECREASE))
        self._quiet_until = now + quiet
        self.changed_at = self._throttled_at = self.reached_at = now
        self._accepted, self._step = 0, 1

    def _note_growth(self, taken: int) -> None:
        """Compare what the function takes now with what it took before the try that has just ended, if it was one."""
        if self._tried_from is None:
            return
        has_grown = taken > self._tried_from * _GROWN
        longest = self._longest_hold / 4 if has_grown else self._longest_hold * 2
        self._longest_hold = min(max(longest, _SHORTEST_HOLD), _LONGEST_HOLD)
        self._tried_from = None

    def accepted(self, in_flight: int, *, sent: float, now: float) -> None:
        if self.limit is None or sent <= self.changed_at:
            return
        if sent > self._throttled_at:
            self._is_new_episode = True
            if self._was_alone:
                # The outage is over: half of what was taken before it is most likely taken again.
                self._was_alone = False
                self.limit = max(self.limit, self._proven * _AT_ONCE_AFTER_OUTAGE)
                self.changed_at = now
                return
        if in_flight < int(self.limit):
            return  # it was not reached, so nothing is known of it
        self.reached_at = now
        self._accepted += 1
        if self.limit < self._proven:
            if self._accepted >= int(self.limit) and (not self._is_shared or now - self.changed_at >= _SHARED_HOLD):
                self._raise(now)
        elif self._has_held(now):
            self._tried_from, self._proven = self.limit, NEVER
            self._step = max(1, int(self.limit * _FIRST_STEP))
            self._raise(now)

    def _has_held(self, now: float) -> bool:
        assert self.limit is not None
        if now < self._quiet_until:
            return False
        if self._is_shared:
            return now - self.changed_at >= _SHARED_HOLD
        held = max(_HOLD_ROUNDS * int(self.limit), _HOLD_CALLS)
        return self._accepted >= held or now - self.changed_at > self._longest_hold

    def _raise(self, now: float) -> None:
        assert self.limit is not None
        self.limit = min(self._proven, self.limit + self._step)
        self._step *= 2
        self._accepted, self.changed_at = 0, now


_RATE_DECREASE = 0.95
_VAIN_DECREASE = 0.5
"""If no call was accepted since the last throttle."""
_LEAST_RATE = 1.0
"""Calls a second."""
_RISE_EVERY = 0.5
"""Seconds."""
_FIRST_RISE = 0.01
_LARGEST_RISE = 0.1
_FIRST_GUESSED_RISE = 0.2
_LARGEST_GUESSED_RISE = 0.4
"""Parts of the rate by which it rises, the first time and later. The part doubles each time nothing was throttled. It
is larger while the rate is only guessed.
"""
_RATE_HOLD = 1.0
"""Seconds after a throttle in which the rate does not rise."""
_AT_ONCE = 0.02
"""Seconds of calls that may be sent together: timers are not finer than a millisecond."""
_SHORTEST_MEASURE = 0.25
"""Seconds between two throttles from which a rate can be told. Those that come sooner tell nothing new."""


class _Rate:
    """The number of calls a second. What was accepted between two throttles is what the function takes in that time."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._room = 0.0
        """Calls that may be sent at once. Negative: sent before their time."""
        self._counted_at = 0.0
        self._measured_since = 0.0
        self._accepted = 0
        self._rises_at = 0.0
        self._rise = _FIRST_RISE
        self.reached_at = -NEVER
        self._is_guessed = True
        """Whether no rate was measured between two throttles yet."""
        self._before = 0.0
        """The rate before the throttles since the last accepted call."""

    def seconds_until_open(self, now: float) -> float:
        if self.rate is None:
            return 0.0
        self._count(now)
        if self._room >= 1.0 - 1e-9:
            return 0.0
        self.reached_at = now
        return (1.0 - self._room) / self.rate

    def sent(self, now: float) -> None:
        if self.rate is not None:
            self._count(now)
            self._room -= 1.0

    def accepted(self, *, sent: float, now: float) -> None:
        if self.rate is None or sent <= self._measured_since:
            return
        self._count(now)
        if not self._accepted:
            # After an outage the first accepted call brings back half of the rate, because it was taken before.
            self.rate = max(self.rate, self._before * _VAIN_DECREASE)
        self._accepted += 1
        if now - self.reached_at < _RISE_EVERY and now >= self._rises_at:
            self.rate *= 1 + self._rise
            self._rise = min(_LARGEST_GUESSED_RISE if self._is_guessed else _LARGEST_RISE, self._rise * 2)
            self._rises_at = now + _RISE_EVERY

    def throttled(self, others: int, *, sent: float, now: float, quiet: float) -> None:
        if self.rate is None:
            # Nothing was measured yet. Those that were not throttled came within a moment: take them for a second's.
            self.rate = self._before = max(_LEAST_RATE, float(others))
        elif sent <= self._measured_since or now - self._measured_since < _SHORTEST_MEASURE:
            if self._is_guessed and not self._accepted:  # of the same burst
                self.rate = max(_LEAST_RATE, min(self.rate, float(others)))
            return
        elif not self._accepted:
            self.rate = max(_LEAST_RATE, self.rate * _VAIN_DECREASE)
        else:
            measured, self._is_guessed = self._accepted / (now - self._measured_since), False
            self.rate = self._before = max(_LEAST_RATE, min(self.rate, measured) * _RATE_DECREASE)
        self._measured_since = self._counted_at = self.reached_at = now
        self._accepted, self._room = 0, 0.0
        self._rise = _FIRST_GUESSED_RISE if self._is_guessed else _FIRST_RISE
        self._rises_at = now + max(_RATE_HOLD, quiet)

    def _count(self, now: float) -> None:
        assert self.rate is not None
        most = max(1.0, self.rate * _AT_ONCE)
        self._room = min(most, self._room + (now - self._counted_at) * self.rate)
        self._counted_at = now
