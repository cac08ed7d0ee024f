"""Look at the local functions without running them. Are their files there? Can Python read them? Do they have what
`handler` names? May they be executed?
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from bridge.config.problems import Place, Problem, did_you_mean
from bridge.config.schema import Config, FunctionConfig

_MAX_SOURCE = 16 << 20
_JAVASCRIPT = (".js", ".mjs", ".cjs")
_OTHER_LANGUAGES = (".ts", ".rb")
"""Which no runtime of the local Lambda runs as they are."""


def problems_of_functions(config: Config, file: str) -> Iterator[Problem]:
    """Yield what keeps each function from starting. `file` is the configuration's name in messages."""
    for function in config.functions.values():
        for key, message in _problems(function):
            if isinstance(message, Problem):
                yield message
                continue
            places = function.places
            place = places.get(key) or places.get(key.partition(".")[0]) or places.get("") or Place(file)
            yield Problem.at(place, message)


def _problems(function: FunctionConfig) -> Iterator[tuple[str, str | Problem]]:
    command = function.command if function.web is None else function.web.command
    if command:
        key = "command" if function.web is None else "web.command"
        yield from ((key, message) for message in _of_program(command[0], function))
    elif function.handler is not None:
        yield from _of_runtime(function.handler, function)


def _of_runtime(handler: str, function: FunctionConfig) -> Iterator[tuple[str, str | Problem]]:
    from bridge.emulator.instances.debugging import missing_debugpy
    from bridge.emulator.instances.environment import is_node

    if is_node(function):
        messages = (*_of_program("node", function), *_of_script(handler, function))
        yield from (("handler", message) for message in messages)
    else:
        if function.python is not None:
            yield from (("python", message) for message in _of_program(str(function.python), function))
        elif function.debug is not None and _module_file(["debugpy"], function) is None:
            yield "debug", missing_debugpy(function)
        yield from (("handler", message) for message in _of_handler(handler, function))


# -- programs ----------------------------------------------------------------------------------------------------------


def _of_program(name: str, function: FunctionConfig) -> Iterator[str]:
    """Yield why a program cannot be started. One with a slash is found from the function's folder."""
    if "/" not in name:
        search = function.env.get("PATH") or os.environ.get("PATH", os.defpath)
        if shutil.which(name, path=search) is None:
            yield f"no program {name} on PATH; a program in the function's folder is ./{name}"
        return
    path = function.code / name
    if not path.exists():
        yield f"{path} is not there{_nearest_file(path)}"
    elif path.is_dir():
        yield f"{path} is a folder, not a program"
    elif not os.access(path, os.X_OK):
        yield f"{path} is not executable: chmod +x {path}"
    else:
        yield from _of_interpreter(path)


def _of_interpreter(path: Path) -> Iterator[str]:
    """Yield a message if the program is a script whose first line names an interpreter that is not there."""
    try:
        with path.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return
    if not first.startswith(b"#!"):
        return
    words = first[2:].decode("utf-8", "replace").split(" ")
    interpreter = next((word.strip() for word in words if word.strip()), "")
    if first.rstrip(b"\n").endswith(b"\r"):
        yield f"{path} has line ends of Windows, so the system looks for a program {interpreter!r}; store it with \\n"
    elif interpreter and not Path(interpreter).exists():
        yield f"{path} begins with #!{interpreter}, which is not there"


def _nearest_file(path: Path) -> str:
    try:
        names = sorted(other.name for other in path.parent.iterdir())
    except OSError:
        return ""
    return did_you_mean(path.name, names)


# -- handlers in JavaScript --------------------------------------------------------------------------------------------


def _of_script(handler: str, function: FunctionConfig) -> Iterator[str]:
    """Yield a message if no script is there. Its exports are not looked at."""
    folder, _, name = handler.rpartition("/")
    stem = function.code / folder / name.partition(".")[0]
    if not any(stem.with_name(stem.name + ending).is_file() for ending in _JAVASCRIPT):
        near = _nearest_file(stem.with_name(f"{stem.name}.js"))
        yield f"there is no script {stem}.js, .mjs or .cjs{near}"


# -- handlers in Python ------------------------------------------------------------------------------------------------


def _of_handler(handler: str, function: FunctionConfig) -> Iterator[str | Problem]:
    module, _, attribute = handler.rpartition(".")
    parts = module.replace("/", ".").split(".")
    found = _module_file(parts, function)
    if found is None:
        if function.python is None:
            yield _no_module(parts, function)
        return
    source = _source_of(found)
    if source is None:
        return
    try:
        tree = ast.parse(source, str(found))
    except (SyntaxError, ValueError) as error:
        if function.python is None:  # another Python may have another grammar
            yield _of_syntax(found, error)
        return
    names = set(_names_in(tree.body))
    if attribute not in names and not _is_open(tree):
        yield f"{found} defines no {attribute}{did_you_mean(attribute, sorted(names))}"


def _module_file(parts: list[str], function: FunctionConfig) -> Path | None:
    """Return the file of a module, found without importing its packages. None: not there, or not in Python."""
    search: list[str] | None = [str(function.code), *([] if function.python else sys.path)]
    for index, part in enumerate(parts):
        spec = PathFinder.find_spec(part, search)
        if spec is None:
            return None
        if index == len(parts) - 1:
            is_source = spec.origin is not None and spec.origin.endswith(".py")
            return Path(spec.origin) if is_source and spec.origin is not None else None
        search = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
        if search is None:
            return None
    return None


def _no_module(parts: list[str], function: FunctionConfig) -> str:
    stem = function.code.joinpath(*parts)
    for suffix in (*_JAVASCRIPT, *_OTHER_LANGUAGES):
        other = stem.with_name(stem.name + suffix)
        if other.exists():
            needed = "runtime: node" if suffix in _JAVASCRIPT else "command, a program that speaks the Runtime API"
            return f"{stem}.py is not there, and the handler is taken for Python; {other.name} needs {needed}"
    near = _nearest_file(stem.with_name(f"{stem.name}.py"))
    return f"there is no module {'.'.join(parts)}: {stem}.py is not there{near}"


def _source_of(path: Path) -> bytes | None:
    try:
        if path.stat().st_size > _MAX_SOURCE:
            return None
        return path.read_bytes()
    except OSError:
        return None


def _of_syntax(path: Path, error: SyntaxError | ValueError) -> Problem:
    if not isinstance(error, SyntaxError):
        return Problem(str(path), None, "", f"not Python: {error}")
    start = error.offset or 1
    end = error.end_offset if error.end_lineno == error.lineno and error.end_offset else start + 1
    return Problem(str(path), error.lineno, "", f"not Python: {error.msg}", (start, max(end, start + 1)))


def _names_in(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that the top level of a module binds, also inside if, try, with and loops."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((alias.asname or alias.name).partition(".")[0] for alias in aliases)
            case _:
                for node in ast.walk(statement):
                    match node:
                        case ast.Name(id=name, ctx=ast.Store()):
                            yield name
                        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                            yield name
                        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                            yield from ((alias.asname or alias.name).partition(".")[0] for alias in aliases)


def _is_open(tree: ast.Module) -> bool:
    """Whether the module may have names that are not written in it: by `import *`, `__getattr__`, globals() or exec."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                return True
            case ast.Name(id="globals" | "exec" | "setattr" | "vars"):
                return True
            case ast.FunctionDef(name="__getattr__") | ast.Global():
                return True
    return False
