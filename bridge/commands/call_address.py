"""The address that `call --to` names, and how its server is reached: plaintext or TLS."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from bridge.commands.failure import CommandFailed

_SCHEME = re.compile(r"(?P<scheme>https?|grpcs?|ftp|wss?|tcp|tls)://(?P<rest>.*)", re.IGNORECASE)
_WITH_TLS = frozenset({"https", "grpcs", "wss", "tls"})
_NAME_SYNTAX = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:", "xds:")
"""Other names that gRPC resolves itself (gRPC "Name Resolution"). They are passed on as they are."""
_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:/\[\]\s]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Security:
    """How a server is reached: over TLS or not, which authorities are trusted, and which certificate is shown."""

    tls: bool = False
    cacert: Path | None = None
    """None: the system's authorities."""
    cert: Path | None = None
    key: Path | None = None
    is_verified: bool = True
    """Whether the server's certificate is checked."""
    authority: str | None = None
    """The `:authority` of calls, and the name that the certificate must have. None: the address."""

    @staticmethod
    def of(chosen: argparse.Namespace) -> Security:
        """Read the flags. Files, and --insecure, ask for TLS by themselves. Raises CommandFailed."""
        if (chosen.cert is None) != (chosen.key is None):
            missing = "--key" if chosen.key is None else "--cert"
            raise CommandFailed(f"--cert and --key need each other: {missing} is missing", exit_code=2)
        if chosen.insecure and chosen.cacert is not None:
            raise CommandFailed("--insecure trusts every certificate, so leave out --cacert", exit_code=2)
        files = {"--cacert": chosen.cacert, "--cert": chosen.cert, "--key": chosen.key}
        for flag, path in files.items():
            if path is not None:
                _check_readable(flag, path)
        return Security(
            tls=chosen.tls or chosen.insecure or any(path is not None for path in files.values()),
            cacert=chosen.cacert,
            cert=chosen.cert,
            key=chosen.key,
            is_verified=not chosen.insecure,
            authority=chosen.authority,
        )


def _check_readable(flag: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            content = file.read(1 << 20)
    except OSError as error:
        raise CommandFailed(f"{flag} {path} cannot be read: {error.strerror}", exit_code=2) from error
    if b"-----BEGIN " not in content:
        raise CommandFailed(f"{flag} {path} is not a PEM file (it has no line -----BEGIN …-----)", exit_code=2)


def checked_address(text: str) -> str:
    """Return the address as gRPC takes it. Raises CommandFailed, with what to write in its place."""
    found = _SCHEME.fullmatch(text)
    if found is not None:
        bare = found["rest"].partition("/")[0]
        tls = " --tls" if found["scheme"].lower() in _WITH_TLS else ""
        raise CommandFailed(
            f"--to takes HOST:PORT without {found['scheme']}://, so write: --to {bare or 'localhost:50051'}{tls}",
            exit_code=2,
        )
    if text.startswith(_NAME_SYNTAX):
        return text
    if split_address(text) is None:
        raise CommandFailed(
            f"--to takes HOST:PORT, such as localhost:50051 or [::1]:50051, or unix:PATH; found {text!r}", exit_code=2
        )
    return text


def split_address(address: str) -> tuple[str, int] | None:
    """Return the parts of HOST:PORT, or None for other names."""
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 1 << 16:
        return None
    return found["v6"] or found["host"], int(found["port"])
