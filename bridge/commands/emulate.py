"""`emulate`: the local Lambda alone, for boto3, the AWS CLI and other tools that speak AWS's API."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import uvloop

from bridge import logs
from bridge.commands.failure import CommandFailed
from bridge.commands.loading import load_config
from bridge.config.schema import Config, Emulator
from bridge.emulator.api import naming
from bridge.emulator.instances.terminal import terminal_path
from bridge.emulator.local_lambda import LocalLambda
from bridge.rpc.address import TcpAddress
from bridge.rpc.redaction import Redactor
from bridge.rpc.url import Url
from bridge.shared_services import unready_reason


def emulate(chosen: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT. Raises ConfigErrors and CommandFailed."""
    path, config = load_config(chosen)
    logs.set_up(level=config.log.level, log_format=config.log.format, redact=Redactor(config.secrets))
    if not config.functions:
        raise CommandFailed(f"{path} has no `functions` to run", exit_code=2)
    if isinstance(config.emulator, Url):
        raise CommandFailed(
            f"`emulator` is {config.emulator}: a local Lambda that runs elsewhere; give an address",
            exit_code=2,
        )
    uvloop.run(_emulate(config, config.emulator))
    return 0


async def _emulate(config: Config, emulator: Emulator) -> None:
    address = emulator.address
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    local = LocalLambda(
        config.functions,
        logs_json=not logs.is_console(config.log.format),
        shows_reports=config.log.shows_info,
        terminal=terminal_path(),
        hosts=emulator.hosts,
        concurrency=emulator.concurrency,
    )
    try:
        try:
            port = await local.start(address.host, address.port)
        except OSError as error:
            raise CommandFailed(
                f"cannot listen on {address}: {unready_reason(error)}; --emulator chooses another address"
            ) from error
        names = ", ".join(config.functions)
        lines = [f"local Lambda on http://{TcpAddress(address.host, port)}: {names}"]
        lines += [f"  {_command(local.endpoint_url, name)}" for name in _invokable(config)[:1]]
        lines += [f"  {name}: {url} or {local.path_url(name)}" for name, url in local.urls.items()]
        print(*lines, sep="\n", file=sys.stderr)
        await stopping.wait()
    finally:
        await local.close()


def _invokable(config: Config) -> list[str]:
    """Return the names of the functions that take events: a Web Function takes HTTP requests."""
    return [name for name, function in config.functions.items() if function.web is None]


def _command(endpoint_url: str, name: str) -> str:
    """Return a command for the AWS CLI that works as it is printed. The CLI wants keys and a region; any will do."""
    settings = f"AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION={naming.REGION}"
    return f"{settings} aws lambda invoke --endpoint-url {endpoint_url} --function-name {name} out.json"
