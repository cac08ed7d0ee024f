from __future__ import annotations

import logging
from email.utils import formatdate

import pytest

from bridge.aws.sigv4 import Credentials
from bridge.carriers.identity.credentials import AwsSettings
from bridge.carriers.identity.signing import REFUSALS_LOGGED_EVERY, Signing
from bridge.rpc.errors import AccessRefused, Throttled
from tests.support.fakes import FakeClock

NOW = 1_700_000_000.0
OLD, NEW = Credentials("OLD", "old"), Credentials("NEW", "new")


class Source:
    """Credentials that are replaced when they are refused, as long as there are others."""

    settings = AwsSettings()
    is_ready = True

    def __init__(self, *credentials: Credentials) -> None:
        self._left = list(credentials)

    def current(self) -> Credentials:
        return self._left[0]

    async def refresh_now(self, refused: Credentials) -> None:
        if len(self._left) > 1:
            self._left.pop(0)


def date(seconds: float) -> str:
    """What AWS's clock says if it is so far ahead of ours."""
    return formatdate(NOW + seconds, usegmt=True)


async def test_other_credentials_are_worth_another_attempt() -> None:
    signing = Signing(Source(OLD, NEW), FakeClock(NOW))

    assert await signing.renew(OLD, 0.0, date(0))
    assert NEW is signing.current()


async def test_the_same_credentials_at_the_same_time_are_not() -> None:
    signing = Signing(Source(OLD), FakeClock(NOW))

    assert not await signing.renew(OLD, 0.0, date(0))


@pytest.mark.parametrize("ahead", [900.0, -900.0])
async def test_awss_time_is_taken_if_ours_is_wrong(ahead: float) -> None:
    signing = Signing(Source(OLD), FakeClock(NOW))

    assert await signing.renew(OLD, 0.0, date(ahead))
    assert NOW + ahead == signing.now()


async def test_a_clock_that_another_call_has_put_right_is_worth_another_attempt() -> None:
    """Two calls were refused at once; the second finds the time corrected already."""
    signing = Signing(Source(OLD), FakeClock(NOW))
    await signing.renew(OLD, 0.0, date(900))

    assert await signing.renew(OLD, 0.0, date(900))
    assert not await signing.renew(OLD, 900.0, date(901))
    assert NOW + 900 == signing.now()


async def test_a_clock_that_was_mended_is_trusted_again() -> None:
    clock = FakeClock(NOW - 900)
    signing = Signing(Source(OLD), clock)
    await signing.renew(OLD, 0.0, date(0))
    clock.now = NOW

    assert await signing.renew(OLD, 900.0, date(0))
    assert NOW == signing.now()


@pytest.mark.parametrize("value", ["", "nonsense"])
async def test_an_answer_without_a_date_changes_nothing(value: str) -> None:
    signing = Signing(Source(OLD), FakeClock(NOW))

    assert not await signing.renew(OLD, 0.0, value)
    assert NOW == signing.now()


def test_refusals_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """With what AWS said, which the client must not read; other errors are no business of the operator's."""
    clock = FakeClock(NOW)
    signing = Signing(Source(OLD), clock)
    error = AccessRefused("AWS refuses")
    error.add_note("AWS: User x is not authorized")
    with caplog.at_level(logging.WARNING):
        signing.report(Throttled("busy"))
        signing.report(error)
        signing.report(error)
        clock.advance(REFUSALS_LOGGED_EVERY)
        signing.report(error)

    assert ["AWS refuses (AWS: User x is not authorized)"] * 2 == [record.message for record in caplog.records]
