"""Starts the process of a function's instance: its command, its folder and its environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import environment
from bridge.emulator.instances.debugging import CannotDebug
from bridge.emulator.instances.environment import Interpreter
from bridge.emulator.instances.process import FunctionProcess


async def start_process(
    config: FunctionConfig,
    interpreter: Interpreter,
    *,
    runtime_api: str,
    log_socket: str | None,
    breakpoint_socket: str | None,
    on_output: Callable[[bytes], None],
) -> FunctionProcess:
    """Start it with the addresses of its Runtime API and its other sockets. Raises OSError if it cannot be run."""
    day = time.strftime("%Y/%m/%d", time.gmtime())
    return await FunctionProcess.start(
        environment.command_of(config),
        folder=config.code,
        environment=environment.environment_of(
            config,
            interpreter,
            runtime_api=runtime_api,
            log_stream=f"{day}/[$LATEST]{uuid4().hex}",
            log_socket=log_socket,
            breakpoint_socket=breakpoint_socket,
        ),
        on_output=on_output,
    )


def why_not_started(error: OSError | CannotDebug, config: FunctionConfig) -> str:
    """Say in the words of AWS what was wrong with the command or the folder, and what helps."""
    if isinstance(error, CannotDebug):
        return str(error)
    reason = (error.strerror or "failed").lower()
    # The error for a folder that is gone looks like the one for a program that is not there, and may name neither.
    if not config.code.is_dir():
        return f"chdir {config.code}: {reason}"
    name = environment.command_of(config)[0]
    return f"fork/exec {name}: {reason}{_hint(error, name, config)}"


def _hint(error: OSError, name: str, config: FunctionConfig) -> str:
    program = config.code / name
    match error:
        case PermissionError() if config.handler is None or config.command:
            return f" (if the file is not executable: chmod +x {program})"
        case FileNotFoundError() if "/" not in name:
            return f" (there is none on PATH; a program in the function's folder is ./{name})"
        case FileNotFoundError() if program.exists():
            return f" ({program} is there, but not the interpreter that its first line names)"
        case FileNotFoundError():
            return f" ({program} is not there)"
        case _:
            return ""
