"""Roles: what STS is asked, by whom and where, and when it is asked again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from bridge.aws.sigv4 import Credentials
from bridge.carriers.identity.assumed_role import NO_ROLE_YET, AssumeRole, CredentialSet
from bridge.carriers.identity.credentials import AwsSettings, Found, RefreshingCredentials
from bridge.config.schema import Role
from bridge.rpc.errors import NotReady
from tests.support.fakes import FakeClock
from tests.support.sts import Sts, fake_sts

ROLE = Role("arn:aws:iam::123456789012:role/orders")
OWN = Found(Credentials("AKIAOWN", "secret"), AwsSettings(region="eu-west-1"), "env")


class Base:
    """Credentials that have been found."""

    def __init__(self, found: Found = OWN) -> None:
        self._found = found

    def found(self) -> Found:
        return self._found


class FixedSearch:
    tried = "here"

    def find(self) -> Found:
        return OWN

    renew = find


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sts]:
    """At AWS_ENDPOINT_URL_STS, which botocore goes by."""
    with fake_sts() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", running.url)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        yield running


def test_a_role_is_assumed_with_the_bridges_own_credentials(sts: Sts) -> None:
    found = AssumeRole(ROLE, base=Base()).find()
    (asked,) = sts.asked

    assert "ASIAORDERS1" == found.credentials.access_key
    assert "token-ASIAORDERS1" == found.credentials.token
    assert 3500 < (found.credentials.expires_at or 0) - time.time() <= 3600  # noqa: TID251 - credentials expire by the wall clock
    assert OWN.settings == found.settings
    assert (ROLE.arn, "grpc-lambda-bridge", "3600") == (
        asked["RoleArn"],
        asked["RoleSessionName"],
        asked["DurationSeconds"],
    )
    assert "ExternalId" not in asked
    assert "Credential=AKIAOWN/" in asked["Authorization"]


def test_external_id_and_session_name(sts: Sts) -> None:
    AssumeRole(Role(ROLE.arn, external_id="partner", session_name="me"), base=Base()).find()

    assert ("partner", "me") == (sts.asked[0]["ExternalId"], sts.asked[0]["RoleSessionName"])


@pytest.mark.parametrize(
    ("partition", "configured", "functions", "expected"),
    [
        ("aws", "eu-west-1", "us-west-2", "eu-west-1"),
        ("aws", None, "us-west-2", "us-west-2"),
        ("aws", None, None, "us-east-1"),
        ("aws-cn", "eu-west-1", "cn-northwest-1", "cn-northwest-1"),
        ("aws-cn", "eu-west-1", None, "cn-north-1"),
        ("aws-us-gov", "us-gov-east-1", None, "us-gov-east-1"),
    ],
)
def test_sts_is_asked_in_a_region_of_the_roles_partition(
    sts: Sts, partition: str, configured: str | None, functions: str | None, expected: str
) -> None:
    """The configured region if it lies there, then the function's, then the partition's own."""
    base = Base(Found(OWN.credentials, AwsSettings(region=configured), "env"))
    role = Role(f"arn:{partition}:iam::123456789012:role/orders")
    AssumeRole(role, base=base, region=functions).find()

    assert f"/{expected}/sts/" in sts.asked[0]["Authorization"]


def test_the_lambda_endpoint_is_not_that_of_sts(sts: Sts) -> None:
    """aws.endpoint_url never moves STS."""
    settings = AwsSettings(region="eu-west-1", lambda_endpoint="http://127.0.0.1:1")
    AssumeRole(ROLE, base=Base(Found(OWN.credentials, settings, "env"))).find()

    assert 1 == len(sts.asked)


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("sts.eu-west-1.amazonaws.com", AwsSettings("eu-west-1")),
        ("sts-fips.us-east-1.amazonaws.com", AwsSettings("us-east-1", uses_fips=True)),
        ("sts.eu-west-1.api.aws", AwsSettings("eu-west-1", uses_dual_stack=True)),
    ],
)
def test_sts_is_asked_at_the_same_kind_of_host(
    monkeypatch: pytest.MonkeyPatch, host: str, settings: AwsSettings
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS", raising=False)
    base = Base(Found(OWN.credentials, settings, "env"))
    client = AssumeRole(ROLE, base=base)._client(base.found())

    assert f"https://{host}" == client.meta.endpoint_url
    client.close()


def test_credentials_are_replaced_before_they_expire(sts: Sts) -> None:
    """Not while they are fresh; from a quarter of an hour before their end."""
    clock = FakeClock(time.time())  # noqa: TID251 - credentials expire by the wall clock
    search = AssumeRole(ROLE, base=Base(), clock=clock)
    first = search.find()
    clock.advance(2600)
    still = search.renew()
    clock.advance(200)
    fresh = search.renew()

    assert still is first
    assert "ASIAORDERS2" == fresh.credentials.access_key


def test_a_refusal_is_botocores_error(sts: Sts) -> None:
    """The search tries again later and logs it."""
    sts.refuses.add(ROLE.arn)

    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        AssumeRole(ROLE, base=Base()).find()


async def test_identities_begin_with_our_own(sts: Sts) -> None:
    """Roles are sought when there is something to assume them with; each distinct one once."""
    sts.lives = timedelta(hours=1)
    own = RefreshingCredentials(FixedSearch())
    role = RefreshingCredentials(AssumeRole(ROLE, base=own), none_yet=NO_ROLE_YET)
    identities = CredentialSet(own, {ROLE: role})
    with pytest.raises(NotReady, match="not been able to assume"):
        identities.of(ROLE).current()
    assert not identities.is_ready
    assert identities.age is None

    identities.start()
    try:
        async with asyncio.timeout(10):
            await identities.wait_until_ready()
        assert identities.is_ready
        assert identities.age is not None
        assert "AKIAOWN" == identities.of(None).current().access_key
        assert "ASIAORDERS1" == identities.of(ROLE).current().access_key
        assert f"access key AKIAOWN (env) and role {ROLE.arn}" == identities.identity
    finally:
        await identities.close()


async def test_a_role_that_cannot_be_assumed_leaves_the_bridge_unready(
    sts: Sts, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why, the client does not learn the role."""
    sts.refuses.add(ROLE.arn)
    own = RefreshingCredentials(FixedSearch())
    role = RefreshingCredentials(AssumeRole(ROLE, base=own), none_yet=NO_ROLE_YET)
    identities = CredentialSet(own, {ROLE: role}, {ROLE: ("orders", "bills")})
    identities.start()
    try:
        async with asyncio.timeout(10):
            while not caplog.records or "AccessDenied" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not identities.is_ready
        assert NO_ROLE_YET == identities.missing
        with pytest.raises(NotReady) as refused:
            identities.of(ROLE).current()
        assert ROLE.arn not in str(refused.value)
        assert ROLE.arn in caplog.text
        us, assumed = identities.states(now=1000.0)
        assert ("access key AKIAOWN (env)", (), "", True) == (us.identity, us.targets, us.fault, bool(us.found))
        assert (f"role {ROLE.arn}", ("orders", "bills"), None) == (assumed.identity, assumed.targets, assumed.found)
        assert "AccessDenied" in assumed.fault
    finally:
        await identities.close()
