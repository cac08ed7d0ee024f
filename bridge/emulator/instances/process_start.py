"""Starts the process of a function's instance: its command, folder and environment, its sockets and its debugger."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

from bridge.config.schema import Debug, FunctionConfig
from bridge.emulator.instances import debugging, environment
from bridge.emulator.instances.debugging import CannotDebug
from bridge.emulator.instances.environment import FunctionInterpreter
from bridge.emulator.instances.log_socket import LogSocket
from bridge.emulator.instances.output import InstanceOutput
from bridge.emulator.instances.process import FunctionProcess
from bridge.emulator.instances.runtime_api import MAX_RUNTIME_CONNECTIONS, RuntimeApi
from bridge.emulator.instances.runtime_session import Session
from bridge.emulator.instances.shared_state import SharedEmulatorState
from bridge.emulator.instances.terminal import BreakpointSocket


class CannotStart(Exception):
    """The process cannot be started. `str` says why and what helps."""


class ProcessStart:
    """Opens the sockets of one instance and starts its process on them. They stay open until `close`."""

    def __init__(
        self,
        config: FunctionConfig,
        shared: SharedEmulatorState,
        session: Session,
        output: InstanceOutput,
        *,
        on_breakpoint: Callable[[], None],
    ) -> None:
        """`on_breakpoint` is called when the code has reached a breakpoint()."""
        concurrency = config.instance_concurrency
        self._config = config
        self._shared = shared
        self._output = output
        self._api = RuntimeApi(session, shared.hosts, concurrency=concurrency)
        self._log_socket: LogSocket | None = None
        if concurrency > 1:
            self._log_socket = LogSocket(output.write_line, max_streams=MAX_RUNTIME_CONNECTIONS + 2 * concurrency)
        self._breakpoints: BreakpointSocket | None = None
        # Code under another debugger does not get the terminal.
        if shared.terminal is not None and config.debug is None and environment.is_python(config):
            self._breakpoints = BreakpointSocket(shared.terminal, on_breakpoint)
        self._debug_port: int | None = None
        """The port that is taken for the debugger."""

    async def start(self) -> FunctionProcess:
        """Start the process. Raises CannotStart, with everything closed."""
        try:
            return await self._start()
        except (OSError, CannotDebug) as error:
            self.close()
            raise CannotStart(why_not_started(error, self._config)) from error
        except BaseException:
            self.close()
            raise

    async def read_final_bytes(self, *, seconds: float) -> None:
        """Wait until what the process sent before its end has been read, at most so long."""
        await self._api.last_words(seconds=seconds)

    def debugger_line(self, debug: Debug) -> str:
        """Return the line that says where an editor can attach."""
        return debugging.announcement(debug, is_node=environment.is_node(self._config))

    def close(self) -> None:
        """Close the sockets, and give the debugger's port back. Call it once, after the end of the process."""
        self._api.close()
        if self._log_socket is not None:
            self._log_socket.close()
        if self._breakpoints is not None:
            self._breakpoints.close()
        if self._debug_port is not None:
            self._shared.debug_ports.release(self._debug_port)

    async def _start(self) -> FunctionProcess:
        config = self._config
        # A command of the user's own needs no interpreter.
        has_interpreter = environment.is_python(config)
        interpreter = await self._shared.interpreters.ask(config) if has_interpreter else FunctionInterpreter()
        if config.debug is not None:
            await self._take_debug_port(config.debug, interpreter)
        day = time.strftime("%Y/%m/%d", time.gmtime())
        return await FunctionProcess.start(
            environment.command_of(config),
            folder=config.code,
            environment=environment.environment_of(
                config,
                interpreter,
                runtime_api=await self._api.open(),
                log_stream=f"{day}/[$LATEST]{uuid4().hex}",
                log_socket=None if self._log_socket is None else await self._log_socket.open(),
                breakpoint_socket=None if self._breakpoints is None else await self._breakpoints.open(),
            ),
            on_output=self._output.write,
        )

    async def _take_debug_port(self, debug: Debug, interpreter: FunctionInterpreter) -> None:
        if not interpreter.has_debugpy:
            raise CannotDebug(debugging.missing_debugpy(self._config))
        await self._shared.debug_ports.take(debug.port)
        self._debug_port = debug.port


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
