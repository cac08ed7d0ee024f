"""Assumes roles: gets credentials from STS with the bridge's own ones, and renews them in the background.

There is one source for each distinct role. This module does not know what is signed with them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from bridge.aws.arn import partition_in, partition_of
from bridge.aws.sigv4 import Credentials
from bridge.carriers.identity import credentials
from bridge.carriers.identity.credentials import CredentialSource, Found, RefreshingCredentials
from bridge.config.schema import Role
from bridge.rpc.recent import IdentityState

if TYPE_CHECKING:
    from botocore.client import BaseClient

SESSION_NAME = "grpc-lambda-bridge"
"""The session name that CloudTrail shows, unless `session_name` is set."""

SESSION_SECONDS = 3600
"""The requested lifetime of assumed credentials in seconds. Every role allows an hour."""

RENEWED_BEFORE = 900.0
"""Seconds before their expiry at which credentials are replaced."""

_STS_SECONDS = 10

NO_ROLE_YET = "the bridge has not been able to assume this target's role yet; its log says why"


class Base(Protocol):
    """The credentials that a role is assumed with."""

    def found(self) -> Found:
        """Return what the search has found. Raises NotReady."""
        ...


class AssumeRole:
    """A Search that asks STS. `aws.endpoint_url` is for Lambda only. AWS_ENDPOINT_URL_STS sets the address of STS, as
    in botocore.
    """

    def __init__(
        self,
        role: Role,
        *,
        base: Base,
        region: str | None = None,
        profile: str | None = None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - credentials expire by the wall clock
    ) -> None:
        """`region` is that of the functions called under this role. It is used if no region is configured."""
        self._role = role
        self._base = base
        self._region = region
        self._profile = profile
        self._clock = clock
        self._last: Found | None = None

    @property
    def tried(self) -> str:
        return f"STS, for the role {self._role.arn}"

    def find(self) -> Found:
        """Ask STS for the role's credentials. Blocks. Raises NotReady without a base, or botocore's errors."""
        base = self._base.found()
        asked = {
            "RoleArn": self._role.arn,
            "RoleSessionName": self._role.session_name or SESSION_NAME,
            "DurationSeconds": SESSION_SECONDS,
        }
        if self._role.external_id is not None:
            asked["ExternalId"] = self._role.external_id
        client = self._client(base)
        try:
            given = client.assume_role(**asked)["Credentials"]
        finally:
            client.close()
        self._last = Found(
            credentials=Credentials(
                given["AccessKeyId"],
                given["SecretAccessKey"],
                given["SessionToken"],
                given["Expiration"].timestamp(),
            ),
            settings=base.settings,
            place=f"role {self._role.arn}",
        )
        return self._last

    def renew(self) -> Found:
        last = self._last
        if last is None or last.credentials.expires_at is None:
            return self.find()
        if last.credentials.expires_at - self._clock() < RENEWED_BEFORE:
            return self.find()
        return last

    def _client(self, base: Found) -> BaseClient:
        from botocore.config import Config
        from botocore.session import Session

        session = Session(profile=self._profile)
        session.set_config_variable(credentials.FIPS, base.settings.uses_fips)
        session.set_config_variable(credentials.DUAL_STACK, base.settings.uses_dual_stack)
        return session.create_client(
            "sts",
            region_name=self._region_for(base.settings.region),
            aws_access_key_id=base.credentials.access_key,
            aws_secret_access_key=base.credentials.secret_key,
            aws_session_token=base.credentials.token or None,
            config=Config(connect_timeout=_STS_SECONDS, read_timeout=_STS_SECONDS, retries={"max_attempts": 1}),
        )

    def _region_for(self, configured: str | None) -> str:
        """Return the region whose STS is asked. It must lie in the role's partition, because other partitions do not
        know the role.
        """
        partition = partition_in(self._role.arn)
        for region in (configured, self._region):
            if region is not None and partition_of(region) is partition:
                return region
        return partition.home_region


class CredentialSet:
    """The credentials that the bridge presents to AWS: its own, and those of the roles that it assumes with them."""

    def __init__(
        self,
        own: RefreshingCredentials,
        roles: Mapping[Role, RefreshingCredentials],
        targets: Mapping[Role | None, tuple[str, ...]] | None = None,
    ) -> None:
        """`targets`: those that each identity signs for, by role. None is the bridge itself."""
        self._own = own
        self._roles = dict(roles)
        self._targets = targets or {}

    def of(self, role: Role | None) -> CredentialSource:
        """Return the source of credentials for this role, or the bridge's own for None."""
        return self._own if role is None else self._roles[role]

    def start(self) -> None:
        """Begin to search in the running loop. Roles are assumed once the bridge has its own credentials."""
        self._own.start()
        for source in self._roles.values():
            source.start(after=self._own)

    async def close(self) -> None:
        await asyncio.gather(*[source.close() for source in self._all()])

    @property
    def is_ready(self) -> bool:
        return all(source.is_ready for source in self._all())

    async def wait_until_ready(self) -> None:
        """Wait without a limit until all credentials are found."""
        for source in self._all():
            await source.wait_until_ready()

    async def ready_within(self, seconds: float) -> bool:
        """Wait at most so long until all credentials are found. Returns whether they are."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait_until_ready()
        except TimeoutError:
            return False
        return True

    async def wait_until_searched(self) -> None:
        """Wait until each has been searched for once. For a role this needs the bridge's own credentials."""
        await self._own.wait_until_searched()
        if self._own.is_ready:
            for source in self._roles.values():
                await source.wait_until_searched()

    @property
    def missing(self) -> str:
        """The error for a caller that waited without success."""
        return NO_ROLE_YET if self._own.is_ready else credentials.NONE_YET

    @property
    def age(self) -> float | None:
        """Seconds since the oldest of the last successful searches, or None if one search never succeeded."""
        ages = [source.age for source in self._all()]
        return None if None in ages else max(age for age in ages if age is not None)

    @property
    def identity(self) -> str:
        """The identity behind the credentials, as far as it is known without asking AWS."""
        return " and ".join([self._own.identity, *[f"role {role.arn}" for role in self._roles]])

    def states(self, *, now: float) -> list[IdentityState]:
        """Return how the search for each identity stands. `now`: Unix time."""
        own = self._own.state(self._own.identity, self._targets.get(None, ()), now=now)
        roles = [
            source.state(f"role {role.arn}", self._targets.get(role, ()), now=now)
            for role, source in self._roles.items()
        ]
        return [own, *roles]

    def _all(self) -> list[RefreshingCredentials]:
        return [self._own, *self._roles.values()]
