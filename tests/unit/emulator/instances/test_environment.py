"""Commands and environments of functions' processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import environment
from bridge.emulator.instances.environment import FunctionInterpreter
from bridge.rpc.limits import MIB

HANDLER = FunctionConfig(name="fn", code=Path("/code"), handler="app.handler")
COMMAND = FunctionConfig(name="fn", code=Path("/code"), command=("./bootstrap", "-x"))


def env(config: FunctionConfig, interpreter: FunctionInterpreter | None = None) -> dict[str, str]:
    return environment.environment_of(
        config, interpreter or FunctionInterpreter("3.13"), runtime_api="127.0.0.1:1", log_stream="s"
    )


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (COMMAND, ("./bootstrap", "-x")),
        (HANDLER, (sys.executable, "-m", "lambda_fn.runtime", "app.handler")),
        (
            FunctionConfig(name="fn", code=Path("/c"), handler="a.b", python=Path("/py"), runtime="awslambdaric"),
            ("/py", "-m", "awslambdaric", "a.b"),
        ),
    ],
)
def test_a_handler_runs_on_a_runtime_and_a_command_as_it_is(config: FunctionConfig, command: tuple[str, ...]) -> None:
    assert command == environment.command_of(config)


def test_a_command_reads_its_handler_itself(tmp_path: Path) -> None:
    """Neither Python nor Node.js runs it, whatever files are there."""
    (tmp_path / "index.js").touch()
    both = FunctionConfig(name="fn", code=tmp_path, command=("./bootstrap",), handler="index.handler")

    assert ("./bootstrap",) == environment.command_of(both)
    assert "index.handler" == env(both)["_HANDLER"]
    assert "AWS_EXECUTION_ENV" not in env(both)
    assert not environment.is_node(both)


def test_the_python_path_is_the_functions_folder_its_own_and_last_ours() -> None:
    """Ours only for an interpreter that has no lambda_fn."""
    with_path = FunctionConfig(name="fn", code=Path("/code"), handler="a.b", env={"PYTHONPATH": "/lib"})
    lent = env(with_path, FunctionInterpreter("3.13", has_lambda_fn=False))["PYTHONPATH"]

    assert env(HANDLER)["PYTHONPATH"] == "/code"
    assert f"/code:/lib:{environment.function_side()}" == lent
    assert (environment.function_side() / "lambda_fn" / "runtime.py").is_file()


def test_a_command_is_not_treated_as_python() -> None:
    assert not {"PYTHONPATH", "PYTHONUNBUFFERED", "AWS_EXECUTION_ENV"} & env(COMMAND).keys()
    assert env(HANDLER)["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"


def test_the_functions_own_variables_win_but_for_the_runtime_api() -> None:
    """Without that address the function could not be reached at all."""
    config = FunctionConfig(
        name="fn",
        code=Path("/code"),
        command=("x",),
        env={"AWS_REGION": "eu-west-1", "AWS_LAMBDA_RUNTIME_API": "elsewhere"},
    )
    seen = env(config)

    assert (seen["AWS_REGION"], seen["AWS_LAMBDA_RUNTIME_API"]) == ("eu-west-1", "127.0.0.1:1")


def test_memory_is_told_in_whole_megabytes() -> None:
    config = FunctionConfig(name="fn", code=Path("/code"), command=("x",), memory=100 * MIB + 1)

    assert env(config)["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "101"


def test_an_instance_for_many_calls_has_the_variables_of_managed_instances() -> None:
    """Others have none of them."""
    many = replace(HANDLER, instance_concurrency=16, env={"AWS_LAMBDA_LOG_FORMAT": "Text"})
    found = environment.environment_of(
        many, FunctionInterpreter(), runtime_api="a", log_stream="s", log_socket="/socket"
    )

    assert "16" == found["AWS_LAMBDA_MAX_CONCURRENCY"]
    assert "lambda-managed-instances" == found["AWS_LAMBDA_INITIALIZATION_TYPE"]
    assert "Text" == found["AWS_LAMBDA_LOG_FORMAT"]
    assert "/socket" == found["_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET"]
    assert "AWS_LAMBDA_MAX_CONCURRENCY" not in env(HANDLER)
    assert "on-demand" == env(HANDLER)["AWS_LAMBDA_INITIALIZATION_TYPE"]
