"""`completion SHELL`: a script with which a shell completes commands, flags, services and methods.

The script asks `grpc-lambda-bridge __complete LINE` for the words that may stand at the end of the line. Services and
methods are those of the server at --to, or of the files that are named. If nobody answers, they are those of the
configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.config.schema import Config

_SECONDS = 2.0
"""How long the server may take. Somebody waits at the keyboard."""
_OF_FUNCTIONS = ("invoke", "package")
"""The commands whose first word is a function of the configuration."""
_WITH_METHODS = 1
"""If so many services match, their methods are offered, too."""

_BASH = """\
# eval "$(grpc-lambda-bridge completion bash)"
_grpc_lambda_bridge() {
    local IFS=$'\\n'
    COMPREPLY=($(grpc-lambda-bridge __complete "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -F _grpc_lambda_bridge grpc-lambda-bridge
"""

_ZSH = """\
# eval "$(grpc-lambda-bridge completion zsh)"
_grpc_lambda_bridge() {
    local -a found
    found=(${(f)"$(grpc-lambda-bridge __complete "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    if (( ! $#found )); then
        _files
    elif [[ $#found == 1 && $found[1] == */ ]]; then
        compadd -S '' -- $found
    else
        compadd -- $found
    fi
}
compdef _grpc_lambda_bridge grpc-lambda-bridge
"""

_FISH = """\
# grpc-lambda-bridge completion fish | source
complete -c grpc-lambda-bridge -a '(grpc-lambda-bridge __complete (commandline -cp) 2>/dev/null)'
"""

SCRIPTS: Mapping[str, str] = MappingProxyType({"bash": _BASH, "zsh": _ZSH, "fish": _FISH})


def completion(chosen: argparse.Namespace) -> int:
    """Print the script of a shell. Returns 0."""
    print(SCRIPTS[chosen.shell], end="")
    return 0


def complete(line: str, commands: Mapping[str, argparse.ArgumentParser]) -> list[str]:
    """Return the words that may stand at the end of the line. `commands` are the parsers by name."""
    try:
        words = shlex.split(line)
    except ValueError:
        return []  # inside quotes
    if not line or line[-1].isspace():
        words.append("")
    _, *before, current = words if len(words) > 1 else ("", *words)
    if not before:
        return _beginning(current, commands)
    command = commands.get(before[0])
    if command is None:
        return []
    flags = {flag: action for action in command._actions for flag in action.option_strings}  # noqa: SLF001 - argparse has no public list
    awaiting = flags.get(before[-1])
    if awaiting is not None and awaiting.nargs != 0:
        return _beginning(current, map(str, awaiting.choices or ()))
    if current.startswith("-"):
        return _beginning(current, flags)
    return _positional(command, before, current)


def _beginning(current: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(current)]


def _positional(command: argparse.ArgumentParser, before: list[str], current: str) -> list[str]:
    if before[0] == "completion":
        return _beginning(current, SCRIPTS)
    if before[0] in _OF_FUNCTIONS:
        chosen = _parsed(command, before[1:], "name")
        return [] if chosen is None or chosen.name is not None else _beginning(current, _functions(chosen))
    if before[0] != "call":
        return []
    chosen = _parsed(command, before[1:], "method")
    if chosen is None or chosen.argument is not None:
        return []
    match chosen.method:
        case None:
            found = _names(chosen, lambda services, methods_of: _methods(current, services, methods_of))
            return [*_beginning(current, ("list", "describe")), *found]
        case "list" | "describe":
            return _beginning(current, _names(chosen, lambda services, _: services))
        case _:
            return []


def _parsed(command: argparse.ArgumentParser, words: list[str], first: str) -> argparse.Namespace | None:
    """Read the words that are complete. None if they are wrong. `first`: the name of the first positional argument."""
    positional = next(action for action in command._actions if action.dest == first)  # noqa: SLF001 - as above
    positional.nargs = "?"  # it may be what is being written
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return command.parse_intermixed_args(words)
    except SystemExit:
        return None


_MethodsOf = Callable[[str], Iterable[str]]


def _methods(current: str, services: Iterable[str], methods_of: _MethodsOf) -> list[str]:
    service, slash, _ = current.partition("/")
    matching = [name for name in services if (name == service if slash else name.startswith(current))]
    if len(matching) > _WITH_METHODS:
        return [f"{name}/" for name in matching]
    return [full for name in matching for full in _beginning(current, (f"{name}/{each}" for each in methods_of(name)))]


def _names(chosen: argparse.Namespace, choose: Callable[[list[str], _MethodsOf], list[str]]) -> list[str]:
    from bridge.commands.call import named_files
    from bridge.commands.call_address import Security
    from bridge.commands.call_server import connected
    from bridge.commands.call_symbols import ReflectionSource, SymbolSource
    from bridge.commands.failure import CommandFailed

    def of(symbols: SymbolSource) -> list[str]:
        return choose(
            symbols.services(),
            lambda service: (
                method.name for method in symbols.describing(service).pool.FindServiceByName(service).methods
            ),
        )

    try:
        files = named_files(chosen)
        if files is not None:
            return of(files)
        if chosen.target is None:
            with connected(chosen.to or "localhost:50051", Security.of(chosen)) as server:
                return of(ReflectionSource(server, (), seconds=_SECONDS))
    except CommandFailed:
        pass
    return choose(_configured(chosen), lambda _: ())


def _configured(chosen: argparse.Namespace) -> list[str]:
    """Return the services that the configuration names in full."""
    config = _config(chosen)
    return [] if config is None else sorted({key.partition("/")[0] for key in config.services if "*" not in key})


def _functions(chosen: argparse.Namespace) -> list[str]:
    """Return the functions of the configuration."""
    config = _config(chosen)
    return [] if config is None else sorted(config.functions)


def _config(chosen: argparse.Namespace) -> Config | None:
    from bridge.config.load import find_config, load
    from bridge.config.problems import ConfigErrors

    try:
        return load(find_config(chosen.config, os.environ, Path.cwd()), environ=os.environ)
    except ConfigErrors:
        return None
