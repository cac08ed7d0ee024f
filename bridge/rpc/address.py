"""Where a socket is: a TCP host and port, or the path of a Unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port to listen on."""

    host: str
    """A name or an IP address; IPv6 without brackets."""
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. Of the names, `localhost` alone counts."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix socket to listen on."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress
