"""Credentials: sought in the background, at hand at once, renewed, and found where boto3 finds them."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.session import Session

from bridge.aws.sigv4 import Credentials
from bridge.carriers.identity import credentials as module
from bridge.carriers.identity.credentials import (
    AwsSettings,
    BotocoreSearch,
    Found,
    NoCredentials,
    RefreshingCredentials,
    configured_endpoint,
    in_daemon_thread,
    local_credentials,
)
from bridge.rpc.errors import NotReady
from bridge.rpc.recent import IdentityState

pytestmark = pytest.mark.real_clock  # searches run in threads

FIRST, SECOND = Credentials("AKID1", "secret-1"), Credentials("AKID2", "secret-2", "token")
SETTINGS = AwsSettings(region="eu-west-1")


class FakeSearch:
    """Finds in turn what it is given, or fails; the last for ever."""

    tried = "env, sso; profile default"

    def __init__(self, *results: Credentials | Exception) -> None:
        self._results = list(results)
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def find(self) -> Found:
        return self._next("find")

    def renew(self) -> Found:
        return self._next("renew")

    def _next(self, call: str) -> Found:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(5)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        # A new object each time, as botocore makes them.
        copy = Credentials(result.access_key, result.secret_key, result.token, result.expires_at)
        return Found(copy, SETTINGS, "env")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_until_found_a_call_is_told_so() -> None:
    """NotReady, at once, without the advice that only the operator can follow; then the credentials."""
    search = FakeSearch(FIRST)
    search.gate.clear()
    source = RefreshingCredentials(search)
    source.start()
    with pytest.raises(NotReady, match=r"^the bridge has no AWS credentials yet; its log says why$"):
        source.current()
    before = source.is_ready, source.age
    search.gate.set()
    await source.wait_until_ready()
    await source.close()

    assert (False, None) == before
    assert source.is_ready
    assert FIRST == source.current()
    assert SETTINGS == source.settings


async def test_search_runs_in_a_thread_that_does_not_hold_the_process() -> None:
    search = FakeSearch(FIRST)
    source = RefreshingCredentials(search)
    source.start()
    await source.wait_until_ready()
    await source.close()

    assert {"aws-credentials"} == search.threads
    assert await in_daemon_thread(lambda: threading.current_thread().daemon)


async def test_failed_search_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names what was tried; the next search begins anew."""
    search = FakeSearch(NoCredentials("no place holds any"), FIRST)
    source = RefreshingCredentials(search, first_pause=0.001)
    with caplog.at_level(logging.WARNING):
        source.start()
        await source.wait_until_ready()
    await source.close()

    assert ["find", "find"] == search.calls
    assert "no AWS credentials found: no place holds any (looked in: env, sso; profile default)" in caplog.text


async def test_state_says_when_they_were_found_and_why_a_renewal_fails() -> None:
    """For the status page: times of day, and nothing secret."""
    clock = Clock()
    lasting = Credentials("AKID1", "secret-1", expires_at=5000.0)
    search = FakeSearch(lasting, NoCredentials("the login has expired"))
    source = RefreshingCredentials(search, clock=clock, checked_every=0.001)
    before = source.state("x", (), now=4000.0)
    source.start()
    await source.wait_until_ready()
    clock.now += 60
    await until(lambda: source.state("x", (), now=0.0).fault != "")
    after = source.state("x", ("orders",), now=4060.0)
    await source.close()

    assert IdentityState("x") == before
    assert IdentityState("x", ("orders",), 4000.0, 5000.0, "the login has expired") == after


async def test_each_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Searches repeat, from once a second to once a minute."""
    nowhere, expired = NoCredentials("no place holds any"), NoCredentials("sso: the login has expired")
    search = FakeSearch(nowhere, nowhere, nowhere, expired, expired, FIRST)
    source = RefreshingCredentials(search, first_pause=0.001)
    with caplog.at_level(logging.WARNING):
        source.start()
        await source.wait_until_ready()
    await source.close()

    told = [record.getMessage().partition(" (")[0] for record in caplog.records]
    assert [f"no AWS credentials found: {reason}" for reason in (nowhere, expired)] == told


async def test_foreign_errors_are_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    """What a plug-in choked on may hold a secret."""
    search = FakeSearch(ValueError("bad JSON: hunter2"), FIRST)
    source = RefreshingCredentials(search, first_pause=0.001)
    with caplog.at_level(logging.WARNING):
        source.start()
        await source.wait_until_ready()
    await source.close()

    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_secrets_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    source = RefreshingCredentials(FakeSearch(SECOND))
    with caplog.at_level(logging.DEBUG, logger="bridge"):
        source.start()
        await source.wait_until_ready()
    await source.close()

    assert "AWS credentials found: env" in caplog.text
    for secret in (SECOND.access_key, SECOND.secret_key, SECOND.token):
        assert secret not in caplog.text


async def test_credentials_are_renewed_as_time_goes_by() -> None:
    """Looked at again and again, they change as soon as botocore has others; until then they are the same object."""
    search = FakeSearch(FIRST, FIRST, SECOND)
    source = RefreshingCredentials(search, checked_every=0.001)
    source.start()
    await source.wait_until_ready()
    first = source.current()
    seen = [first]
    while source.current() != SECOND:
        seen.append(source.current())
        await asyncio.sleep(0)
    await source.close()

    assert all(one is first for one in seen)
    assert ["find", "renew", "renew"] == search.calls[:3]


async def test_failed_renewal_keeps_what_there_is() -> None:
    """Credentials stay in use while the place they came from is out of reach."""
    search = FakeSearch(FIRST, OSError())
    source = RefreshingCredentials(search, first_pause=0.001, checked_every=0.001)
    source.start()
    await until(lambda: len(search.calls) > 3)
    await source.close()

    assert FIRST == source.current()
    assert ["find", "renew", "find", "find"] == search.calls[:4]


async def test_refused_credentials_are_sought_anew_by_one_search() -> None:
    """However many calls AWS refuses, one search serves them all, and one who gives up does not end it."""
    search = FakeSearch(FIRST, SECOND)
    source = RefreshingCredentials(search)
    source.start()
    await source.wait_until_ready()
    search.gate.clear()
    loop = asyncio.get_running_loop()
    refused = source.current()
    waiting = [loop.create_task(source.refresh_now(refused)) for _ in range(3)]
    await until(lambda: len(search.calls) == 2)
    waiting[0].cancel()
    await asyncio.sleep(0)
    search.gate.set()
    await asyncio.gather(*waiting[1:])
    await source.close()

    assert SECOND == source.current()
    assert ["find", "find"] == search.calls


async def test_credentials_that_changed_meanwhile_are_not_sought() -> None:
    """Who was refused with the old ones finds the new ones there."""
    search = FakeSearch(FIRST)
    source = RefreshingCredentials(search)
    source.start()
    await source.wait_until_ready()
    await source.refresh_now(SECOND)
    await source.close()

    assert ["find"] == search.calls


async def test_wrong_keys_do_not_cause_a_search_for_each_call() -> None:
    """When a search brings the same keys, the next is put off."""
    clock, search = Clock(), FakeSearch(FIRST)
    source = RefreshingCredentials(search, clock=clock)
    source.start()
    await source.wait_until_ready()
    first = source.current()
    for _ in range(5):
        await source.refresh_now(source.current())
    calls_in_a_burst = len(search.calls)
    clock.now += module.FORCED_EVERY
    await source.refresh_now(source.current())
    await source.close()

    assert 2 == calls_in_a_burst
    assert 3 == len(search.calls)
    assert first is source.current()


async def test_age_counts_from_the_last_search_that_succeeded() -> None:
    clock = Clock()
    source = RefreshingCredentials(FakeSearch(FIRST), clock=clock)
    source.start()
    await source.wait_until_ready()
    clock.now += 7.5
    await source.close()

    assert 7.5 == source.age


async def test_local_credentials_are_always_there() -> None:
    """The local Lambda needs none of AWS's places."""
    source = local_credentials()
    await source.refresh_now(source.current())

    assert source.is_ready
    assert Credentials("local", "local") == source.current()
    assert "us-east-1" == source.settings.region


# -- where boto3 finds them --------------------------------------------------------------------------------------------


@pytest.fixture
def aws_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ~/.aws, and nothing in the environment."""
    for name in (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_LAMBDA",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def test_environment_is_searched(aws_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    found = BotocoreSearch(environment={}).find()

    assert Found(Credentials("AKID", "secret", "token"), AwsSettings("eu-central-1"), "env") == found


@pytest.mark.parametrize(
    ("expected", "environment", "profile", "flags"),
    [
        ((False, False), {}, "", {}),
        ((True, False), {"AWS_USE_FIPS_ENDPOINT": "true"}, "", {}),
        ((False, True), {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "", {}),
        ((True, True), {}, "use_fips_endpoint = true\nuse_dualstack_endpoint = true\n", {}),
        ((False, True), {"AWS_USE_FIPS_ENDPOINT": "false"}, "use_fips_endpoint = true\n", {"uses_dual_stack": True}),
        ((True, False), {"AWS_USE_FIPS_ENDPOINT": "false"}, "", {"uses_fips": True}),
    ],
)
def test_which_hosts_are_used(
    aws_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: tuple[bool, bool],
    environment: dict[str, str],
    profile: str,
    flags: Any,
) -> None:
    """The configuration can turn them on. Otherwise the environment says it, then the profile."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (aws_folder / "config").write_text(f"[default]\n{profile}")
    settings = BotocoreSearch(environment={}, **flags).find().settings

    assert expected == (settings.uses_fips, settings.uses_dual_stack)


def test_profile_is_searched_with_its_region(aws_folder: Path) -> None:
    """A named profile brings keys from one file and the region from the other; a given region comes first."""
    (aws_folder / "credentials").write_text("[dev]\naws_access_key_id = AKID\naws_secret_access_key = secret\n")
    (aws_folder / "config").write_text("[profile dev]\nregion = eu-west-3\n")
    found = BotocoreSearch(profile="dev", environment={}).find()
    elsewhere = BotocoreSearch(profile="dev", region="us-west-2", environment={}).find()

    assert Found(Credentials("AKID", "secret"), AwsSettings("eu-west-3"), "shared-credentials-file") == found
    assert "us-west-2" == elsewhere.settings.region


def test_process_is_run_and_its_expiry_known(aws_folder: Path) -> None:
    """credential_process, with an expiry: what is renewed tells when it must be."""
    answer = aws_folder / "answer.json"
    process = f"{sys.executable} -c \\\"print(open('{answer}').read())\\\""
    (aws_folder / "config").write_text(f"[default]\ncredential_process = {process}\n".replace('\\"', '"'))
    answer.write_text(
        json.dumps(
            {
                "Version": 1,
                "AccessKeyId": "AKID",
                "SecretAccessKey": "s",
                "SessionToken": "t",
                "Expiration": "2100-01-01T00:00:00Z",
            }
        )
    )
    search = BotocoreSearch(environment={})
    found = search.find()

    assert Found(Credentials("AKID", "s", "t", 4102444800.0), AwsSettings(), "custom-process") == found
    assert found == search.renew()


def test_nothing_anywhere_names_what_was_tried(aws_folder: Path) -> None:
    search = BotocoreSearch(environment={})
    with pytest.raises(NoCredentials):
        search.find()

    assert "env" in search.tried
    assert "iam-role" in search.tried
    assert "profile default" in search.tried


async def test_unknown_profile_is_named_in_the_log(aws_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """botocore's own words are for the operator."""
    source = RefreshingCredentials(BotocoreSearch(profile="typo", environment={}))
    with caplog.at_level(logging.WARNING):
        source.start()
        await until(lambda: "typo" in caplog.text)
    await source.close()

    assert "The config profile (typo) could not be found" in caplog.text


SERVICES = "[services local]\nlambda =\n  endpoint_url = http://services.test\n"


@pytest.mark.parametrize(
    ("config", "environment", "endpoint"),
    [
        ("[default]\n", {}, None),
        ("[default]\nendpoint_url = http://profile.test\n", {}, "http://profile.test"),
        (f"[default]\nservices = local\nendpoint_url = http://profile.test\n{SERVICES}", {}, "http://services.test"),
        (f"[default]\nservices = local\n{SERVICES}", {"AWS_ENDPOINT_URL": "http://all.test"}, "http://all.test"),
        (
            "[default]\n",
            {"AWS_ENDPOINT_URL": "http://all.test", "AWS_ENDPOINT_URL_LAMBDA": "http://own.test"},
            "http://own.test",
        ),
    ],
)
def test_endpoint_is_the_one_that_botocore_uses(
    aws_folder: Path, config: str, environment: dict[str, str], endpoint: str | None
) -> None:
    """The order of the SDKs, checked against botocore's own."""
    (aws_folder / "config").write_text(config)
    session: Any = Session()
    theirs = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "lambda", environment)

    assert endpoint == configured_endpoint(session, environment)
    assert endpoint == theirs.provide()


def test_configured_endpoints_can_be_ignored(aws_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    environment = {"AWS_ENDPOINT_URL": "http://all.test"}

    assert configured_endpoint(Session(), environment) is None


def test_a_profile_ignores_the_endpoints_of_the_environment(aws_folder: Path) -> None:
    (aws_folder / "config").write_text("[default]\nignore_configured_endpoint_urls = true\n")

    assert configured_endpoint(Session(), {"AWS_ENDPOINT_URL": "http://all.test"}) is None


def test_botocore_is_imported_only_when_it_is_asked() -> None:
    """22 MB and a tenth of a second that a bridge with local functions alone does not pay."""
    program = "import sys, bridge.carriers.lambda_invoke; print('botocore' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False" == ran.stdout.strip()
