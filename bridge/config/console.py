"""Whether the status page has the call console, and why not."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.config.schema import Config, Listener
from bridge.rpc.address import UnixAddress


def console_off(config: Config) -> str:
    """Return why there is no call console. Empty: there is one."""
    admin = config.admin
    if admin is None:
        return "there is no admin port"
    if admin.console is False:
        return "the configuration turns it off (admin.console: false)"
    if not admin.address.is_loopback:
        return (
            f"the admin port listens on {admin.address}: the console needs an address that only this machine reaches,"
            " such as 127.0.0.1:9901"
        )
    if admin.console is None:
        for guarded in _guarded(config):
            return f"{guarded}; `admin: {{console: true}}` turns it on"
    return ""


def console_warning(config: Config) -> str:
    """Return what an operator should know of `admin.console: true`, or an empty text."""
    admin = config.admin
    if admin is None or admin.console is not True:
        return ""
    off = console_off(config)
    if off:
        return f"console: true has no effect: {off}"
    for guarded in _guarded(config):
        return (
            f"every user of this machine who reaches {admin.address} may call through its console, although {guarded}"
        )
    return ""


def _guarded(config: Config) -> Iterator[str]:
    """Yield the listeners that say who may call, which the console goes round."""
    for listener in config.listen:
        reason = _guard_of(listener)
        if reason:
            yield f"the listener {listener.address} {reason}"


def _guard_of(listener: Listener) -> str:
    if isinstance(listener.address, UnixAddress):
        return "is a Unix socket, whose permissions say who may call"
    if listener.tls is not None and listener.tls.client_ca is not None:
        return "asks clients for a certificate (client_ca)"
    return ""
