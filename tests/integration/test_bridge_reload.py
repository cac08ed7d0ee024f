"""A bridge in the test's own process takes up a configuration that cannot take the old one's place."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from bridge.app import Bridge
from bridge.config.load import parse
from bridge.config.schema import Config, Listener
from bridge.rpc.address import TcpAddress
from bridge.server.server import bind

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "key",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def configured(aws: str) -> Config:
    text = f"services: {{t.F: 'function:f'}}\naws: {aws}\n"
    return parse(text, file="bridge.yaml", folder=Path.cwd(), environ={})


@pytest.mark.parametrize(
    ("later", "patience", "is_taken"), [("{profile: nobody}", 0.1, False), ("{region: eu-west-2}", 60.0, True)]
)
async def test_a_configuration_without_credentials_does_not_replace_one_with(
    monkeypatch: pytest.MonkeyPatch, later: str, patience: float, is_taken: bool
) -> None:
    """It is refused like a file that cannot be read; what is served goes on."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    address, good = Listener(TcpAddress("127.0.0.1", 0)), configured("{region: eu-west-1}")
    bridge = Bridge(good, [bind(address)], environ=KEYS, credentials_patience=patience)
    outcome = nullcontext() if is_taken else pytest.raises(ValueError, match="no AWS credentials were found")
    try:
        await bridge.start(local_endpoint="")
        await bridge.wait_until_ready(seconds=10)
        with outcome:
            await bridge.reload(configured(later), local_endpoint="")

        assert (configured(later) if is_taken else good) == bridge.config
        assert [] == bridge.unready
    finally:
        await bridge.close()
