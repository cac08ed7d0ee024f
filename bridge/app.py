"""One process that serves calls: built from a configuration, reloaded, drained.

The layers of a call are listed in `stack.py`; what a bridge has once, however many processes it is, is in
`shared_services.py`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from msgspec import structs

from bridge import logs
from bridge.carriers.duplex.kept import KeptCarriers
from bridge.carriers.duplex.rendezvous import Rendezvous, open_rendezvous
from bridge.carriers.identity.assumed_role import CredentialSet
from bridge.config.reload import after_reload
from bridge.config.schema import AccessLines, Config
from bridge.conversion.converter import Conversions
from bridge.http2.interface import Engine, EngineLimits
from bridge.layers.access_log import AccessLog, console_lines, json_lines
from bridge.layers.admit import admit_builtin
from bridge.layers.deadline import Deadlines
from bridge.layers.notable import NotableCalls
from bridge.layers.route_table import Builtin, MethodRegistry, RouteTable
from bridge.otel.exports import Exports
from bridge.otel.metrics import Reading
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Route
from bridge.rpc.figures import BridgeFigures, TargetFigures
from bridge.rpc.limits import MaxConnections
from bridge.rpc.recent import MOST_CALLS, Recent, RecentSlots, newest
from bridge.rpc.redaction import Redactor
from bridge.server.connection import ServerContext
from bridge.server.server import BoundSocket, Server
from bridge.server.uploads import Uploads
from bridge.services.builtin import HEALTH, METHODS, REFLECTION, REFLECTION_ALPHA
from bridge.services.function_probe import FunctionProbe
from bridge.services.health import HealthService
from bridge.services.reflection import ReflectionService
from bridge.stack import Shared, Stack, front

if TYPE_CHECKING:
    from bridge.admin.snapshot import Snapshot
    from bridge.console.console import Console

_logger = logging.getLogger(__name__)

_wall_clock = time.time  # noqa: TID251 - lines of the log and of the status page carry the time of day

CREDENTIALS_PATIENCE = 30.0
"""Seconds that a reload waits for credentials."""
_LAST_EXPORT = 3.0
"""Seconds that a collector has for the spans and metrics that are left at the end: less than a supervisor waits beyond
the drain.
"""


class Bridge:
    """`start`, then `reload` any number of times, then `drain` or `close`."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[BoundSocket],
        *,
        environ: Mapping[str, str],
        number: int = 0,
        credentials_patience: float = CREDENTIALS_PATIENCE,
    ) -> None:
        """Belongs to the running loop. `sockets` are those of `listen`, `number` the worker's."""
        self._number = number
        self._rendezvous: Rendezvous | None = None
        self._credentials_patience = credentials_patience
        loop = asyncio.get_running_loop()
        self.config = config
        self._redact = Redactor(config.filled)
        self.figures = BridgeFigures(Buffers(config.buffers))
        self._targets: dict[tuple[str, str], TargetFigures] = {}
        self._methods = MethodRegistry(self._kind_of)
        self._exports = Exports(environ)
        self._conversions = Conversions(
            buffers=self.figures.buffers,
            max_processes=2 if config.workers == 1 else 1,  # each worker has its own
        )
        self._shared = Shared(
            self.figures, self._targets, Deadlines(loop), environ, self._exports.tracing, self._conversions
        )
        self._access_log = AccessLog(
            loop=loop,
            wall_clock=_wall_clock,
            line_format=console_lines if logs.is_console(config.log.format) else json_lines,
            is_on=config.log.access is not None,
        )
        self._slots = RecentSlots()
        self._notable = NotableCalls(wall_clock=_wall_clock, redact=self._redacted)
        self._noting: asyncio.Task[None] | None = None
        self._health = HealthService(matches=self._serves, names=self._service_names)
        self._probe = FunctionProbe(self._health)
        self._reflection = ReflectionService(lambda: self._in_force.sources)
        self._stack: Stack | None = None
        self._table: RouteTable
        self._former: set[asyncio.Task[None]] = set()
        self._console: Console | None = None
        """None until it is used."""
        self._exposure: asyncio.Task[None] | None = None
        self._is_draining = False
        self._server = Server(
            ServerContext(
                handler=front(
                    log=self._access_log,
                    notable=self._notable,
                    figures=self.figures,
                    tracing=self._exports.tracing,
                    redact=self._redacted,
                ),
                resolve=self._resolve,
                figures=self.figures,
                new_engine=partial(_engine_type(config), config.http2.limits),
                limits=replace(config.http2.times, grace=config.drain),
                uploads=Uploads(self.figures.buffers),
                refused=lambda refusal, connection: self._access_log.write_refused(
                    refusal.path, refusal.status, connection.peer, connection
                ),
            ),
            sockets,
            _max_connections(config),
        )

    @property
    def addresses(self) -> list[str]:
        return self._server.addresses

    @property
    def unready(self) -> list[str]:
        """Why calls should not be sent here; empty: they may."""
        reasons = []
        if self._is_draining:
            reasons.append("draining")
        credentials = self._in_force.credentials
        if credentials is not None and not credentials.is_ready:
            reasons.append("no AWS credentials yet")
        return reasons

    def snapshot(self, *, recent: bool = False) -> Snapshot:
        """All figures of this process, now. `recent`: with the last minutes."""
        from bridge.admin.process import process_snapshot
        from bridge.admin.snapshot import take_snapshot

        credentials = self._in_force.credentials
        return take_snapshot(
            self.figures,
            methods=self._methods.all(),
            targets=self._targets.values(),
            credentials_age=None if credentials is None else credentials.age,
            process=process_snapshot(helpers=self._conversions.resident_bytes),
            recent=self._recent() if recent else None,
            slow=self._notable.slow,
            failures=(*self._notable.failures, *self._notable.refusals),
        )

    def _recent(self) -> Recent:
        """Return the last minutes of this process."""
        now = _wall_clock()
        self._slots.note(self._methods.all(), now=now)
        credentials, notable = self._in_force.credentials, self._notable
        return Recent(
            slots=self._slots.within(now=now),
            failures=newest(notable.failures),
            refusals=newest(notable.refusals),
            slow=list(notable.slow),
            open_calls=self._server.open_calls(most=MOST_CALLS),
            last_failures=notable.last_failures.copy(),
            credentials=[]
            if credentials is None
            else [structs.replace(state, fault=self._redact(state.fault)) for state in credentials.states(now=now)],
        )

    async def _keep_recent(self) -> None:
        """Note once a second which calls have ended."""
        while True:
            await asyncio.sleep(1.0)
            self._slots.note(self._methods.all(), now=_wall_clock())
            self._notable.forget_old()

    def forget(self, function: str) -> None:
        """Drop what a local function said of itself, because its files have changed."""
        if self._stack is not None:
            self._stack.sources.forget(f"local:{function}")

    def serve_console(self, sock: socket.socket) -> None:
        """Answer what the status page's call console says over this socket, and make its calls."""
        if self._console is None:
            from bridge.console.connection import ConsoleConnection
            from bridge.console.console import Console

            self._console = Console(
                sources=lambda: self._in_force.sources,
                conversions=self._conversions,
                buffers=self.figures.buffers,
                attach=lambda opened: self._server.attach(opened, ConsoleConnection),  # one for each call
                version=version("grpc-lambda-bridge"),
            )
        self._console.serve(sock)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, *, local_endpoint: str) -> None:
        """Accept calls. `local_endpoint`: where `local:` targets are, or "".

        Raises OSError for certificates that cannot be used, ConfigErrors and ValueError for what else cannot.
        """
        if self.config.duplex is not None:
            self._rendezvous = open_rendezvous(self.config.duplex, self._number, count_stranger=self._count_stranger)
            self._shared = replace(self._shared, attached=KeptCarriers(self._rendezvous))
        self._install(await self._build(self.config, local_endpoint))
        await self._server.start()
        self._noting = asyncio.get_running_loop().create_task(self._keep_recent())
        self._exports.start_metrics(partial(_reading, self.snapshot))

    def _count_stranger(self) -> None:
        self.figures.duplex_strangers += 1

    async def reload(self, config: Config, *, local_endpoint: str) -> None:
        """Serve calls that begin from now on by this configuration. Raises as `start` does; then the old one stays."""
        config = after_reload(self.config, config)
        stack = await self._build(config, local_endpoint)
        try:
            await self._wait_for_credentials(stack)
        except BaseException:
            await stack.close()
            raise
        # Calls that began under the old configuration may still end.
        self._redact = Redactor(self.config.filled | config.filled)
        former, self.config = self._in_force, config
        self._install(stack)
        logs.set_up(level=config.log.level, log_format=config.log.format, redact=Redactor(config.secrets))
        self._access_log.is_on = config.log.access is not None
        self._retire(former)

    async def _wait_for_credentials(self, stack: Stack) -> None:
        """Wait until the stack has found its own credentials. A stack without any must not take the place of one that
        has some. Raises ValueError.
        """
        sought, former = stack.credentials, self._in_force.credentials
        if sought is None or former is None or not former.is_ready:
            return
        patience = self._credentials_patience
        if not await sought.ready_within(patience):
            raise ValueError(f"no AWS credentials were found with it within {patience:g} s")

    async def wait_until_ready(self, *, seconds: float) -> None:
        """Return when calls can be served, at the latest after so long."""
        credentials = self._in_force.credentials
        if credentials is not None:
            await credentials.ready_within(seconds)  # calls say what is missing if this fails

    def warn_of_exposure(self) -> None:
        """Log once, when there are credentials, that whoever reaches a listener acts with them."""
        credentials = self._in_force.credentials
        exposed = [str(listener.address) for listener in self.config.listen if listener.is_exposed]
        if credentials is not None and exposed:
            warning = _warn_of_exposure(credentials, ", ".join(exposed))
            self._exposure = asyncio.get_running_loop().create_task(warning)

    async def drain(self) -> None:
        """Tell everybody, keep accepting for `drain_delay`, let calls in flight finish for `drain`."""
        self._is_draining = True
        self._health.drain()
        await asyncio.sleep(self.config.drain_delay)
        self._health.close()
        await self._server.drain(allowed=self.config.drain)

    async def close(self) -> None:
        """End everything now. Fine at any time, and twice."""
        self._probe.stop()
        for task in (self._exposure, self._noting):
            if task is not None:
                task.cancel()
        if self._console is not None:
            await self._console.close()
        await self._server.close()
        for task in tuple(self._former):
            task.cancel()
        await asyncio.gather(*self._former, return_exceptions=True)
        if self._shared.attached is not None:
            await self._shared.attached.close()  # before the connections on which the functions were invoked
        if self._stack is not None:
            await self._stack.close()
        if self._rendezvous is not None:
            await self._rendezvous.close()
        await self._exports.close(seconds=_LAST_EXPORT)
        await self._conversions.close()
        self._access_log.close()

    # -- one configuration --------------------------------------------------------------------------------------------

    @property
    def _in_force(self) -> Stack:
        assert self._stack is not None, "start() comes first"
        return self._stack

    async def _build(self, config: Config, local_endpoint: str) -> Stack:
        stack = Stack(config, self._shared, local_endpoint=local_endpoint)
        try:
            await stack.open()
        except BaseException:
            await stack.close()
            raise
        return stack

    def _install(self, stack: Stack) -> None:
        config = stack.config
        self._stack = stack
        stack.forget_other_gates()
        self._table = RouteTable(
            stack.router,
            builtin=self._builtin(config),
            methods=self._methods,
            unlogged=_unlogged(config.log.access),
        )
        # What is known of functions is kept only while somebody looks after it.
        self._health.routes_changed(config.services if config.health.functions else ())
        if config.health.functions:
            self._probe.watch(stack.invocations)
        else:
            self._probe.stop()

    def _retire(self, stack: Stack) -> None:
        """Let the calls that began under a former stack end under it."""
        task = asyncio.get_running_loop().create_task(stack.retire())
        self._former.add(task)
        task.add_done_callback(self._former.discard)

    def _builtin(self, config: Config) -> dict[str, Builtin]:
        handlers = {HEALTH: self._health.handler}
        if config.reflection:
            handlers[REFLECTION] = handlers[REFLECTION_ALPHA] = self._reflection.handler
        return {name: Builtin(admit_builtin(handler, name=name), METHODS[name]) for name, handler in handlers.items()}

    def _redacted(self, text: str) -> str:
        """Return a message as a client may read it, by the configuration in force."""
        return self._redact(text)

    def _resolve(self, path: str) -> Route:
        return self._table.resolve(path)

    def _kind_of(self, path: str) -> str:
        return self._in_force.sources.method_kind(path)

    def _serves(self, service: str) -> bool:
        return service in self._builtin(self.config) or self._in_force.router.serves(service)

    def _service_names(self) -> list[str]:
        return sorted({*self._in_force.router.services, *self._builtin(self.config)})


async def _warn_of_exposure(credentials: CredentialSet, listeners: str) -> None:
    await credentials.wait_until_ready()
    _logger.warning(
        "whoever reaches %s calls functions as %s; `client_ca` on the listener asks clients for a certificate",
        listeners,
        credentials.identity,
    )


def _reading(take: Callable[[], Snapshot], instance: str) -> Reading[Snapshot]:
    """Return how the metrics of this process are read for OpenTelemetry."""
    from bridge.admin.otel_metrics import reading_of

    return reading_of(take, instance=instance, wall_clock=_wall_clock)


def _unlogged(access: AccessLines | None) -> tuple[str, ...]:
    """Return the names of the services whose calls have no line in the access log."""
    if access is None:
        return ()
    health = () if access.health else (HEALTH,)
    reflection = () if access.reflection else (REFLECTION, REFLECTION_ALPHA)
    return (*health, *reflection)


def _engine_type(config: Config) -> Callable[[EngineLimits], Engine]:
    if config.http2.engine == "h2":
        from bridge.http2.h2_adapter import H2Engine

        _logger.warning("http2.engine is h2, the reference: it has no limits against abuse")
        return H2Engine
    from bridge.http2.native import NativeEngine

    return NativeEngine


def _max_connections(config: Config) -> MaxConnections:
    wanted = config.max_connections
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = wanted.within(None if files == resource.RLIM_INFINITY else files)
    if limits.total < wanted.total:
        _logger.warning(
            "max_connections.total is %d, but this process may have %d files open: it takes %d connections; "
            "raise the limit of open files (ulimit -n)",
            wanted.total,
            files,
            limits.total,
        )
    return limits
