"""What modules import: no circles, and nothing heavy in a bridge that serves."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAVY = ("grpc", "grpc_tools", "h2", "botocore", "aiohttp", "opentelemetry")

SERVING = (
    "bridge.commands.serve",
    "bridge.commands.worker",
    "bridge.app",
    "bridge.targets.builder",
    "bridge.carriers.grpc.carrier",
)


def test_serving_loads_no_heavy_library() -> None:
    """Native targets among it: grpcio is for the command `call`."""
    program = f"import sys, {', '.join(SERVING)}; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == found.stdout.strip()


def _imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules that a module imports anywhere in its text: in functions and for types alone, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules.keys() or {node.module}
    return found & modules.keys()


def _modules(package: str) -> dict[str, Path]:
    """The modules of a package by name."""
    paths = [path for path in (ROOT / package).rglob("*.py") if "_pb2" not in path.name]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@pytest.mark.parametrize(("package", "at_least"), [("bridge", 100), ("lambda_fn", 50)])
def test_modules_of_a_package_import_each_other_in_no_circle(package: str, at_least: int) -> None:
    """A module can then be read, and changed, with nothing but what stands below it."""
    modules = _modules(package)
    order = TopologicalSorter({name: _imported(path, modules) - {name} for name, path in modules.items()})

    order.prepare()  # raises CycleError, which names the circle
    assert len(modules) > at_least


@pytest.mark.slow
@pytest.mark.parametrize("package", ["bridge", "lambda_fn"])
def test_importing_a_module_changes_no_signal(package: str) -> None:
    """Signals belong to the program. One that ignores SIGTERM passes that on to every process that it starts."""
    names = [name for name in _modules(package) if not name.endswith("__main__") and ".examples" not in name]
    program = (
        "import importlib, signal\n"
        "numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)\n"
        "before = [signal.getsignal(number) for number in numbers]\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    assert before == [signal.getsignal(number) for number in numbers], name\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
