"""From nothing to a native call: the READMEs that `new` writes, followed in an empty virtual environment."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
import venv
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.bridge_process import RunningBridge
from tests.support.clients import tool
from tests.support.scaffolds import ODD_NAMES, written

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

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
        "CARGO_PROFILE_DEV_DEBUG": "0",  # fewer bytes, and sooner
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PIP_FIND_LINKS": str(wheels),
        "VIRTUAL_ENV": str(folder),
    }


LANGUAGES = {
    "python": ("python3", "*_pb2*.py*", "app.py"),
    "node": ("npm", "gen/**/*_pb.*", "index.js"),
    "go": ("go", "gen/**/*.go", "function.go"),
    "rust": ("cargo", "none", "src/main.rs"),
}
"""The program that each language needs, the generated code, and the file with the methods."""
BUILDS = ("go build -o bootstrap .", "make bootstrap")
"""What a README says to run after each change."""


@pytest.fixture(scope="module")
def cargo_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crates that one function has compiled are there for the next."""
    return tmp_path_factory.mktemp("cargo-target")


def commands_of(readme: Path) -> list[str]:
    """The lines of its block, without their comments."""
    (block,) = re.findall(r"```sh\n(.*?)```", readme.read_text(), re.DOTALL)
    return [shlex.join(shlex.split(line, comments=True)).replace("'&&'", "&&") for line in block.splitlines()]


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Returns what a command prints. With README_COSTS=FILE, its seconds and processor seconds join that file."""
    began, used = time.monotonic(), processor_seconds()
    result = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    if costs := os.environ.get("README_COSTS"):
        with Path(costs).open("a") as file:
            took, worked = time.monotonic() - began, processor_seconds() - used
            file.write(f"{folder.name}: {command}: {took:.1f} s, {worked:.1f} s of processor time\n")
    assert 0 == result.returncode, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def processor_seconds() -> float:
    """Of all processes that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


ROAD = pytest.mark.full(part="roads")
COMPILED = pytest.mark.full(part="compilers")


@pytest.mark.parametrize(
    ("language", "name", "proto", "tests", "answer"),
    [
        pytest.param("python", "say-hello", None, "1 passed", "Hello, world!", id="python, from nothing", marks=ROAD),
        pytest.param("python", "cart", PROTO, "2 passed", "{}", id="python, from a .proto", marks=ROAD),
        pytest.param("node", "say-hello", None, "# pass 1", "Hello, world!", id="node, from nothing", marks=ROAD),
        pytest.param("node", "cart", PROTO, "# pass 2", "{}", id="node, from a .proto", marks=ROAD),
        pytest.param("go", "say-hello", None, "ok ", "Hello, world!", id="go, from nothing", marks=COMPILED),
        pytest.param("go", "cart", PROTO, "ok ", "{}", id="go, from a .proto", marks=COMPILED),
        pytest.param("rust", "say-hello", None, "1 passed", "Hello, world!", id="rust, from nothing", marks=COMPILED),
        pytest.param("rust", "cart", PROTO, "2 passed", "{}", id="rust, from a .proto", marks=COMPILED),
    ],
)
def test_the_readme_leads_to_a_native_call(
    tmp_path: Path,
    environment: dict[str, str],
    cargo_target: Path,
    language: str,
    name: str,
    proto: str | None,
    tests: str,
    answer: str,
) -> None:
    """Every command but those of SAM, which needs an account. Only the ports are free ones, for tests at the same
    time.
    """
    program, generated_code, methods = LANGUAGES[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on the PATH; .ci/tools needs it, too")
    run("python -m pip install --quiet grpc-lambda-bridge", tmp_path, environment)
    if proto is not None:
        (tmp_path / "cart.proto").write_text(proto)
    options = f" --language {language}" + (" --proto cart.proto" if proto else "")
    run(f"grpc-lambda-bridge new {name}{options}", tmp_path, environment)
    folder = tmp_path / name
    if language == "rust":
        (folder / "target").symlink_to(cargo_target)
    with (folder / "bridge.yaml").open("a") as file:
        file.write('listen: "127.0.0.1:0"\nadmin: null\nemulator: "127.0.0.1:0"\n')
    generated = {path: path.read_bytes() for path in folder.glob(generated_code)}
    before, (serve, call, *after) = divided(commands_of(folder / "README.md"))

    printed = [run(command, folder, environment) for command in before]
    assert any(tests in text for text in printed)
    process = subprocess.Popen(
        shlex.split(serve), cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    bridge = RunningBridge(process)
    try:
        bridge.wait_until_serving()
        assert answer in run(call.replace(" call ", f" call --to {bridge.address} "), folder, environment)
        check_with_grpcurl(bridge, call, answer)
        if proto is None:
            replace_hello(folder / methods)
            for command in set(BUILDS).intersection(before):
                run(command, folder, environment)
            wait_for_howdy(bridge, call, folder, environment)
    finally:
        assert 0 == bridge.stop()
    if language in {"node", "go"}:  # Rust's debug build is large
        run(f"grpc-lambda-bridge package {name}", folder, environment)
    *generate, sam = after
    for command in generate:
        run(command, folder, environment)
    assert generated == {path: path.read_bytes() for path in folder.glob(generated_code)}
    assert sam.startswith("sam build && sam deploy")


def divided(commands: list[str]) -> tuple[list[str], list[str]]:
    """Return the commands before the bridge starts, and the others."""
    at = commands.index("grpc-lambda-bridge serve")
    return commands[:at], commands[at:]


def replace_hello(path: Path) -> None:
    path.write_text(re.sub(r"(?<!\w)Hello, ", "Howdy, ", path.read_text()))


def wait_for_howdy(bridge: RunningBridge, call: str, folder: Path, environment: dict[str, str]) -> None:
    """The function starts anew after a change. The test's own time limit ends the wait."""
    while "Howdy, world!" not in run(call.replace(" call ", f" call --to {bridge.address} "), folder, environment):
        time.sleep(0.2)


def check_with_grpcurl(bridge: RunningBridge, call: str, answer: str) -> None:
    *_, method, data = shlex.split(call)
    with suppress(pytest.skip.Exception):  # elsewhere than in CI
        program = tool("grpcurl")
        asked = [program, "-plaintext", "-d", data, bridge.address, method]
        result = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        assert 0 == result.returncode, result.stderr
        assert json.loads(result.stdout) == ({} if answer == "{}" else {"message": answer})


@pytest.mark.parametrize(
    ("language", "commands", "passed"),
    [
        pytest.param("node", ["npm install", "npm test"], "# pass 14", marks=ROAD),
        pytest.param(
            "go", ['test -z "$(gofmt -l .)"', "go vet .", "go test -v ."], "--- PASS: TestClass_Self", marks=COMPILED
        ),
        pytest.param("rust", ["cargo test"], "14 passed", marks=COMPILED),
    ],
)
def test_odd_names_lead_to_code_that_works(
    tmp_path: Path, environment: dict[str, str], cargo_target: Path, language: str, commands: list[str], passed: str
) -> None:
    """Each rpc is called by the tests that were written with it. The generated code compiles as it is."""
    if shutil.which(LANGUAGES[language][0]) is None:
        pytest.skip(f"{LANGUAGES[language][0]} is not on the PATH; .ci/tools needs it, too")
    proto = written(tmp_path / "protos", ODD_NAMES)
    run("python -m pip install --quiet grpc-lambda-bridge", tmp_path, environment)
    run(f"grpc-lambda-bridge new orders --proto {proto} --language {language}", tmp_path, environment)
    if language == "rust":
        (tmp_path / "orders/target").symlink_to(cargo_target)

    printed = [run(command, tmp_path / "orders", environment) for command in commands]
    assert passed in printed[-1]
    assert "warning" not in printed[-1]
