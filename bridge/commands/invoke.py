"""`invoke`: runs one function with an event, here or on AWS.

The result goes to standard output. The end of the function's log goes to standard error. Its REPORT line says what the
invocation took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridge import logs
from bridge.aws.invoke import InvocationWithLog
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.commands.check_live import wait_for_credentials
from bridge.commands.failure import CommandFailed
from bridge.commands.own_bridge import base_config, config_for
from bridge.config.problems import did_you_mean
from bridge.config.schema import Config
from bridge.conversion.converter import Conversions
from bridge.emulator.instances.debugging import LINE_PREFIX as DEBUG_PREFIX
from bridge.emulator.instances.terminal import terminal_path
from bridge.emulator.local_lambda import LocalLambda
from bridge.layers.deadline import Deadlines
from bridge.rpc.errors import RpcError
from bridge.rpc.figures import BridgeFigures
from bridge.rpc.redaction import Redactor
from bridge.rpc.url import Url
from bridge.stack import Shared, Stack

_KINDS = ("arn:", "function:", "local:")

_report = re.compile(r"^REPORT RequestId: ", re.MULTILINE).search


def invoke(chosen: argparse.Namespace) -> int:
    """Run the function. Returns 0, or 1 if it failed. Raises ConfigErrors and CommandFailed."""
    event = _event(chosen.event)
    config = config_for(chosen.config, _target(chosen.name, chosen.config))
    logs.set_up(level="warning", log_format="console", redact=Redactor(config.secrets))
    began = time.monotonic()
    invoked = asyncio.run(_invoke(config, event))
    seconds = time.monotonic() - began
    sys.stdout.write(invoked.payload.decode("utf-8", "replace") + "\n")
    sys.stdout.flush()
    print(_described(invoked, seconds), file=sys.stderr)
    return 1 if invoked.function_error else 0


def _event(text: str) -> bytes:
    """Return the event: JSON as it is, of a file after `@`, or of standard input for `-`. Raises CommandFailed."""
    where = "the event"
    if text == "-":
        where, text = "standard input", sys.stdin.read()
    elif text.startswith("@"):
        where = text[1:]
        try:
            text = Path(where).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"{where}: {getattr(error, 'strerror', error)}", exit_code=2) from error
    try:
        json.loads(text)
    except ValueError as error:
        raise CommandFailed(f"{where} is not JSON: {error}", exit_code=2) from error
    return text.encode()


def _target(name: str, config_file: Path | None) -> str:
    """Return the target that this name stands for. Raises CommandFailed for one that is nearly that of a local
    function.
    """
    if name.startswith(_KINDS):
        return name
    functions = base_config(config_file).functions
    if name in functions:
        return f"local:{name}"
    if meant := did_you_mean(name, functions):
        raise CommandFailed(
            f"{name} is not among the `functions`{meant} A function on AWS is function:{name}", exit_code=2
        )
    return f"function:{name}"


async def _invoke(config: Config, event: bytes) -> InvocationWithLog:
    figures = BridgeFigures()
    shared = Shared(
        figures,
        {},
        Deadlines(asyncio.get_running_loop()),
        os.environ,
        conversions=Conversions(buffers=figures.buffers),
    )
    async with _local_endpoint(config) as endpoint:
        stack = Stack(config, shared, local_endpoint=endpoint)
        await stack.open()
        try:
            await wait_for_credentials(stack)
            (destination,) = stack.invocations
            carrier = destination.carrier
            if not isinstance(carrier, LambdaInvoke):
                raise CommandFailed("a Web Function has no events: send it HTTP requests", exit_code=2)
            return await carrier.invoke_with_log(event)
        except RpcError as error:
            raise CommandFailed(str(error)) from error
        finally:
            await stack.close()


@asynccontextmanager
async def _local_endpoint(config: Config) -> AsyncIterator[str]:
    """Yield the URL of a local Lambda with the function, if the target is local. It ends with the block."""
    ((leg,),) = (service.legs for service in config.services.values())
    name = leg.target.local_function
    if name is None:
        yield "http://127.0.0.1:1"  # nobody connects to it
        return
    if isinstance(config.emulator, Url):
        yield str(config.emulator)
        return
    local = LocalLambda({name: config.functions[name]}, log=_show_debugger, terminal=terminal_path())
    try:
        await local.start("127.0.0.1", 0)
        yield local.endpoint_url
    finally:
        await local.close()


def _show_debugger(_name: str, line: str) -> None:
    """Write where an editor can attach. All other lines come with the result."""
    if line.startswith(DEBUG_PREFIX):
        print(line, file=sys.stderr, flush=True)


def _described(invoked: InvocationWithLog, seconds: float) -> str:
    """Return the end of the log. Its last lines say what the invocation took; without them, say how long this was."""
    lines = [line.rstrip() for line in invoked.log.splitlines() if line.strip()]
    if invoked.function_error:
        lines.append(f"the function failed ({invoked.function_error})")
    if _report(invoked.log) is None:
        lines.append(f"Duration: {seconds * 1000:.0f} ms from start to end of this command; the log has no REPORT")
    return "\n".join(lines)
