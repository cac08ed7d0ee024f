"""From nothing to a native call: the README that `new` writes, followed in an empty virtual environment."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.bridge_process import RunningBridge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PROTO = """
syntax = "proto3";
package shop.v1;
service Cart {
  rpc Add(Item) returns (Item);
  rpc List(Item) returns (stream Item);
}
message Item { string name = 1; }
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both wheels of this checkout, as `make wheels` makes them, from a copy."""
    folder = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "lambda_fn"):
        command = [sys.executable, "-m", "build", "--quiet", "--wheel", "--no-isolation", "--outdir", str(folder)]
        subprocess.run([*command, str(source)], check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def environment(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An empty virtual environment that is active. Nothing of this checkout is in its reach but the wheels."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "PYTEST"))
    }
    return own | {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PIP_FIND_LINKS": str(wheels),
        "VIRTUAL_ENV": str(folder),
    }


def commands_of(readme: Path) -> list[str]:
    """The lines of its block, without their comments."""
    (block,) = re.findall(r"```sh\n(.*?)```", readme.read_text(), re.DOTALL)
    return [shlex.join(shlex.split(line, comments=True)).replace("'&&'", "&&") for line in block.splitlines()]


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    result = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    assert 0 == result.returncode, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.mark.parametrize(
    ("name", "proto", "tests", "answer"),
    [("say-hello", None, "1 passed", "Hello, world!"), ("cart", PROTO, "2 passed", "{}")],
    ids=["from nothing", "from a .proto"],
)
def test_the_readme_leads_to_a_native_call(
    tmp_path: Path, environment: dict[str, str], name: str, proto: str | None, tests: str, answer: str
) -> None:
    """Every command but those of SAM, which needs an account. Only the ports are free ones, for tests at the same
    time.
    """
    run("python -m pip install --quiet grpc-lambda-bridge", tmp_path, environment)
    if proto is not None:
        (tmp_path / "cart.proto").write_text(proto)
    run(f"grpc-lambda-bridge new {name}" + (" --proto cart.proto" if proto else ""), tmp_path, environment)
    folder = tmp_path / name
    install, pytest_command, serve, call, generate, sam = commands_of(folder / "README.md")
    with (folder / "bridge.yaml").open("a") as file:
        file.write('listen: "127.0.0.1:0"\nadmin: null\nemulator: "127.0.0.1:0"\n')

    run(install, folder, environment)
    assert tests in run(pytest_command, folder, environment)
    process = subprocess.Popen(
        shlex.split(serve), cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    bridge = RunningBridge(process)
    try:
        bridge.wait_until_serving()
        assert answer in run(call.replace(" call ", f" call --to {bridge.address} "), folder, environment)
    finally:
        assert 0 == bridge.stop()
    generated = {path: path.read_bytes() for path in folder.glob("*_pb2*.py*")}
    run(generate, folder, environment)
    assert generated == {path: path.read_bytes() for path in folder.glob("*_pb2*.py*")}
    assert sam.startswith("sam build && sam deploy")
