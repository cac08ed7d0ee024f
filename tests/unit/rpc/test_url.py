"""Origins: what URLs mean and how they are written."""

from __future__ import annotations

import pytest

from bridge.rpc.url import Origin, Url


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://abc.lambda-url.eu-west-1.on.aws", Origin("https", "abc.lambda-url.eu-west-1.on.aws", 443), ""),
        ("https://abc.test/", Origin("https", "abc.test", 443), ""),
        ("HTTP://ABC.test:8080/a/b/", Origin("http", "abc.test", 8080), "/a/b"),
        ("http://[::1]:9001", Origin("http", "::1", 9001), ""),
    ],
)
def test_url_is_an_origin_and_a_path(url: str, origin: Origin, path: str) -> None:
    assert Url(origin, path) == Url.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:9001",
        "ftp://host",
        "https://",
        "https:///path",
        "https://host/?a=b",
        "https://host/#a",
        "https://user:hunter2@host/",
        "http://host:notaport",
        "ftp://user:hunter2@host",
        "https://host/?key=hunter2",
        "https://user:hunter2/x@host",
        "http://[::1",
        "http://a\r\nx: y",
        "http://a/b\n",
        "http://a b",
        "http://a/b c",
        "http://é",
        "http://a/\0",
        "http://a,b",
        "http://a:0",
        "https://a:00/x",
        "http://a/b?",
        "http://a/b#",
        "http://a/?#",
        "http://a/b\\c",
        "http://a%b",
        "http://1.2.3",
        "http://-a",
        "http://a.b/#hunter2",
        "http://:hunter2@a",
        "http://[::g]",
        "http://[1.2.3.4]:80",
        "http:/a",
        "http://",
    ],
)
def test_other_urls_are_refused_without_their_secrets(url: str) -> None:
    """The message quotes the URL, but no password and no query."""
    with pytest.raises(ValueError) as caught:
        Url.parse(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "authority", "address"),
    [
        (Origin("https", "host", 443), "host", "host:443"),
        (Origin("https", "host", 80), "host:80", "host:80"),
        (Origin("http", "host", 80), "host", "host:80"),
        (Origin("http", "::1", 9001), "[::1]:9001", "[::1]:9001"),
        (Origin("https", "::1", 443), "[::1]", "[::1]:443"),
    ],
)
def test_authority_names_the_port_only_if_it_must(origin: Origin, authority: str, address: str) -> None:
    assert (authority, address) == (origin.authority, origin.address)
    assert f"{origin.scheme}://{authority}" == str(origin)
