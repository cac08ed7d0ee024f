"""The configuration as the status page shows it: every value that holds, and no secret."""

from __future__ import annotations

from pathlib import Path

import yaml

from bridge.config.load import parse
from bridge.config.shown import configuration_text

SECRETS = ("from-the-environment", "header-literal", "function-literal", "external-literal", "in-a-url")


def shown(text: str) -> tuple[str, dict[str, object]]:
    environ = {"KEY": "from-the-environment", "TOKEN": "in-a-url"}
    found = configuration_text(parse(text, file="f", folder=Path("/tmp"), environ=environ))
    loaded: dict[str, object] = yaml.safe_load(found)
    return found, loaded


def test_no_secret_is_shown() -> None:
    """Values of headers and environments, external ids, and all that the environment has filled in. Names stay."""
    text, _ = shown("""
services:
  a.A:
    target: "http://127.0.0.1:9/${TOKEN}"
    headers: {x-key: "Bearer ${KEY}", x-other: header-literal}
  b.B:
    target: "arn:aws:lambda:eu-west-1:123456789012:function:f"
    role_arn: {arn: "arn:aws:iam::123456789012:role/x", external_id: external-literal}
functions:
  f: {handler: app.handler, env: {PASSWORD: function-literal}}
""")

    assert [] == [secret for secret in SECRETS if secret in text]
    assert all(name in text for name in ("x-key", "x-other", "PASSWORD", "role/x"))


def test_defaults_are_shown() -> None:
    """What holds, not only what was written."""
    _, loaded = shown("services: {a.A: {target: 'function:a', timeout: 2s}}\nlisten: {address: 'unix:/run/x.sock'}")

    assert 1 == loaded["workers"]
    assert {"level": "info", "format": "auto", "access": {"health": True, "reflection": True}} == loaded["log"]
    assert [{"address": "unix:/run/x.sock", "tls": None, "mode": "0660"}] == loaded["listen"]
    services = loaded["services"]
    assert isinstance(services, dict)
    assert 2.0 == services["a.A"]["timeout"]
    assert "function:a" == services["a.A"]["legs"][0]["target"]
    assert "UNAVAILABLE" == services["a.A"]["limits"]["throttled_as"]
