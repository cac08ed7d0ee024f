"""`serve`: the bridge as a process: sockets first, then the rest, signals until the drain is over."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
from collections.abc import Callable, Collection
from pathlib import Path

import uvloop

from bridge import logs
from bridge.commands import collector
from bridge.commands.aws_region import aws_files
from bridge.commands.config_watch import ConfigWatch
from bridge.commands.failure import CommandFailed
from bridge.commands.listening import bind_all
from bridge.commands.loading import load_to_serve, overrides_of
from bridge.config.problems import ConfigErrors
from bridge.config.reload import changed_sections
from bridge.otel.environment import problems
from bridge.rpc.redaction import Redactor
from bridge.single import SingleProcess
from bridge.supervisor import Supervisor

_logger = logging.getLogger(__name__)

Running = SingleProcess | Supervisor


def serve(chosen: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT. Raises ConfigErrors and CommandFailed."""
    path, config = load_to_serve(chosen)
    logs.set_up(level=config.log.level, log_format=config.log.format, redact=Redactor(config.secrets))
    for warning in config.warnings:
        _logger.warning("%s", warning)
    for why in problems(os.environ):
        _logger.warning("%s", why)
    _raise_file_limit()
    # Before all else that takes time: what changes meanwhile has changed since the file was read.
    watch = ConfigWatch(_followed(path, config.named_files, config.aws.profile)) if chosen.watch else None
    sockets = bind_all(config)

    def start() -> Running:
        if config.workers == 1:
            return SingleProcess(config, sockets, environ=os.environ)
        return Supervisor(config, sockets, file=path, overrides=overrides_of(chosen))

    try:
        uvloop.run(_serve(start, path, chosen, watch))
    finally:
        for bound in sockets:
            bound.close()
    return 0


def _raise_file_limit() -> None:
    """Each connection is a file; the soft limit of most systems, 1024, is not meant for servers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(
    make: Callable[[], Running], path: Path, chosen: argparse.Namespace, watch: ConfigWatch | None
) -> None:
    loop = asyncio.get_running_loop()
    stopping, reloads = asyncio.Event(), asyncio.Event()
    # Before the start: SIGHUP would end the process, and whoever sees it serve may send one at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stopping, loop)
    loop.add_signal_handler(signal.SIGHUP, reloads.set)
    bridge = make()
    try:
        await bridge.start()
    except ConfigErrors:
        await bridge.close()
        raise
    except (OSError, ValueError) as error:
        await bridge.close()
        raise CommandFailed(_text_of(error), exit_code=1 if isinstance(error, OSError) else 2) from error
    collector.settle()
    _greet(bridge)
    background = [loop.create_task(_reload_when_asked(bridge, reloads, path, chosen, watch))]
    if watch is not None:
        background.append(loop.create_task(watch.run(reloads.set)))
    try:
        await stopping.wait()
        _logger.info("draining: calls in flight have %g s", bridge.config.drain)
        await bridge.drain()
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await bridge.close()
    _logger.info("stopped")


def _text_of(error: Exception) -> str:
    """Without the number that OSError puts before its text."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _greet(bridge: Running) -> None:
    _logger.info("serving gRPC on %s", ", ".join(bridge.addresses))
    for key, service in bridge.config.services.items():
        targets = ", ".join(str(leg.target) for leg in service.legs)
        _logger.info("  %s -> %s", key, targets or "UNIMPLEMENTED")
    if logs.is_console(bridge.config.log.format):
        _logger.info("try: grpcurl -plaintext %s list", bridge.addresses[0])


def _stop(stopping: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Drain on the first signal. A second one ends the process as the signal would."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    stopping.set()


async def _reload_when_asked(
    bridge: Running, asked: asyncio.Event, path: Path, chosen: argparse.Namespace, watch: ConfigWatch | None
) -> None:
    while True:
        await asked.wait()
        asked.clear()
        named, profile = bridge.config.named_files, bridge.config.aws.profile
        try:
            # Reading files and compiling .proto folders blocks: calls go on meanwhile.
            _, config = await asyncio.to_thread(load_to_serve, chosen)
            named, profile = config.named_files, config.aws.profile
            changes = changed_sections(bridge.config, config)
            await bridge.reload(config)
            refused: list[str] = []
        except (ConfigErrors, OSError, ValueError) as error:
            refused = [str(each) for each in (error.problems if isinstance(error, ConfigErrors) else (error,))]
            named |= error.named_files if isinstance(error, ConfigErrors) else frozenset()  # one may be yet to come
        if watch is not None:
            await watch.follow(_followed(path, named, profile))
        if refused:
            for problem in refused:
                _logger.error("%s", problem)
            _logger.error("the new configuration is refused, the old one stays")
            continue
        for section in changes.needs_restart:
            _logger.warning("%s has changed, which needs a restart", section)
        _logger.info("reloaded: %s", ", ".join(changes.applied) or "nothing has changed")


def _followed(path: Path, named: Collection[Path], profile: str | None) -> set[Path]:
    """Return the files that `--watch` follows: the configuration, what it names, and AWS's files if they are chosen."""
    chosen = ("AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")
    uses_aws_files = profile is not None or any(os.environ.get(name) for name in chosen)
    return {path, *named, *(aws_files(os.environ) if uses_aws_files else ())}
