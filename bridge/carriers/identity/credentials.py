"""Finds AWS credentials as boto3 does, in a thread, keeps them fresh, and returns them without waiting.

botocore looks in the environment, the shared files, SSO, processes, web identity, and the roles of the container and
the machine. Some of that blocks for seconds, so it is imported and asked in a thread. The result is published as one
value. A call reads it, or fails at once if there is no value yet.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bridge.aws.sigv4 import Credentials
from bridge.carriers.identity import botocore_internals
from bridge.carriers.identity.credential_faults import (
    place_of,
    reason_of,
    unusable_part,
    unusable_setting,
)
from bridge.config.endpoint import endpoint_in
from bridge.rpc.errors import NotReady
from bridge.rpc.recent import IdentityState
from bridge.rpc.value import FrozenValue

if TYPE_CHECKING:
    from botocore.credentials import CredentialProvider
    from botocore.credentials import Credentials as Kept
    from botocore.session import Session

CHECKED_EVERY = 60.0
"""Seconds between two checks of the credentials. botocore renews them from 15 minutes before they expire."""

FIRST_PAUSE = 1.0
MAX_SEARCH_PAUSE = 60.0
"""Seconds until the next search after one that found nothing, doubled each time."""

FORCED_EVERY = 10.0
"""Seconds between two searches caused by refused signatures, so that wrong keys do not start one for each call."""

NONE_YET = "the bridge has no AWS credentials yet; its log says why"
"""What a caller learns. Only the operator can do something about it, so the advice is in the log."""

NO_CREDENTIALS_FOUND = (
    "no place holds any; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws sso login`,"
    " or give the machine or container a role"
)

_logger = logging.getLogger(__name__)

FIPS = "use_fips_endpoint"
DUAL_STACK = "use_dualstack_endpoint"
"""botocore's settings, which it reads from AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT and the profile."""

FetchResult = TypeVar("FetchResult")


class AwsSettings(FrozenValue, frozen=True):
    """The AWS settings other than credentials, as boto3 reads them."""

    region: str | None = None
    lambda_endpoint: str | None = None
    """The URL of the Lambda API, if it is not AWS's default."""
    uses_fips: bool = False
    """Whether AWS's endpoint with FIPS 140 cryptography is used."""
    uses_dual_stack: bool = False
    """Whether AWS's endpoint with IPv6 addresses is used."""


class Found(FrozenValue, frozen=True):
    """The result of one search."""

    credentials: Credentials
    settings: AwsSettings
    place: str
    """botocore's name for the place where they were found: `env`, `sso`, `iam-role` ..."""


class CredentialSource(Protocol):
    """A source of credentials for carriers. A role to assume is its own source, on top of the source of its base
    credentials.
    """

    @property
    def is_ready(self) -> bool: ...

    @property
    def settings(self) -> AwsSettings: ...

    def current(self) -> Credentials:
        """Return the credentials to sign with. It is the same object until they change. Raises NotReady."""
        ...

    async def refresh_now(self, refused: Credentials) -> None:
        """Note that AWS refuses these credentials. Look for others, unless there are others already."""
        ...


class FixedCredentials:
    """A source of fixed credentials."""

    def __init__(self, credentials: Credentials, settings: AwsSettings) -> None:
        self._credentials = credentials
        self.settings = settings

    is_ready = True

    def current(self) -> Credentials:
        return self._credentials

    async def refresh_now(self, refused: Credentials) -> None:
        """Do nothing, because there are no others."""


def local_credentials() -> FixedCredentials:
    """Return the keys for requests to the local Lambda, which checks no signature."""
    return FixedCredentials(Credentials("local", "local"), AwsSettings(region="us-east-1"))


class Search(Protocol):
    """Searches for credentials. Both methods may block for long, and may raise anything."""

    @property
    def tried(self) -> str:
        """The places that it searches, for the log."""
        ...

    def find(self) -> Found:
        """Search from the beginning."""
        ...

    def renew(self) -> Found:
        """Read the credentials from the place where they were found. They are fetched anew only if they expire soon."""
        ...


class RefreshingCredentials:
    """Credentials that are searched for in the background, and renewed before they expire."""

    def __init__(
        self,
        search: Search,
        *,
        clock: Callable[[], float] = time.monotonic,
        first_pause: float = FIRST_PAUSE,
        checked_every: float = CHECKED_EVERY,
        none_yet: str = NONE_YET,
    ) -> None:
        """`none_yet` is the message for calls until there are any."""
        self._search = search
        self._none_yet = none_yet
        self._clock = clock
        self._first_pause = first_pause
        self._checked_every = checked_every
        self._found: Found | None = None
        self._found_at = 0.0
        self._last_fault = ""
        self._forced_at: float | None = None
        self._forced: asyncio.Task[bool] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._searched = asyncio.Event()

    def start(self, *, after: RefreshingCredentials | None = None) -> None:
        """Begin to search in the running loop. With `after`, begin when those credentials are found."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(after))

    async def close(self) -> None:
        tasks = [task for task in (self._keeper, self._forced) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        return self._found is not None

    async def wait_until_ready(self) -> None:
        """Wait without a limit until there are credentials."""
        await self._ready.wait()

    async def wait_until_searched(self) -> None:
        """Wait until the first search has ended, with or without a result."""
        await self._searched.wait()

    @property
    def identity(self) -> str:
        """The identity as far as it is known without asking AWS: the id of the key, which is not secret."""
        if self._found is None:
            return "unknown"
        return f"access key {self._found.credentials.access_key} ({self._found.place})"

    def state(self, identity: str, targets: tuple[str, ...], *, now: float) -> IdentityState:
        """Return how the search stands. `now`: Unix time."""
        found = self._found
        return IdentityState(
            identity,
            targets,
            None if found is None else now - (self._clock() - self._found_at),
            None if found is None else found.credentials.expires_at,
            self._last_fault,
        )

    @property
    def age(self) -> float | None:
        """Seconds since a search last succeeded, or None if none did."""
        return None if self._found is None else self._clock() - self._found_at

    @property
    def settings(self) -> AwsSettings:
        return self.found().settings

    def current(self) -> Credentials:
        if self._found is None:
            raise NotReady(self._none_yet)
        return self._found.credentials

    def found(self) -> Found:
        """Return the result of the last search. May be called from any thread. Raises NotReady."""
        if self._found is None:
            raise NotReady(self._none_yet)
        return self._found

    async def refresh_now(self, refused: Credentials) -> None:
        """Search again after AWS refused a signature, at most once in FORCED_EVERY seconds."""
        if self._found is None or self._found.credentials is not refused:
            return
        if self._forced is None:
            now = self._clock()
            if self._forced_at is not None and now - self._forced_at < FORCED_EVERY:
                return
            self._forced_at = now
            self._forced = asyncio.get_running_loop().create_task(self._update(self._search.find))
            self._forced.add_done_callback(lambda _: self._forget_forced())
        # All callers with a refused signature share one search. One that gives up does not end it.
        await asyncio.wait((self._forced,))

    def _forget_forced(self) -> None:
        self._forced = None

    async def _keep(self, after: RefreshingCredentials | None) -> None:
        if after is not None:
            await after.wait_until_ready()
        pause = self._first_pause
        look: Callable[[], Found] = self._search.find
        while True:
            if await self._update(look):
                look, pause = self._search.renew, self._first_pause
                await asyncio.sleep(self._checked_every)
            else:
                look = self._search.find
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
                pause = min(pause * 2, MAX_SEARCH_PAUSE)

    async def _update(self, look: Callable[[], Found]) -> bool:
        """Search once, and publish the result. Returns False if nothing was found; earlier credentials then stay."""
        try:
            found = await in_daemon_thread(look)
            _check(found, found.place)
        except Exception as error:  # noqa: BLE001 - botocore's plug-ins raise anything; it is logged and tried again
            self._report(_told(error))
            return False
        finally:
            self._searched.set()
        if self._found is None:
            _logger.info("AWS credentials found: %s", found.place)
        elif found == self._found:
            found = self._found  # the same object tells carriers that nothing changed
        elif found.credentials == self._found.credentials:
            found = Found(self._found.credentials, found.settings, found.place)
        self._found = found
        self._found_at = self._clock()
        self._last_fault = ""
        self._ready.set()
        return True

    def _report(self, fault: str) -> None:
        """Log why there are no credentials, once for each reason: searches repeat."""
        level = logging.DEBUG if fault == self._last_fault else logging.WARNING
        self._last_fault = fault
        _logger.log(level, "no AWS credentials found: %s (looked in: %s)", fault, self._search.tried)


class NoCredentials(Exception):
    """No usable credentials were found. The text is for the log: it says where and why, and holds no secret."""


def _told(error: Exception) -> str:
    """Return the text for the log."""
    return str(error) if isinstance(error, NoCredentials) else reason_of(error)


def _check(found: Found, place: str) -> None:
    """Raise NoCredentials for values that would break the head of a request, or change its meaning. `place` is where
    they were found.
    """
    fault = unusable_part(found.credentials)
    if fault is not None:
        raise NoCredentials(f"{place}: {fault}")
    fault = unusable_setting(found.settings.region, found.settings.lambda_endpoint)
    if fault is not None:
        raise NoCredentials(fault)


class BotocoreSearch:
    """A Search that asks botocore. Its rules are those of boto3 and the AWS CLI."""

    def __init__(
        self,
        *,
        profile: str | None = None,
        region: str | None = None,
        environment: Mapping[str, str] = os.environ,
        uses_fips: bool = False,
        uses_dual_stack: bool = False,
    ) -> None:
        """`profile` and `region` take precedence over botocore's own settings. So do `uses_fips` and `uses_dual_stack`
        if they are true. `environment` is read for endpoints only.
        """
        self._profile = profile
        self._region = region
        self._uses_fips = uses_fips
        self._uses_dual_stack = uses_dual_stack
        self._environment = environment
        self._session: Session | None = None
        self._kept: Kept | None = None
        self.tried = "not yet"

    def find(self) -> Found:
        """Ask botocore's providers in their order. Blocks. Raises NoCredentials."""
        from botocore.session import Session

        self._session = None  # a new session, because the old one's state may be the cause
        session = Session(profile=self._profile)
        # Requests to STS, which some providers make, go by the same settings.
        if self._uses_fips:
            session.set_config_variable(FIPS, value=True)
        if self._uses_dual_stack:
            session.set_config_variable(DUAL_STACK, value=True)
        resolver = session.get_component("credential_provider")
        places = ", ".join(provider.METHOD for provider in resolver.providers)
        profile = session.get_config_variable("profile") or "default"
        self.tried = f"{places}; profile {profile}"
        found = self._read(session, self._search(session, resolver.providers))
        self._session = session
        return found

    def renew(self) -> Found:
        if self._session is None or self._kept is None:
            return self.find()
        return self._read(self._session, self._kept)

    def _search(self, session: Session, providers: Iterable[CredentialProvider]) -> Kept:
        """Ask the providers in order, as botocore's resolver does. Unlike there, the name of a failing provider is
        known.
        """
        for provider in providers:
            try:
                kept: Kept | None = provider.load()
            except Exception as error:
                raise self._fault(session, provider.METHOD, error) from error
            if kept is not None:
                self._kept = kept
                return kept
        raise NoCredentials(NO_CREDENTIALS_FOUND)

    def _fault(self, session: Session, provider: str, error: Exception) -> NoCredentials:
        place = place_of(provider, session, os.environ)
        return NoCredentials(f"{place}: {reason_of(error, provider)}")

    def _read(self, session: Session, kept: Kept) -> Found:
        try:
            frozen = kept.get_frozen_credentials()
        except Exception as error:
            raise self._fault(session, kept.method or "unknown", error) from error
        expiry = botocore_internals.expiry_of(kept)
        found = Found(
            credentials=Credentials(
                frozen.access_key,
                frozen.secret_key,
                frozen.token or "",
                None if expiry is None else expiry.timestamp(),
            ),
            settings=AwsSettings(
                region=self._region or session.get_config_variable("region") or None,
                lambda_endpoint=configured_endpoint(session, self._environment),
                uses_fips=bool(session.get_config_variable(FIPS)),
                uses_dual_stack=bool(session.get_config_variable(DUAL_STACK)),
            ),
            place=kept.method or "unknown",
        )
        _check(found, place_of(found.place, session, os.environ))
        return found


def configured_endpoint(session: Session, environment: Mapping[str, str]) -> str | None:
    """Return the Lambda API's URL from the environment or the shared configuration file, in the SDKs' order. None means
    AWS's default.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    profile: Mapping[str, Any] = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    section = services.get("lambda", {})
    _, named = endpoint_in(environment) or ("", "")
    return (
        named
        or (section.get("endpoint_url") if isinstance(section, Mapping) else None)
        or profile.get("endpoint_url")
        or None
    )


async def in_daemon_thread(call: Callable[[], FetchResult]) -> FetchResult:
    """Run a blocking call in its own thread and return its result. The thread does not keep the process alive, as an
    executor's would.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[FetchResult] = loop.create_future()

    def settle(result: FetchResult | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - the thread's outermost frame: the waiting caller gets it
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            pass  # the loop is closed, so no caller waits

    threading.Thread(target=run, name="aws-credentials", daemon=True).start()
    return await outcome
