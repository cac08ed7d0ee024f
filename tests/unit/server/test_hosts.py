from __future__ import annotations

import pytest

from bridge.server.hosts import Hosts

HOSTS = Hosts.of_this_machine("admin.hosts", ["Bridge.Example.com", "*.wild.example"])
BOX = Hosts("admin.hosts", machine="ip-10-0-0-1.eu.internal")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9001",
        "localhost.",
        "localhost:",
        "fn.localhost:9001",
        "a.b.localhost.",
        "127.0.0.1",
        "127.0.0.1:9901",
        "192.168.1.5",
        "1.2.3.4.",
        "[::1]",
        "[::1]:9901",
        "[::ffff:10.0.0.1]:1",
        "[fe80::1%eth0]",
        "host.docker.internal",
        "HOST.docker.internal:9001",
        "emulator",
        "emulator:9001",
        "my_service",
        "bridge.example.com",
        "BRIDGE.example.com.:80",
        "a.wild.example",
        "a.b.wild.example",
    ],
)
def test_names_that_no_stranger_has_are_answered(host: str) -> None:
    assert HOSTS.answer_to(host)
    assert HOSTS.refusal([host]) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9001",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[evil.example]",
        "[::1",
        "::1",
        "",
        ".",
        " ",
        ":80",
        "user@localhost",
        "localhost:9001:9001",
        "localhost:abc",
        "localhost,evil.example",
        "localhost/..",
        "127.1",
        "0x7f.0.0.1",
        "x.bridge.example.com",
        "wild.example",
        "awild.example",
        "internal",
        "ip-10-0-0-1.eu.internal",
        "xlocalhost.example",
        "%6cocalhost.example",
        "lo\xadcalhost",
        "docker.internal",
        "evil.host.docker.internal",
    ],
)
def test_every_other_name_is_refused(host: str) -> None:
    """What a page could make its own by DNS, and what is no host at all."""
    expected = host == "internal"  # no dot: a name on the local network

    assert expected is HOSTS.answer_to(host)
    assert expected is (HOSTS.refusal([host]) is None)


def test_the_machine_answers_to_its_own_name() -> None:
    assert BOX.answer_to("IP-10-0-0-1.eu.internal:9901")
    assert not BOX.answer_to("ip-10-0-0-2.eu.internal")


def test_the_refusal_names_the_key_and_not_the_name() -> None:
    """A page's text does not come back to it."""
    refusal = HOSTS.refusal(["evil.example"])

    assert refusal is not None
    assert "`admin.hosts`" in refusal
    assert "evil" not in refusal


def test_a_request_names_one_host() -> None:
    """Several Host headers, or one beside a whole URL that says otherwise."""
    assert HOSTS.refusal(["localhost", "localhost"]) is None
    assert HOSTS.refusal(["localhost", "127.0.0.1"]) is not None
    assert HOSTS.refusal([]) is None


@pytest.mark.parametrize(
    ("origin", "is_ours"),
    [
        ("http://127.0.0.1:9901", True),
        ("https://bridge.example.com", True),
        ("https://a.wild.example:8443", True),
        ("http://localhost:9901", False),
        ("http://127.0.0.1:3000", False),
        ("http://203.0.113.7", False),
        ("http://[::1]:9901", False),
        ("http://evil.example", False),
        ("https://bridge.example.com.evil.example", False),
        ("https://evil.example/bridge.example.com", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("chrome-extension://abc", False),
        ("http://127.0.0.1:9901, http://evil.example", False),
    ],
)
def test_pages_ask_their_own_port_only(origin: str, is_ours: bool) -> None:
    """An address as an origin proves nothing: anybody may have one."""
    assert is_ours is (HOSTS.refusal(["127.0.0.1:9901"], [origin]) is None)


def test_a_default_port_may_be_left_out() -> None:
    """Behind a proxy that ends TLS the page has https, and we do not."""
    assert HOSTS.refusal(["bridge"], ["https://bridge"]) is None
    assert HOSTS.refusal(["bridge:443"], ["https://bridge"]) is None
    assert HOSTS.refusal(["bridge"], ["http://bridge", "http://evil.example"]) is not None


@pytest.mark.parametrize(
    ("host", "suffix", "is_url"),
    [
        ("fn.lambda-url.us-east-1.localhost:9001", "localhost", True),
        ("fn.lambda-url.us-east-1.bridge.example.com", "bridge.example.com", True),
        ("fn.lambda-url.us-east-1.a.wild.example", "a.wild.example", True),
        ("fn.lambda-url.us-east-1.on.aws", "on.aws", False),
        ("fn.lambda-url.us-east-1.bridge", "bridge", False),
        ("fn.lambda-url.us-east-1.evil.example", "evil.example", False),
    ],
)
def test_other_suffixes_of_function_urls_are_configured(host: str, suffix: str, is_url: bool) -> None:
    assert is_url is HOSTS.answer_to_url(host, suffix)
