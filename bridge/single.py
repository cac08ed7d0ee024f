"""Runs a bridge in one process (`workers: 1`): it serves calls and has the shared services."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bridge.app import Bridge
from bridge.config.reload import after_reload
from bridge.config.schema import Config
from bridge.server.server import BoundSocket
from bridge.shared_services import SharedServices

if TYPE_CHECKING:
    from bridge.admin.snapshot import Snapshot


_ADMIN_WAITS = 0.5
"""Most seconds to wait for credentials. An operator who misses them needs /readyz."""


class SingleProcess:
    """Belongs to the running loop."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[BoundSocket],
        *,
        environ: Mapping[str, str],
    ) -> None:
        self._bridge = Bridge(config, sockets, environ=environ)
        self._shared_services = SharedServices(config, changed=self._bridge.forget)

    @property
    def config(self) -> Config:
        return self._bridge.config

    @property
    def addresses(self) -> list[str]:
        return self._bridge.addresses

    async def start(self) -> None:
        """Start the bridge. Raises OSError for an address in use, and as Bridge.start does."""
        endpoint = await self._shared_services.start_local_lambda(self.config)
        await self._bridge.start(local_endpoint=endpoint)
        self._bridge.warn_of_exposure()
        if self.config.admin is not None:
            # Whoever waits for the first answer does not wait for the admin port as well.
            await self._bridge.wait_until_ready(seconds=_ADMIN_WAITS)
        await self._shared_services.start_admin(
            listeners=lambda: self._bridge.addresses,
            unready=lambda: self._bridge.unready,
            snapshot=self._snapshot,
            open_console=self._open_console,
        )

    def _open_console(self) -> socket.socket:
        """Return one end of a pair of sockets. The console has the other."""
        ours, theirs = socket.socketpair()
        self._bridge.serve_console(theirs)
        return ours

    async def _snapshot(self, *, recent: bool = False) -> Snapshot:
        return self._bridge.snapshot(recent=recent)

    async def reload(self, config: Config) -> None:
        """Read the configuration again. Raises what is wrong with the new one; then the old one stays."""
        former = self.config
        endpoint = await self._shared_services.start_local_lambda(config)
        await self._shared_services.reload(after_reload(former, config))
        try:
            await self._bridge.reload(config, local_endpoint=endpoint)
        except BaseException:
            await self._shared_services.reload(former)
            raise

    async def wait_until_ready(self, *, seconds: float) -> None:
        """Return when calls can be served, at the latest after so long."""
        await self._bridge.wait_until_ready(seconds=seconds)

    async def drain(self) -> None:
        await self._bridge.drain()

    async def close(self) -> None:
        """Fine at any time, and twice."""
        await self._bridge.close()
        await self._shared_services.close()
