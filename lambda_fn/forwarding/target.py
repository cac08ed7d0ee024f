"""Target: where the gRPC server is. From what a user writes to what grpcio dials; opens nothing."""

from __future__ import annotations

import re
from typing import NamedTuple

import grpc

_UNIX = "unix:"
PID = "{pid}"
"""Stands for the process's number in the path of a socket."""
_host_and_port = re.compile(r"(\[[^\]/]+\]|[^\s/:\[\]]+):([0-9]{1,5})").fullmatch
_LOOPBACK = ("localhost", "127.", "[::1]")


class Target(NamedTuple):
    """Where a forwarded call goes, and how the connection is secured."""

    address: str
    """As grpcio dials it: `unix:PATH` or `HOST:PORT`."""
    credentials: grpc.ChannelCredentials | None = None
    """None: plaintext."""

    @property
    def socket(self) -> str:
        """The path of the Unix socket; empty for TCP."""
        return self.address.removeprefix(_UNIX) if self.address.startswith(_UNIX) else ""

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket."""
        return 0 if self.socket else int(self.address.rpartition(":")[2])

    @property
    def host(self) -> str:
        """The TCP host, without brackets; empty for a Unix socket."""
        return "" if self.socket else self.address.rpartition(":")[0].strip("[]")

    @property
    def is_here(self) -> bool:
        return bool(self.socket) or self.address.startswith(_LOOPBACK)

    def at_port(self, port: int) -> Target:
        return self._replace(address=f"{self.address.rpartition(':')[0]}:{port}")

    @property
    def socket_of_each_process(self) -> str:
        """The path of the Unix socket with `{pid}` in its name: where it was asked for, or before the suffix. Empty for
        TCP.
        """
        path = self.socket
        if not path or PID in path:
            return path
        folder, slash, name = path.rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        return f"{folder}{slash}{stem}.{PID}.{suffix}" if dot else f"{path}.{PID}"

    def of_process(self, pid: int) -> Target:
        """Return the target with the process's number in the socket's name."""
        if not self.socket:
            return self
        return self._replace(address=_UNIX + self.socket_of_each_process.replace(PID, str(pid)))


def parse(text: str, *, tls: bool | grpc.ChannelCredentials) -> Target:
    """Parse a target. Raises ValueError, saying what a target looks like."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix":
        text = _UNIX + rest
    elif separator:
        if scheme not in ("grpc", "grpcs"):
            raise ValueError(f"target {text!r}: {scheme}:// is neither grpc://, grpcs:// nor unix:")
        if scheme == "grpc" and tls:
            raise ValueError(f"target {text!r} says plaintext, and tls is given; write grpcs://")
        tls = tls or scheme == "grpcs"
        text = rest.rstrip("/")
    if text.startswith(_UNIX):
        if tls:
            raise ValueError(f"target {text!r}: TLS over a Unix socket is not supported")
        if text == _UNIX:
            raise ValueError("target 'unix:' names no path; write unix:/tmp/app.sock")
        return Target(text)
    found = _host_and_port(text)
    if found is None or int(found[2]) > 65535:
        raise ValueError(f"target {text!r} is neither HOST:PORT, grpcs://HOST:PORT nor unix:PATH")
    return Target(text, grpc.ssl_channel_credentials() if tls is True else tls or None)
