"""The services that a bridge has once, for any number of processes: the local Lambda and the admin server."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from bridge import logs
from bridge.config.console import console_off
from bridge.config.schema import Config
from bridge.config.shown import configuration_text
from bridge.config.units import format_duration
from bridge.rpc.address import TcpAddress
from bridge.rpc.url import Url
from bridge.server.hosts import Hosts

if TYPE_CHECKING:
    from bridge.admin.overview import RouteLine
    from bridge.admin.server import AdminServer, FunctionReport, TakeSnapshot
    from bridge.emulator.local_lambda import LocalLambda

_logger = logging.getLogger(__name__)

_FORMER_STAY = 5.0
"""Seconds that a function which the configuration no longer has may still be called."""


class SharedServices:
    """Belongs to the running loop. aiohttp is imported only if one of the two is wanted."""

    def __init__(self, config: Config, *, changed: Callable[[str], None]) -> None:
        """Take `changed`, which gets the name of a local function whose files have changed."""
        self._config = config
        self._changed = changed
        self._local: LocalLambda | None = None
        self._admin: AdminServer | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._started = time.monotonic()

    async def start_local_lambda(self, config: Config) -> str:
        """Return the endpoint of the local Lambda: one that is started for this configuration's functions, the one that
        it names, or "".

        Raises OSError if the address cannot be had.
        """
        emulator = config.emulator
        if isinstance(emulator, Url):
            return str(emulator)
        address = emulator.address
        if self._local is None and config.functions:
            from bridge.emulator.instances.terminal import terminal_path
            from bridge.emulator.local_lambda import LocalLambda

            local = LocalLambda(
                config.functions,
                logs_json=not logs.is_console(config.log.format),
                shows_reports=config.log.shows_info,
                terminal=terminal_path(),
                changed=self._changed,
                hosts=emulator.hosts,
                concurrency=emulator.concurrency,
            )
            await self._listen(
                local.start(address.host, address.port),
                f"the local Lambda cannot listen on {address}",
                "`emulator` chooses another address",
            )
            self._local = local
            for name, url in self._local.urls.items():
                _logger.info("URL of %s: %s or %s", name, url, self._local.path_url(name))
        return "" if self._local is None else self._local.endpoint_url

    async def start_admin(
        self,
        *,
        listeners: Callable[[], Sequence[str]],
        unready: Callable[[], Sequence[str]],
        snapshot: TakeSnapshot,
        open_console: Callable[[], socket.socket],
    ) -> None:
        """Serve the admin port, if there is to be one. Raises OSError if the address cannot be had."""
        admin = self._config.admin
        if admin is None:
            return
        address = admin.address
        from bridge.admin.console import ConsoleAccess, ListenerShown
        from bridge.admin.server import AdminServer, Reports

        # aiohttp takes a tenth of a second to import: calls are answered meanwhile.
        await asyncio.to_thread(import_module, "aiohttp.web")
        self._admin = AdminServer(
            Reports(
                version=version("grpc-lambda-bridge"),
                uptime=lambda: time.monotonic() - self._started,
                listeners=listeners,
                unready=unready,
                routes=lambda: _route_lines(self._config),
                snapshot=snapshot,
                wall_clock=time.time,  # noqa: TID251 - the page shows the time of day
                functions=self._functions,
                configuration=lambda: configuration_text(self._config),
                console=ConsoleAccess(
                    console_off(self._config),
                    open_console,
                    lambda: [
                        ListenerShown(address, tls=listener.tls is not None)
                        for address, listener in zip(listeners(), self._config.listen, strict=False)
                    ],
                ),
            ),
            Hosts.of_this_machine("admin.hosts", admin.hosts),
        )
        port = await self._listen(
            self._admin.start(address),
            f"the admin server cannot listen on {address}",
            "--admin chooses another address, `admin: null` does without",
        )
        _logger.info("admin on http://%s/", TcpAddress(address.host, port))

    def _functions(self) -> list[FunctionReport]:
        from bridge.admin.server import FunctionReport

        return [] if self._local is None else [FunctionReport(*report) for report in self._local.report()]

    async def _listen(self, starting: Awaitable[int], failed: str, remedy: str) -> int:
        try:
            return await starting
        except OSError as error:
            raise OSError(error.errno, f"{failed}: {unready_reason(error)}; {remedy}") from error

    async def reload(self, config: Config) -> None:
        """Run and tell what this configuration says from now on.

        To be done before its routes apply. Functions that are gone stay for a moment: calls are on their way to them.
        """
        former, self._config = self._config, config
        if self._local is None:
            return
        if self._leaving is not None:
            self._leaving.cancel()
        await self._local.update({**former.functions, **config.functions})
        loop = asyncio.get_running_loop()
        self._leaving = loop.create_task(self._drop_former(self._local))

    async def _drop_former(self, local: LocalLambda) -> None:
        await asyncio.sleep(_FORMER_STAY)
        await local.update(self._config.functions)

    async def close(self) -> None:
        """Stop the admin server and the local Lambda."""
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)
        if self._admin is not None:
            await self._admin.close()
        if self._local is not None:
            await self._local.close()


def unready_reason(error: OSError) -> str:
    """Why an address cannot be had, in the system's words: asyncio's repeat the address."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _route_lines(config: Config) -> list[RouteLine]:
    from bridge.admin.overview import RouteLine, RouteTarget

    return [
        RouteLine(
            service.key,
            tuple(RouteTarget(str(leg.target), leg.weight) for leg in service.legs),
            {"timeout": format_duration(service.timeout)} if service.timeout is not None else {},
        )
        for service in config.services.values()
    ]
