"""What all signed requests of a carrier share: whose credentials, whose clock, and what to do when AWS takes neither.

It signs nothing itself. A refused signature may be put right once: by fresh credentials, or by taking AWS's time for ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.aws.sigv4 import Credentials
from bridge.carriers.aws_answer import parse_date
from bridge.carriers.identity.credentials import AwsSettings, CredentialSource
from bridge.rpc.errors import AccessRefused, Misconfigured, RpcError

SKEW_NOTICED = 30.0
"""Seconds by which AWS's clock must differ from ours to be taken instead; AWS bears five minutes."""

REFUSALS_LOGGED_EVERY = 60.0
"""Seconds between two log lines about a target that AWS does not let us call."""

_log = logging.getLogger(__name__)


class Signing:
    """Belongs to one carrier."""

    __slots__ = ("_clock", "_refused_until", "_source", "current", "skew")

    def __init__(self, source: CredentialSource, clock: Callable[[], float]) -> None:
        """`clock` reads the wall time (Unix seconds)."""
        self._source = source
        self._clock = clock
        self.current = source.current
        """The credentials to sign with. Raises NotReady."""
        self.skew = 0.0
        """Seconds by which AWS's clock is ahead of ours, as far as we were told."""
        self._refused_until = 0.0

    @property
    def settings(self) -> AwsSettings:
        return self._source.settings

    def now(self) -> float:
        """Unix seconds, as AWS counts them."""
        return self._clock() + self.skew

    async def renew(self, refused: Credentials, skew: float, date: str) -> bool:
        """Whether another attempt may do better than one with these credentials and this skew: by other ones.

        `date`: of the answer that refused it. Raises NotReady.
        """
        self._set_clock_by(date)
        await self._source.refresh_now(refused)
        return self._source.current() is not refused or self.skew != skew

    def _set_clock_by(self, date: str) -> None:
        """Take AWS's time if ours is wrong."""
        theirs = parse_date(date)
        if theirs is None:
            return
        skew = theirs - self._clock()
        if abs(skew) < SKEW_NOTICED:
            skew = 0.0
        elif abs(skew - self.skew) < SKEW_NOTICED:
            return  # known already: dates have whole seconds, small differences mean nothing
        else:
            _log.warning(
                "this machine's clock is %.0f s behind that of AWS; signing with AWS's", skew
            )
        self.skew = skew

    def report(self, error: RpcError) -> None:
        """Log that AWS does not let us call, now and then: the client is not told whom it refuses, the operator needs to know."""
        if not isinstance(error, AccessRefused | Misconfigured):
            return
        now = self._clock()
        if now >= self._refused_until:
            self._refused_until = now + REFUSALS_LOGGED_EVERY
            notes = "; ".join(getattr(error, "__notes__", ())) or "no more is known"
            _log.warning("%s (%s)", error, notes)
