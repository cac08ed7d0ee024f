"""Which host names a port of this process answers to, so that web pages cannot use it behind the back of the person who reads them.

A page can give its own name our address (DNS rebinding), and then a browser on this machine asks us in the page's name. What
others cannot make a name of theirs is allowed: IP addresses, localhost, names without a dot, and what the configuration names.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

_AUTHORITY = re.compile(r"(?:\[(?P<address>[0-9A-Za-z:.%_-]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]*)?").fullmatch  # fmt: skip
_ORIGIN = re.compile(r"https?://(?P<authority>[^/?#@]+)", re.IGNORECASE).fullmatch
_DEFAULT_PORT = re.compile(r":(?:80|443)?$")

DOCKER_HOST = "host.docker.internal"
"""The machine that a container runs on, as Docker and Podman call it."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names of one port."""

    key: str
    """The configuration key that adds names: `admin.hosts`."""
    named: tuple[str, ...] = ()
    """In lower case, without a dot at the end; `*.NAME` is every name below NAME."""
    machine: str = ""
    """The machine's own name."""

    @classmethod
    def of_this_machine(cls, key: str, named: Iterable[str] = ()) -> Hosts:
        return cls(key, tuple(_plain(name) for name in named), _plain(socket.gethostname()))

    def answer_to(self, authority: str) -> bool:
        """Whether a Host header (RFC 9110 7.2) is one of ours. Its port does not count."""
        found = _AUTHORITY(authority)
        if found is None:
            return False
        if found["name"] is None:
            return _is_address(found["address"])
        name = _plain(found["name"])
        return self._is_own(name) or self._is_named(name)

    def _is_own(self, name: str) -> bool:
        """Whether nobody else can give it an address. An empty name is nobody's."""
        if not name:
            return False
        return (
            "." not in name
            or name.endswith(".localhost")
            or name in (DOCKER_HOST, self.machine)
            or _is_address(name)
        )

    def _is_named(self, name: str) -> bool:
        return any(
            name.endswith(known[1:]) if known.startswith("*.") else name == known
            for known in self.named
        )

    def answer_to_url(self, authority: str, suffix: str) -> bool:
        """Whether a function URL may have this host, `NAME.lambda-url.REGION.SUFFIX`. A configured name may be its suffix, too."""
        return self.answer_to(authority) or _plain(suffix) in self.named

    def refusal(self, authorities: Iterable[str], origins: Iterable[str] = ()) -> str | None:
        """Why a request is not answered; None: it is.

        `authorities`: each Host header, and the host of a request target that is a whole URL. A request without any is not from
        a browser. `origins`: each Origin header, where only our own pages may ask.
        """
        asked = list(authorities)
        if len(asked) > 1 and len({authority.lower() for authority in asked}) > 1:
            return "the request names several hosts"
        if not all(self.answer_to(authority) for authority in asked):
            return f"this port does not answer to that host name: ask for localhost or an IP address, or add the name to `{self.key}`"
        if not all(self._is_ours(origin, asked) for origin in origins):
            return "pages of other origins may not ask here"
        return None

    def _is_ours(self, origin: str, asked: list[str]) -> bool:
        """Whether a page's origin (RFC 6454 7) is this port itself, or has a configured name. `null` is not."""
        found = _ORIGIN(origin)
        if found is None:
            return False
        if _without_default_port(found["authority"]) in map(_without_default_port, asked):
            return True
        parts = _AUTHORITY(found["authority"])
        return parts is not None and parts["name"] is not None and self._is_named(_plain(parts["name"]))  # fmt: skip


def _plain(name: str) -> str:
    """RFC 1034 3.1: names have no case, and one dot at the end changes nothing."""
    return name.lower().removesuffix(".")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _without_default_port(authority: str) -> str:
    return _DEFAULT_PORT.sub("", authority.lower())
