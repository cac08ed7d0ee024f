"""Proxies: what the environment's variables mean."""

from __future__ import annotations

import pytest

from bridge.carriers.http1.proxies import Proxies, Proxy
from bridge.rpc.url import Origin

AWS = Origin("https", "lambda.eu-west-1.amazonaws.com", 443)
PLAIN = Origin("http", "service.test", 80)


def proxy_for(origin: Origin, **environment: str) -> Proxy | None:
    return Proxies.from_environment(environment).proxy_for(origin)


def test_nothing_set_means_no_proxy() -> None:
    assert proxy_for(AWS) is None


def test_each_scheme_has_its_variable() -> None:
    """HTTPS_PROXY is for https origins, HTTP_PROXY for http ones, ALL_PROXY for both."""
    both = {"HTTPS_PROXY": "http://secure.test:3128", "HTTP_PROXY": "http://plain.test"}

    assert Proxy("secure.test", 3128) == proxy_for(AWS, **both)
    assert Proxy("plain.test", 80) == proxy_for(PLAIN, **both)
    assert Proxy("any.test", 1) == proxy_for(PLAIN, ALL_PROXY="http://any.test:1")


def test_lower_case_wins() -> None:
    assert Proxy("lower.test", 1) == proxy_for(
        AWS, https_proxy="http://lower.test:1", HTTPS_PROXY="http://upper.test:1"
    )


def test_bare_address_is_an_http_proxy() -> None:
    assert Proxy("10.0.0.1", 3128) == proxy_for(AWS, HTTPS_PROXY="10.0.0.1:3128")


def test_user_and_password_become_basic_authorization() -> None:
    """Percent-escapes in them are decoded first."""
    found = proxy_for(AWS, HTTPS_PROXY="http://me%40corp:s%3Acret@proxy.test:3128")

    assert found is not None
    assert "Basic bWVAY29ycDpzOmNyZXQ=" == found.authorization  # me@corp:s:cret
    assert "Proxy(proxy.test:3128)" == repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@proxy.test",
        "socks5://proxy.test:1",
        "http://",
        "http://me:hunter2/x@proxy.test",
    ],
)
def test_other_proxies_are_refused_without_their_secrets(url: str) -> None:
    """The message names the variable and quotes nothing."""
    with pytest.raises(ValueError, match="HTTPS_PROXY") as caught:
        proxy_for(AWS, HTTPS_PROXY=url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "is_direct"),
    [
        ("*", "any.test", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "a.example.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        (".example.com", "a.example.com", 443, True),
        ("*.example.com", "a.example.com", 443, True),
        ("other.test, Example.COM ", "example.com", 443, True),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:8080", "10.1.2.3", 8080, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("169.254.169.254,169.254.170.2", "lambda.test", 443, False),
        ("", "example.com", 443, False),
        (",", "example.com", 443, False),
    ],
)
def test_no_proxy_names_exceptions(no_proxy: str, host: str, port: int, is_direct: bool) -> None:
    """Hosts with all below them, ports, addresses and networks."""
    found = proxy_for(Origin("https", host, port), HTTPS_PROXY="http://proxy.test", NO_PROXY=no_proxy)

    assert is_direct == (found is None)


@pytest.mark.parametrize("host", ["localhost", "dev.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_never_reached_through_a_proxy(host: str) -> None:
    """The local Lambda is here, whatever the environment says."""
    assert proxy_for(Origin("https", host, 9001), HTTPS_PROXY="http://proxy.test") is None


def test_absolute_form_names_the_origin() -> None:
    """A plain http request through a proxy says where it goes, and who asks the proxy."""
    head = b"POST /a?b=c HTTP/1.1\r\nhost: service.test\r\n\r\n"

    assert (
        b"POST http://service.test/a?b=c HTTP/1.1\r\nproxy-authorization: Basic eA==\r\nhost: service.test\r\n\r\n"
        == Proxy("proxy.test", 80, "Basic eA==").absolute_form(head, PLAIN)
    )
    assert b"POST http://service.test/a?b=c HTTP/1.1\r\nhost: service.test\r\n\r\n" == Proxy(
        "proxy.test", 80
    ).absolute_form(head, PLAIN)
