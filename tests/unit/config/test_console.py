"""Whether there is a call console: by the admin address, the listeners, and `admin.console`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.console import console_off, console_warning
from tests.support.configured import configured, problems

MUTUAL = "listen: [{address: '0.0.0.0:1', tls: {cert: c.pem, key: k.pem, client_ca: a.pem}}]"
TLS = "listen: [{address: '0.0.0.0:1', tls: {cert: c.pem, key: k.pem}}]"
UNIX = "listen: 'unix:/run/bridge.sock'"
BOTH = "listen: ['127.0.0.1:1', 'unix:/run/bridge.sock']"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("c.pem", "k.pem", "a.pem"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "off", "warning"),
    [
        ("services: {a.B: null}", "", ""),
        ("admin: '[::1]:9901'", "", ""),
        ("admin: localhost:9901", "", ""),
        ("admin: {console: true}", "", ""),
        ("admin: {console: null}", "", ""),
        (TLS, "", ""),
        ("admin: {console: false}", "console: false", ""),
        ("admin: null", "no admin port", ""),
        ("admin: 0.0.0.0:9901", "listens on 0.0.0.0:9901", ""),
        ("admin: '[::]:9901'", "listens on [::]:9901", ""),
        ("admin: bridge.example.com:9901", "listens on bridge.example.com:9901", ""),
        ("admin: {address: '10.0.0.1:1', console: true}", "listens on 10.0.0.1:1", "has no effect: the admin port"),
        (MUTUAL, "0.0.0.0:1 asks clients for a certificate", ""),
        (UNIX, "unix:/run/bridge.sock is a Unix socket", ""),
        (BOTH, "unix:/run/bridge.sock is a Unix socket", ""),
        (f"{MUTUAL}\nadmin: {{console: false}}", "console: false", ""),
        (f"{MUTUAL}\nadmin: {{console: true}}", "", "every user of this machine"),
        (f"{UNIX}\nadmin: {{console: true}}", "", "every user of this machine"),
    ],
)
def test_it_is_on_where_it_gives_nobody_more_than_a_listener_does(
    folder: Path, text: str, off: str, warning: str
) -> None:
    config = configured(text, folder=folder)

    assert bool(off) is bool(console_off(config))
    assert off in console_off(config)
    assert warning in console_warning(config)
    assert [warning] * bool(warning) == [warning for each in config.warnings if warning and warning in str(each)]


def test_an_address_from_outside_keeps_the_rest_of_the_section() -> None:
    """BRIDGE_ADMIN of the image: then the console is off, although the file turns it on."""
    overrides = {"admin": "0.0.0.0:9901"}
    config = configured("admin: {console: true, hosts: [a.example]}", overrides=overrides)

    assert config.admin is not None
    assert (True, ("a.example",)) == (config.admin.console, config.admin.hosts)
    assert "listens on 0.0.0.0:9901" in console_off(config)


def test_other_values_are_refused() -> None:
    assert ['bridge.yaml:1: admin.console: expected true or false, found "maybe"'] == problems(
        "admin: {console: maybe}"
    )
