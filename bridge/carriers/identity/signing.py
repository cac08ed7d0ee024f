"""State that all signed requests of a carrier share: credentials, AWS's clock, and what to do when AWS refuses a
signature.

It signs nothing itself. A refused signature is corrected once: by fresh credentials, or by using AWS's time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.aws.sigv4 import Credentials
from bridge.carriers.aws_answer import parse_date
from bridge.carriers.identity.credentials import AwsSettings, CredentialSource
from bridge.rpc.errors import AccessRefused, Misconfigured, RpcError

SKEW_NOTICED = 30.0
"""Seconds of difference from which on AWS's clock is used. AWS tolerates five minutes of clock skew."""

REFUSALS_LOGGED_EVERY = 60.0
"""Seconds between two log lines about a target that AWS does not allow the bridge to call."""

_logger = logging.getLogger(__name__)


class Signing:
    """The signing state of one carrier."""

    __slots__ = ("_clock", "_refused_until", "_source", "current", "skew")

    def __init__(self, source: CredentialSource, clock: Callable[[], float]) -> None:
        """`clock` returns the wall time (Unix seconds)."""
        self._source = source
        self._clock = clock
        self.current = source.current
        """The credentials to sign with. Raises NotReady."""
        self.skew = 0.0
        """Seconds by which AWS's clock is ahead of this machine's, as far as known."""
        self._refused_until = 0.0

    @property
    def settings(self) -> AwsSettings:
        return self._source.settings

    def now(self) -> float:
        """Return the current time in Unix seconds by AWS's clock."""
        return self._clock() + self.skew

    async def renew(self, refused: Credentials, skew: float, date: str) -> bool:
        """Whether another attempt may succeed, because the credentials or the skew have changed. `date` is that of the
        answer that refused it. Raises NotReady.
        """
        self._set_clock_by(date)
        await self._source.refresh_now(refused)
        return self._source.current() is not refused or self.skew != skew

    def _set_clock_by(self, date: str) -> None:
        """Use AWS's time if this machine's clock is wrong."""
        theirs = parse_date(date)
        if theirs is None:
            return
        skew = theirs - self._clock()
        if abs(skew) < SKEW_NOTICED:
            skew = 0.0
        elif abs(skew - self.skew) < SKEW_NOTICED:
            return  # already known: dates have whole seconds, so small differences do not count
        else:
            _logger.warning("this machine's clock is %.0f s behind that of AWS; signing with AWS's", skew)
        self.skew = skew

    def report(self, error: RpcError) -> None:
        """Log, at a limited rate, that AWS refuses a call. The client is not told which identity AWS refuses, but the
        operator must know.
        """
        if not isinstance(error, AccessRefused | Misconfigured):
            return
        now = self._clock()
        if now >= self._refused_until:
            self._refused_until = now + REFUSALS_LOGGED_EVERY
            notes = "; ".join(getattr(error, "__notes__", ())) or "no more is known"
            _logger.warning("%s (%s)", error, notes)
