"""A bridge in the test's own process takes up a configuration that cannot take the old one's place."""

from __future__ import annotations

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


async def test_a_configuration_without_credentials_does_not_replace_one_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused like a file that cannot be read; what is served goes on."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    address, good = Listener(TcpAddress("127.0.0.1", 0)), configured("{region: eu-west-1}")
    bridge = Bridge(good, [bind(address)], environ=KEYS)
    try:
        await bridge.start(local_endpoint="")
        await bridge.wait_until_ready(seconds=10)
        monkeypatch.setattr("bridge.app._CREDENTIALS_PATIENCE", 0.1)
        with pytest.raises(ValueError, match="no AWS credentials were found"):
            await bridge.reload(configured("{profile: nobody}"), local_endpoint="")

        assert good == bridge.config
        assert [] == bridge.unready
        monkeypatch.setattr("bridge.app._CREDENTIALS_PATIENCE", 10.0)
        await bridge.reload(configured("{region: eu-west-2}"), local_endpoint="")
        assert "eu-west-2" == bridge.config.aws.region
    finally:
        await bridge.close()
