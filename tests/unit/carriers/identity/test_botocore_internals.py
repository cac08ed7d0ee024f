"""What the bridge takes from botocore without a promise is in the installed release.

This is the first test to fail after an update: then try the new release and change `botocore_internals`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from botocore.credentials import ContainerProvider, Credentials, ProcessProvider, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, MetadataRetrievalError
from botocore.utils import ContainerMetadataFetcher

from bridge.carriers.identity import botocore_internals

LATER = datetime.now(UTC) + timedelta(hours=1)
EARLIER = datetime.now(UTC) - timedelta(hours=1)


def refreshable(expiry: datetime) -> RefreshableCredentials:
    def refresh() -> dict[str, Any]:
        return {"access_key": "a", "secret_key": "s", "token": "t", "expiry_time": expiry.isoformat()}

    return RefreshableCredentials("a", "s", "t", expiry, refresh, "test")


def process_fault(output: dict[str, Any]) -> str:
    program = [sys.executable, "-c", f"print({json.dumps(json.dumps(output))})"]
    provider = ProcessProvider(
        "default",
        lambda: {"profiles": {"default": {"credential_process": "unused"}}},
        popen=lambda _, **pipes: subprocess.Popen(program, **pipes),
    )
    with pytest.raises(CredentialRetrievalError) as raised:
        provider.load()
    return str(raised.value)


def metadata_fault(status: int, body: bytes) -> str:
    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with pytest.raises(MetadataRetrievalError) as raised:
                ContainerMetadataFetcher(sleep=lambda _: None).retrieve_full_uri(
                    f"http://127.0.0.1:{server.server_port}/"
                )
        finally:
            server.shutdown()
            thread.join()
    return str(raised.value)


def test_credentials_that_expire_say_when() -> None:
    assert LATER == botocore_internals.expiry_of(refreshable(LATER))
    assert botocore_internals.expiry_of(Credentials("a", "s")) is None


def test_credentials_that_have_expired_on_arrival() -> None:
    with pytest.raises(RuntimeError, match=botocore_internals.EXPIRED):
        refreshable(EARLIER).get_frozen_credentials()


def test_a_token_with_a_line_break() -> None:
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token\n",
    }
    with pytest.raises(ValueError, match=botocore_internals.BROKEN_HEADER):
        ContainerProvider(environ).load()


def test_credentials_in_plain_http_from_another_machine() -> None:
    with pytest.raises(ValueError, match=botocore_internals.BAD_HOST):
        ContainerMetadataFetcher().retrieve_full_uri("http://elsewhere.example/")


def test_the_output_of_a_credential_process() -> None:
    found = botocore_internals.find_missing_key(process_fault({"Version": 1, "AccessKeyId": "a"}))
    assert found is not None
    assert "SecretAccessKey" == found[1]
    assert botocore_internals.find_unknown_version(process_fault({"Version": 2}))


def test_the_answer_of_a_metadata_server() -> None:
    found = botocore_internals.find_http_status(metadata_fault(503, b"no"))
    assert found is not None
    assert "503" == found[1]
    assert botocore_internals.NOT_JSON in metadata_fault(200, b"no")
