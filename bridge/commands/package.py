"""`package NAME|DIR`: makes a function's zip, or the folder from which its image is built."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from bridge.commands.failure import CommandFailed
from bridge.commands.own_bridge import base_config
from bridge.commands.progress import progress_bar
from bridge.config.load import FILE_NAME
from bridge.config.problems import did_you_mean
from bridge.config.schema import FunctionConfig
from bridge.emulator.instances.environment import NODE_RUNTIME, function_side, is_node
from bridge.packaging.build import build
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.interpreter import ask_interpreter
from bridge.packaging.machine import Machine
from bridge.packaging.recipe import PYTHONS, Built, Form, FunctionSide, Language, PythonVersion, Recipe

DEFAULT_PYTHON: PythonVersion = (3, 13)
"""That of the templates in deploy/, and of those that `new` writes."""
_OUT = "dist"
_USUAL_HANDLERS = (
    ("app.py", "app.handler"),
    ("function.py", "function.handler"),
    ("lambda_function.py", "lambda_function.lambda_handler"),
    ("index.js", "index.handler"),
    ("index.mjs", "index.handler"),
    ("index.cjs", "index.handler"),
)
"""What a folder's handler is if nothing says so: by the names that `new`, AWS's console and its examples give."""
_MB = 1e6
_version = re.compile(r"(?:python|cpython@?)?(\d+)\.(\d+)(?:\.\d+)?").fullmatch
_MAX_VERSION_FILE = 4096


def package(chosen: argparse.Namespace) -> int:
    """Make the package, and print what it is. Returns 0. Raises ConfigErrors and CommandFailed."""
    recipe = _recipe(chosen)
    with _ended_by_signals(), progress_bar() as progress:
        try:
            built = build(recipe, progress)
        except PackagingFailed as failed:
            raise CommandFailed(str(failed)) from failed
    print(_as_json(recipe, built) if chosen.output == "json" else _as_text(recipe, built))
    return 0


class _Terminated(BaseException):
    """SIGTERM or SIGHUP came. It passes all handlers of errors, so that everything is cleaned up on its way."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the signals that end a process end the block like an error. Afterwards the process ends by the signal."""

    def end(number: int, _: FrameType | None) -> None:
        for each in signals:  # a second one must not cut the cleaning short
            signal.signal(each, signal.SIG_IGN)
        ended.append(number)
        raise _Terminated

    ended: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    except _Terminated:
        pass
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if ended:
        signal.signal(ended[0], signal.SIG_DFL)
        os.kill(os.getpid(), ended[0])


# -- which function ----------------------------------------------------------------------------------------------------


def _recipe(chosen: argparse.Namespace) -> Recipe:
    config_file = _config_file(chosen)
    functions = base_config(config_file).functions
    function = functions.get(chosen.name) or _function_in(chosen.name, functions)
    if chosen.handler is not None:
        function = replace(function, handler=chosen.handler, command=None)
    language = _language(function)
    form = Form.IMAGE if chosen.image else Form.ZIP
    out = chosen.into or Path(_OUT, function.name if chosen.image else f"{function.name}.zip")
    return Recipe(
        name=function.name,
        folder=function.code.absolute(),
        language=language,
        form=form,
        machine=_machine(chosen.arch, function),
        python=_python(chosen.python, function, form) if language is Language.PYTHON else DEFAULT_PYTHON,
        out=Path(os.path.normpath(out.absolute())),
        ours=FunctionSide(function_side() / "lambda_fn", version("grpc-lambda-bridge"), NODE_RUNTIME.parent),
        handler=function.handler,
        is_web=function.web is not None,
        command=function.command or (),
        interpreter=str(function.python) if function.python is not None else None,
        env=function.env,
        include=(*function.package.include, *chosen.include),
        exclude=(*function.package.exclude, *chosen.exclude),
        requirements=_requirements(chosen.requirements),
        without=frozenset({config_file.absolute()} if config_file else ()),
        is_checked=not chosen.no_check,
    )


def _config_file(chosen: argparse.Namespace) -> Path | None:
    """Return the configuration: the one that is named, else that in the folder, else the usual one, if it is there."""
    named = chosen.config or os.environ.get("BRIDGE_CONFIG")
    if named:
        return Path(named)
    beside = Path(chosen.name, FILE_NAME)
    if beside.is_file():
        return beside
    return Path(FILE_NAME) if Path(FILE_NAME).exists() else None


def _function_in(name: str, functions: Mapping[str, FunctionConfig]) -> FunctionConfig:
    """Return the function of a folder: the configuration's, or one of which no more is known than its files."""
    folder = Path(name)
    if not folder.is_dir():
        meant = did_you_mean(name, functions)
        known = meant or (f": they are {', '.join(sorted(functions))}" if functions else ": there are none")
        raise CommandFailed(f"{name} is no folder and none of the configuration's `functions`{known}", exit_code=2)
    real = folder.resolve()
    there = [function for function in functions.values() if function.code.resolve() == real]
    if len(there) > 1:
        names = ", ".join(sorted(function.name for function in there))
        raise CommandFailed(f"the code of several functions is in {name}: name one of {names}", exit_code=2)
    return there[0] if there else _unnamed(real)


def _unnamed(folder: Path) -> FunctionConfig:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.name).strip("-")[:64] or "function"
    if (folder / "bootstrap").is_file():
        return FunctionConfig(name, folder, command=("./bootstrap",))
    handler = next((usual for file, usual in _USUAL_HANDLERS if (folder / file).is_file()), None)
    return FunctionConfig(name, folder, handler=handler)


def _language(function: FunctionConfig) -> Language:
    if function.command is not None:
        return Language.PROGRAM
    if function.web is not None or is_node(function):
        return Language.NODE
    if function.handler is not None or any(function.code.glob("*.py")):
        return Language.PYTHON
    if (function.code / "package.json").is_file():
        return Language.NODE
    raise CommandFailed(
        f"{function.code} has neither a module in Python, nor a package.json, nor a bootstrap: if it is one, name"
        " its handler with --handler",
        exit_code=2,
    )


def _machine(arch: str | None, function: FunctionConfig) -> Machine:
    # Web Functions run on arm64 alone. What else is said of the architecture is AWS's default.
    return Machine(arch or ("x86_64" if function.web is None else "arm64"))


def _requirements(file: Path | None) -> Path | None:
    if file is not None and not file.is_file():
        raise CommandFailed(f"{file}: no such file", exit_code=2)
    return None if file is None else file.absolute()


# -- the version of Python ---------------------------------------------------------------------------------------------


def _python(named: str | None, function: FunctionConfig, form: Form) -> PythonVersion:
    """Return the version that runs the function: as the flag says, else the file `.python-version`, else that of the
    interpreter that runs it locally, if one is named.
    """
    file = function.code / ".python-version"
    if named is not None:
        found, where = _parsed(named), "--python"
    elif file.is_file():
        found, where = _parsed(_first_line(file)), str(file)
    elif function.python is not None:
        where = f"functions.{function.name}.python"
        asked = ask_interpreter(str(function.python), function.code)
        found = None if asked is None else asked.version
    else:
        return DEFAULT_PYTHON
    if found is None or found < PYTHONS[0] or (form is Form.ZIP and found not in PYTHONS):
        known = ", ".join("{}.{}".format(*each) for each in PYTHONS)
        raise CommandFailed(f"{where}: names no Python that AWS has a runtime for: choose one of {known}", exit_code=2)
    return found


def _parsed(text: str) -> PythonVersion | None:
    found = _version(text.strip())
    return (int(found[1]), int(found[2])) if found else None


def _first_line(file: Path) -> str:
    with file.open(errors="replace") as opened:
        lines = opened.read(_MAX_VERSION_FILE).splitlines()
    return next((line for line in lines if line.strip() and not line.startswith("#")), "")


# -- what was made -----------------------------------------------------------------------------------------------------


def _as_json(recipe: Recipe, built: Built) -> str:
    return json.dumps(
        {
            "path": str(built.path),
            "form": recipe.form.value,
            "function": recipe.name,
            "runtime": recipe.runtime,
            "architecture": recipe.machine.value,
            "handler": recipe.handler,
            "files": built.files,
            "unzipped": built.unzipped,
            "zipped": built.packed,
            "code_sha256": built.sha256,
            "largest": [{"folder": name, "bytes": size} for name, size in built.largest],
            "dependencies": list(built.dependencies),
            "checked": built.checked,
            "notes": list(built.notes),
        },
        indent=2,
    )


def _as_text(recipe: Recipe, built: Built) -> str:
    try:
        shown = built.path.relative_to(Path.cwd())
    except ValueError:
        shown = built.path
    size = f"{built.unzipped / _MB:.1f} MB"
    sizes = (
        f"{size} in {built.files} files" if built.packed is None else f"{built.packed / _MB:.1f} MB, {size} unzipped"
    )
    lines = [f"{shown}: {sizes}, for {recipe.runtime} on {recipe.machine.value}"]
    if built.dependencies:
        lines.append(f"  with {', '.join(built.dependencies)}")
    if built.checked:
        lines.append(f"  checked: {built.checked}")
    lines += [f"  {note}" for note in built.notes]
    if recipe.form is Form.IMAGE:
        platform = {Machine.X86_64: "linux/amd64", Machine.ARM64: "linux/arm64"}[recipe.machine]
        words = ("docker", "build", "--platform", platform, "--provenance=false", "-t", recipe.name.lower(), str(shown))
        lines.append(f"Next: {shlex.join(words)}")
    return "\n".join(lines)
