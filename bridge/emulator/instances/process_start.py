"""Starts the process of a function's instance: its command, its folder and its environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import environment
from bridge.emulator.instances.environment import Interpreter
from bridge.emulator.instances.process import FunctionProcess


async def start_process(
    config: FunctionConfig,
    interpreter: Interpreter,
    *,
    runtime_api: str,
    log_socket: str | None,
    on_output: Callable[[bytes], None],
) -> FunctionProcess:
    """Start it with the addresses of its Runtime API and its log socket. Raises OSError if it cannot be run."""
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
        ),
        on_output=on_output,
    )


def why_not_started(error: OSError, config: FunctionConfig) -> str:
    """Say in the words of AWS what was wrong with the command or the folder."""
    # The error for a folder that is gone looks like the one for a program that is not there, and may name neither.
    folder_is_there = config.code.is_dir()
    at = f"fork/exec {error.filename or config.name}" if folder_is_there else f"chdir {config.code}"
    reason = f"{at}: {(error.strerror or 'failed').lower()}"
    if isinstance(error, PermissionError) and folder_is_there and config.command is not None:
        program = config.code / config.command[0]
        return f"{reason} (if the file is not executable: chmod +x {program})"
    return reason
