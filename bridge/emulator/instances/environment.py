"""How a function's process is started: its command and its environment, as AWS sets it.

Of the bridge's own environment only PATH, HOME and the library path pass: whoever runs the bridge has AWS keys in it.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bridge.aws.arn import LATEST
from bridge.config.schema import FunctionConfig
from bridge.emulator.api import naming
from bridge.emulator.instances import debugging
from bridge.rpc.limits import MIB
from bridge.rpc.value import FrozenValue

PASSED = ("PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
RUNTIMES = {"lambda_fn": "lambda_fn.runtime", "awslambdaric": "awslambdaric"}
NODE_RUNTIME = Path(__file__).resolve().parents[1] / "node" / "runtime.mjs"
_JAVASCRIPT = (".js", ".mjs", ".cjs")

PROBE = """
import sys, importlib.util as u
print("%d.%d" % sys.version_info[:2])
for name in "lambda_fn", "debugpy":
    print("present" if u.find_spec(name) else "absent")
"""
PROBE_TIMEOUT = 10.0


class FunctionInterpreter(FrozenValue, frozen=True):
    """What a Python interpreter says about itself."""

    version: str = "3"
    has_lambda_fn: bool = True
    has_debugpy: bool = True


class Interpreters:
    """Asks each interpreter once per code folder, for a folder may bring its own lambda_fn."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Path], FunctionInterpreter] = {}

    async def ask(self, config: FunctionConfig) -> FunctionInterpreter:
        """Describe the interpreter of a Python function; one that does not start fails later, with a report."""
        key = interpreter_of(config), config.code
        known = self._known.get(key)
        if known is None or (config.debug is not None and not known.has_debugpy):  # it may have been installed since
            known = self._known[key] = await _ask(config)
        return known


async def _ask(config: FunctionConfig) -> FunctionInterpreter:
    environment = environment_of(config, FunctionInterpreter(), runtime_api="", log_stream="")
    try:
        process = await asyncio.create_subprocess_exec(
            interpreter_of(config),
            "-c",
            PROBE,
            cwd=config.code,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return FunctionInterpreter()
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError:
        return FunctionInterpreter()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    match output.decode("latin-1").split():
        case [version, lambda_fn, debugpy]:
            return FunctionInterpreter(version, lambda_fn == "present", debugpy == "present")
        case _:
            return FunctionInterpreter()


def interpreter_of(config: FunctionConfig) -> str:
    return str(config.python or sys.executable)


def command_of(config: FunctionConfig) -> tuple[str, ...]:
    """Return the program and arguments of a function's process: its command, or a runtime with its handler."""
    if config.web is not None:
        return config.web.command
    if config.command is not None:
        return config.command
    assert config.handler is not None
    if is_node(config):
        waits = (debugging.WAIT_ARGUMENT,) if config.debug is not None and config.debug.wait else ()
        return "node", *debugging.node_arguments(config.debug), str(NODE_RUNTIME), config.handler, *waits
    runtime = RUNTIMES[config.runtime or "lambda_fn"]
    return interpreter_of(config), *debugging.python_arguments(config.debug), "-m", runtime, config.handler


def is_python(config: FunctionConfig) -> bool:
    """Whether a Python interpreter runs the function's handler."""
    return config.handler is not None and config.command is None and not is_node(config)


def is_node(config: FunctionConfig) -> bool:
    """Whether Node.js runs the handler: the configuration says so, or the handler's file is in JavaScript."""
    if config.handler is None or config.command is not None:
        return False
    if config.runtime is not None or config.python is not None:
        return config.runtime == "node"
    folder, _, name = config.handler.rpartition("/")
    scripts = [config.code / folder / f"{name.partition('.')[0]}{ending}" for ending in _JAVASCRIPT]
    module = config.code / config.handler.rpartition(".")[0].replace(".", "/")
    is_in_python = module.with_name(f"{module.name}.py").is_file() or module.is_dir()
    return not is_in_python and any(script.is_file() for script in scripts)


def environment_of(
    config: FunctionConfig,
    interpreter: FunctionInterpreter,
    *,
    runtime_api: str,
    log_stream: str,
    log_socket: str | None = None,
    breakpoint_socket: str | None = None,
) -> dict[str, str]:
    """Return the whole environment. `env:` may change anything in it but the address of the Runtime API."""
    environment = _set_by_aws(config, log_stream)
    if config.instance_concurrency > 1:
        environment |= _for_many_calls(config.instance_concurrency)
    if is_python(config):
        environment |= _for_python(interpreter)
        if config.debug is None:  # debugpy has its own answer to breakpoint()
            environment |= _for_breakpoints(breakpoint_socket)
    environment |= config.env
    if is_python(config):
        environment |= _python_path(config, interpreter)
    if log_socket is not None:
        environment["_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET"] = log_socket
    return environment | {"AWS_LAMBDA_RUNTIME_API": runtime_api}


def web_environment_of(config: FunctionConfig, *, endpoint: str, log_stream: str) -> dict[str, str]:
    """Return the whole environment of a Web Function's server. `endpoint`: where it must listen (`host:port`)."""
    return {**_set_by_aws(config, log_stream), **config.env, "AWS_LAMBDA_HTTP_ENDPOINT": endpoint}


def _set_by_aws(config: FunctionConfig, log_stream: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in PASSED if name in os.environ}
    return inherited | {
        "AWS_LAMBDA_FUNCTION_NAME": config.name,
        "AWS_LAMBDA_FUNCTION_VERSION": LATEST,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(math.ceil(config.memory / MIB)),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{config.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_REGION": naming.REGION,
        "AWS_DEFAULT_REGION": naming.REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SESSION_TOKEN": "local",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_TASK_ROOT": str(config.code),
        "LAMBDA_RUNTIME_DIR": str(function_side()),
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": _joined(config.code, config.code / "lib", inherited.get("LD_LIBRARY_PATH")),
        "TZ": ":UTC",
        "_HANDLER": config.handler or Path(command_of(config)[0]).name,
    }


def _for_many_calls(concurrency: int) -> Mapping[str, str]:
    """Return what Lambda Managed Instances set: their logs are always JSON."""
    return {
        "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_MAX_CONCURRENCY": str(concurrency),
    }


def _for_python(interpreter: FunctionInterpreter) -> Mapping[str, str]:
    return {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{interpreter.version}",
        "PYTHONUNBUFFERED": "1",
    }


def _for_breakpoints(breakpoint_socket: str | None) -> Mapping[str, str]:
    """Return what makes `breakpoint()` ask for our terminal, or say what to do."""
    own = {"PYTHONBREAKPOINT": "lambda_fn.breakpoints.stop"}
    return own if breakpoint_socket is None else own | {"LAMBDA_FN_BREAKPOINT_SOCKET": breakpoint_socket}


def _python_path(config: FunctionConfig, interpreter: FunctionInterpreter) -> Mapping[str, str]:
    """Return the search path. The function's own folder comes first. Our copy of lambda_fn comes last, for functions
    that have none.
    """
    lacking = None if interpreter.has_lambda_fn else function_side()
    return {"PYTHONPATH": _joined(config.code, config.env.get("PYTHONPATH"), lacking)}


def function_side() -> Path:
    """Return the folder that holds lambda_fn. The wheel carries a copy next to this package, a checkout at its root."""
    here = Path(__file__).resolve().parents[1]
    bundled = here / "bundled"
    return bundled if bundled.is_dir() else here.parents[1]


def _joined(*paths: Path | str | None) -> str:
    return os.pathsep.join(str(path) for path in paths if path)
