"""Why there are no credentials, provider by provider: the log names place and reason, and no secret."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.aws.sigv4 import Credentials
from bridge.carriers.identity.credential_faults import unusable_part, unusable_setting
from bridge.carriers.identity.credentials import (
    AwsSettings,
    BotocoreSearch,
    Found,
    NoCredentials,
    RefreshingCredentials,
)

SECRET = "hunter2"
"""What must stand in no message."""


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with empty AWS files, and nothing of AWS in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    return tmp_path


def fault(**search: Any) -> str:
    with pytest.raises(NoCredentials) as caught:
        BotocoreSearch(environment={}, **search).find()
    told = str(caught.value)
    assert SECRET not in told
    assert "\n" not in told
    return told


def program(folder: Path, body: str) -> str:
    """A program that runs this; its argument is a secret."""
    (folder / "program.py").write_text(body)
    return f"{sys.executable} {folder}/program.py {SECRET}"


# -- what is broken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"print('Please log in, {SECRET}')", "its output is not JSON"),
        ("", "its output is not JSON"),
        (f"import sys; sys.exit('{SECRET}')", "the program ended with an error"),
        (f"print('[\"{SECRET}\"]')", "its output is JSON, but no object"),
        (f"print('\"{SECRET}\"')", "its output is JSON, but no object"),
        (f'print(\'{{"Version": "{SECRET}"}}\')', "its output does not say Version 1"),
        ("print('{}')", "its output does not say Version 1"),
        (f'print(\'{{"Version": 1, "AccessKeyId": "{SECRET}"}}\')', "its output lacks SecretAccessKey"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", "its output is not UTF-8 text"),
        (
            f'print(\'{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B", "Expiration": "{SECRET}"}}\')',
            "the expiry that it gives is no date",
        ),
        (
            (
                'print(\'{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B", "Expiration": '
                '"2001-01-01T00:00:00Z"}\')'
            ),
            "the credentials that it gives have expired",
        ),
    ],
)
def test_credential_process(aws: Path, body: str, reason: str) -> None:
    (aws / "config").write_text(f"[default]\ncredential_process = {program(aws, body)}\n")
    told = fault()

    assert f"custom-process ({sys.executable}, credential_process of profile default): " in told
    assert reason in told


def test_a_credential_process_that_is_not_there(aws: Path) -> None:
    (aws / "config").write_text(f"[profile dev]\ncredential_process = /no/such/program {SECRET}\n")

    assert (
        "custom-process (/no/such/program, credential_process of profile dev): no such file: /no/such/program"
        == fault(profile="dev")
    )


def test_web_identity_without_its_token_file(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/token")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")

    assert "assume-role-with-web-identity (token file /no/such/token): no such file: /no/such/token" == fault()


def test_web_identity_whose_token_is_no_text(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (aws / "token").write_bytes(b"\xff\xfe" + SECRET.encode())
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(aws / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
    told = fault()

    assert f"(token file {aws}/token): the token file is not UTF-8 text" in told


def test_web_identity_without_a_role(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/token")

    assert "AWS_ROLE_ARN" in fault()


def test_half_the_environment(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    told = fault()

    assert told.startswith("env (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN): ")
    assert "missing: AWS_SECRET_ACCESS_KEY" in told


@pytest.mark.parametrize(
    ("file", "section", "provider"),
    [
        ("credentials", "[default]", "shared-credentials-file"),
        ("config", "[default]", "config-file"),
    ],
)
def test_half_a_file(aws: Path, file: str, section: str, provider: str) -> None:
    (aws / file).write_text(f"{section}\naws_access_key_id = {SECRET}\n")
    told = fault()

    assert told.startswith(f"{provider} ({aws}/{file}, profile default): ")
    assert "aws_secret_access_key" in told


def test_files_that_cannot_be_read(aws: Path) -> None:
    """botocore's own words, which name the file."""
    (aws / "config").write_text(f"{SECRET}\n")
    source = RefreshingCredentials(BotocoreSearch(environment={}))

    assert f"Unable to parse config file: {aws}/config" in asyncio.run(told_by(source))


def test_a_role_without_a_source(aws: Path) -> None:
    (aws / "config").write_text("[default]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = missing\n")
    told = fault()

    assert told.startswith(f"assume-role (profile default in {aws}/config): ")
    assert "missing" in told


def test_sso_without_a_login(aws: Path) -> None:
    (aws / "config").write_text(
        "[default]\nsso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\nsso_account_id = "
        "123456789012\nsso_role_name = r\n"
    )
    told = fault()

    assert told.startswith(f"sso (profile default in {aws}/config): ")
    assert "SSO" in told or "Token" in told


class Container(http.server.BaseHTTPRequestHandler):
    """Answers as its server is told."""

    def do_GET(self) -> None:
        status, body = self.server.answer  # type: ignore[attr-defined]  # set by the test
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def container(aws: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    server = http.server.HTTPServer(("127.0.0.1", 0), Container)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/credentials?key={SECRET}"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, f"no {SECRET}".encode()), "the server answered HTTP 404"),
        ((200, f"<{SECRET}>".encode()), "the server's answer is not JSON"),
        ((200, b"{}"), "what it gives lacks AccessKeyId"),
    ],
)
def test_a_containers_credentials(container: http.server.HTTPServer, answer: tuple[int, bytes], reason: str) -> None:
    container.answer = answer  # type: ignore[attr-defined]  # read by the handler
    told = fault()

    assert told == (
        f"container-role (http://127.0.0.1:{container.server_port}/credentials, "
        f"AWS_CONTAINER_CREDENTIALS_FULL_URI): {reason}"
    )


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"AWS_CONTAINER_AUTHORIZATION_TOKEN": f"{SECRET}\n"}, "the authorization token holds a line break"),
        (
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://credentials.example/v1"},
            (
                "credentials are asked for by HTTP only of this machine and of AWS's addresses for containers: "
                "name one of them, or use https"
            ),
        ),
        ({"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/no/such/token"}, "no such file: /no/such/token"),
    ],
)
def test_a_containers_authorization(
    container: http.server.HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    reason: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert fault().endswith(reason)


# -- what cannot stand in a head ---------------------------------------------------------------------------------------

BROKEN = [
    f"{SECRET}\n",
    f"{SECRET}\r\n",
    f"{SECRET}\r\nx-injected: 1",
    f"\n{SECRET}",
    f"{SECRET} ",
    f"{SECRET}\0",
    f"{SECRET}\x7f",
    f"{SECRET}é",
    f"{SECRET}\t",
]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("part", ["access_key", "secret_key", "token"])
def test_every_part_must_fit_into_a_head(part: str, value: str) -> None:
    good = Credentials(access_key="AKID", secret_key="k/+=", token="t/+==")
    told = unusable_part(msgspec.structs.replace(good, **{part: value}))

    assert unusable_part(good) is None
    assert unusable_part(Credentials("AKID", "key")) is None
    assert told is not None
    assert SECRET not in told
    assert ("line break" in told) is ("\n" in value)


@pytest.mark.parametrize(("key", "secret"), [("", "secret"), ("AKID", "")])
def test_empty_keys_are_refused(key: str, secret: str) -> None:
    assert "is empty" in str(unusable_part(Credentials(key, secret)))


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("end", ["\n", "\r\nx-injected: 1"])
def test_line_breaks_in_the_environment(aws: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str) -> None:
    for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(each, SECRET)
    monkeypatch.setenv(name, SECRET + end)
    told = fault()

    assert told.startswith("env (AWS_ACCESS_KEY_ID, ")
    assert "holds a line break" in told


def test_a_line_break_that_a_program_gives(aws: Path) -> None:
    given = json.dumps({"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B", "SessionToken": f"{SECRET}\n"})
    command = program(aws, f"print('''{given}'''.replace(chr(10), chr(92) + 'n'))")
    (aws / "config").write_text(f"[default]\ncredential_process = {command}\n")

    assert "custom-process" in fault()


def test_a_line_break_that_a_container_gives(container: http.server.HTTPServer) -> None:
    given = {"AccessKeyId": f"{SECRET}\n", "SecretAccessKey": "B", "Token": "C", "Expiration": "2100-01-01T00:00:00Z"}
    container.answer = (200, json.dumps(given).encode())  # type: ignore[attr-defined]  # read by the handler

    assert "the access key id holds a line break" in fault()


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("eu-west-1\n", None),
        ("eu-west-1\r\nx: y", None),
        ("eu west", None),
        ("evil.example/", None),
        ("", None),
        ("eu-west-1", "http://a b"),
        ("eu-west-1", "http://a\r\nx: y"),
        ("eu-west-1", "http://a/b c"),
        ("eu-west-1", "http://a/\x00"),
        ("eu-west-1", "ftp://a"),
    ],
)
def test_region_and_endpoint_must_fit_too(region: str, endpoint: str | None) -> None:
    assert unusable_setting("eu-west-1", "http://127.0.0.1:4566/x") is None
    assert unusable_setting(None, None) is None
    assert unusable_setting(region, endpoint) is not None


def test_the_profiles_region_is_checked(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "B")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1\nx: y")

    assert "region" in fault()


def test_an_empty_region_is_none(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some set the variable to nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "B")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "")

    assert BotocoreSearch(environment={}).find().settings.region is None


class OneAnswer:
    """A search that finds this for ever."""

    tried = "a test"

    def __init__(self, found: Found) -> None:
        self._found = found

    def find(self) -> Found:
        return self._found

    renew = find


async def told_by(source: RefreshingCredentials) -> str:
    """What the log says after one search."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines()
    logging.getLogger("bridge").addHandler(handler)
    try:
        source.start()
        await source.wait_until_searched()
        assert not source.is_ready
    finally:
        await source.close()
        logging.getLogger("bridge").removeHandler(handler)
    return "\n".join(lines)


async def test_whatever_finds_them_they_are_not_published() -> None:
    """An STS's answer as well: the check stands where all searches end."""
    found = Found(Credentials("A", "B", f"{SECRET}\r\n"), AwsSettings("eu-west-1"), "role r")
    told = await told_by(RefreshingCredentials(OneAnswer(found)))

    assert "no AWS credentials found: role r: the session token holds a line break" in told
    assert SECRET not in told
