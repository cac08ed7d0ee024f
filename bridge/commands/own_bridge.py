"""Runs a private bridge for one target: `call --target` starts it on a Unix socket, calls through it, and ends it."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvloop

from bridge import logs
from bridge.commands.failure import CommandFailed
from bridge.commands.target_entries import entries_for
from bridge.config.load import FILE_NAME, load, parse
from bridge.config.problems import ConfigErrors, did_you_mean
from bridge.config.schema import Config, Listener, Log, Service, TargetShare
from bridge.config.target import LocalWebTarget
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.redaction import Redactor
from bridge.rpc.url import Url
from bridge.server.server import bind
from bridge.single import SingleProcess

_START_SECONDS = 30.0


@contextmanager
def own_bridge(
    config_file: Path | None, target: str, called: tuple[str, str] | None = None, *, is_verbose: bool = False
) -> Iterator[str]:
    """Yield the gRPC address of a bridge on which every service leads to `target`. Raises ConfigErrors, CommandFailed.

    The configuration, if there is one, says the rest: `aws`, `functions`, and how its `services` call this target.
    `called`: the service and the method that will be called. `is_verbose`: the log says more than what is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="grpc-lambda-bridge-") as folder:
        socket_path = Path(folder) / "bridge.sock"
        base = base_config(config_file)
        config = _leading_to(target, base, config_file)
        services = entries_for(config.services["*"], base.services, called)
        # Its lines are for the person who calls, also if they go to a file.
        log = Log(level="info" if is_verbose else "warning", format="console", access=None)
        config = replace(config, services=services, log=log)
        logs.set_up(level=log.level, log_format=log.format, redact=Redactor(config.secrets))
        thread = _BridgeThread(config, socket_path)
        thread.start()
        try:
            thread.wait_until_started()
            yield str(UnixAddress(socket_path))
        finally:
            thread.stop()


def base_config(config_file: Path | None) -> Config:
    """Return what the file says, or the defaults without a file. Raises ConfigErrors."""
    named = config_file or os.environ.get("BRIDGE_CONFIG")
    if named or Path(FILE_NAME).exists():
        return load(Path(named or FILE_NAME), environ=os.environ)
    return Config()


def config_for(config_file: Path | None, target: str) -> Config:
    """Return the configuration, with every service leading to `target`. Raises ConfigErrors and CommandFailed."""
    return _leading_to(target, base_config(config_file), config_file)


def _leading_to(target: str, base: Config, config_file: Path | None) -> Config:
    # The emulator's URL keeps the target from being looked for among functions that are not in this text.
    text = f'services: {{"*": {json.dumps(target)}}}\nemulator: http://127.0.0.1:1\n'
    services = _as_configured(parse(text, file="--target", folder=Path.cwd(), environ=os.environ).services, base)
    for leg in services["*"].legs:
        local = leg.target.local_function
        if local is not None and local not in base.functions:
            raise CommandFailed(
                f"{target} is not among the `functions` of {config_file or os.environ.get('BRIDGE_CONFIG', FILE_NAME)}"
                f"{did_you_mean(local, base.functions) or '; name the file with -c'}",
                exit_code=2,
            )
    emulator = (
        base.emulator if isinstance(base.emulator, Url) else replace(base.emulator, address=TcpAddress("127.0.0.1", 0))
    )
    own = {leg.target.local_function for leg in services["*"].legs}
    # A function that is debugged starts at once, and takes a port. Only the one that is called shall do so.
    functions = {
        name: function if name in own else replace(function, debug=None) for name, function in base.functions.items()
    }
    return replace(
        base,
        services=services,
        functions=functions,
        admin=None,
        emulator=emulator,
        drain=1.0,
        drain_delay=0.0,
        log=Log(level="warning", format="console", access=None),
    )


def _as_configured(services: Mapping[str, Service], base: Config) -> Mapping[str, Service]:
    """Return the entries with the kind of target that the local functions of `base` are."""

    def known(leg: TargetShare) -> TargetShare:
        name = leg.target.local_function
        function = None if name is None else base.functions.get(name)
        if function is None or function.web is None:
            return leg
        return replace(leg, target=LocalWebTarget(function.name))

    return {key: replace(entry, legs=tuple(map(known, entry.legs))) for key, entry in services.items()}


class _BridgeThread:
    """A bridge that runs in its own loop and thread, so that its client can block."""

    def __init__(self, config: Config, socket_path: Path) -> None:
        self._config = config
        self._path = socket_path
        self._loop = uvloop.new_event_loop()
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._failure: OSError | ConfigErrors | None = None
        self._thread = threading.Thread(target=self._run, name="own-bridge", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_until_started(self) -> None:
        if not self._started.wait(_START_SECONDS):
            raise CommandFailed(f"the bridge did not start within {_START_SECONDS:g} s")
        if isinstance(self._failure, ConfigErrors):  # of descriptors, which are read when the bridge starts
            raise self._failure
        if self._failure is not None:
            raise CommandFailed(str(self._failure)) from self._failure

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_START_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        bridge = SingleProcess(self._config, [bind(Listener(UnixAddress(self._path)))], environ=os.environ)
        try:
            await bridge.start()
            await bridge.wait_until_ready(seconds=_START_SECONDS / 2)
        except (OSError, ConfigErrors) as error:
            self._failure = error
        self._started.set()
        await self._stopping.wait()
        await bridge.close()
