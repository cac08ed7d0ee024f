"""Decides which host names a port of this process answers to, so that a web page cannot secretly use it.

A page can point its own name at our address (DNS rebinding). A browser on this machine then sends us the page's
requests. What others cannot own is allowed: IP addresses, localhost, names without a dot, and configured names.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

_AUTHORITY = re.compile(r"(?:\[(?P<address>[0-9A-Za-z:.%_-]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]*)?").fullmatch
_ORIGIN = re.compile(r"https?://(?P<authority>[^/?#@]+)", re.IGNORECASE).fullmatch
_DEFAULT_PORT = re.compile(r":(?:80|443)?$")

DOCKER_HOST = "host.docker.internal"
"""The names that Docker and Podman give to the machine that a container runs on."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names of one port."""

    key: str
    """The configuration key that adds names: `admin.hosts`."""
    named: tuple[str, ...] = ()
    """Names in lower case, without a dot at the end. `*.NAME` means every name below NAME."""
    machine: str = ""
    """The machine's own name."""

    @classmethod
    def of_this_machine(cls, key: str, named: Iterable[str] = ()) -> Hosts:
        return cls(key, tuple(_plain(name) for name in named), _plain(socket.gethostname()))

    def answer_to(self, authority: str) -> bool:
        """Whether this port answers to a Host header (RFC 9110 7.2). The header's port does not count."""
        found = _AUTHORITY(authority)
        if found is None:
            return False
        if found["name"] is None:
            return _is_address(found["address"])
        name = _plain(found["name"])
        return self._is_own(name) or self._is_named(name)

    def _is_own(self, name: str) -> bool:
        """Whether no outsider can give this name an address. An empty name counts as such."""
        if not name:
            return False
        return (
            "." not in name or name.endswith(".localhost") or name in (DOCKER_HOST, self.machine) or _is_address(name)
        )

    def _is_named(self, name: str) -> bool:
        return any(name.endswith(known[1:]) if known.startswith("*.") else name == known for known in self.named)

    def has_named(self, authority: str) -> bool:
        """Whether the operator has configured the name of this Host header."""
        found = _AUTHORITY(authority)
        return found is not None and found["name"] is not None and self._is_named(_plain(found["name"]))

    def answer_to_url(self, authority: str, suffix: str) -> bool:
        """Whether a function URL may have this host, `NAME.lambda-url.REGION.SUFFIX`. Or a configured suffix."""
        return self.answer_to(authority) or _plain(suffix) in self.named

    def refusal(self, authorities: Iterable[str], origins: Iterable[str] = ()) -> str | None:
        """Return the reason why a request is refused, or None if it is answered.

        `authorities` holds each Host header, and the host of a request target that is a whole URL. A request without
        any is not from a browser. `origins` holds each Origin header, for requests that only this port's own pages may
        make.
        """
        asked = list(authorities)
        if len(asked) > 1 and len({authority.lower() for authority in asked}) > 1:
            return "the request names several hosts"
        if not all(self.answer_to(authority) for authority in asked):
            return (
                "this port does not answer to that host name: ask for localhost or an IP address, "
                f"or add the name to `{self.key}`"
            )
        if not all(self._is_ours(origin, asked) for origin in origins):
            return "pages of other origins may not ask here"
        return None

    def _is_ours(self, origin: str, asked: list[str]) -> bool:
        """Whether a page's origin (RFC 6454 7) is this port or has a configured name. `null` is refused."""
        found = _ORIGIN(origin)
        if found is None:
            return False
        if _without_default_port(found["authority"]) in map(_without_default_port, asked):
            return True
        parts = _AUTHORITY(found["authority"])
        return parts is not None and parts["name"] is not None and self._is_named(_plain(parts["name"]))


def _plain(name: str) -> str:
    """Return the name in lower case without a dot at the end: RFC 1034 3.1 treats these as equal."""
    return name.lower().removesuffix(".")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _without_default_port(authority: str) -> str:
    return _DEFAULT_PORT.sub("", authority.lower())
