"""How the values of a local function are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bridge.config.element import Element
from bridge.config.problems import Refused
from bridge.config.values import TEXTS, file, pattern, shaped, text

HANDLER = "a handler: module.attribute"
handler = pattern(r"[!-~]{1,253}", HANDLER)
"""A program that reads _HANDLER gives it a meaning of its own. `is_handler` tells what other functions take."""
is_handler = re.compile(r"[\w./-]{1,126}\.\w{1,126}", re.ASCII).fullmatch
_variable = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch

_SET_BY_LAMBDA = frozenset(
    {"AWS_LAMBDA_HTTP_ENDPOINT", "_HANDLER", "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT"}
)


def command(element: Element) -> tuple[str, ...]:
    """Return a program and its arguments. A program with a slash in it is found from the function's folder."""
    if not element.is_list:
        raise element.refuse(f'expected a list such as ["./bootstrap"], found {element.found}')
    words = tuple(item.text() for item in element.items())
    if not words or not words[0]:
        raise element.refuse("expected a program, and its arguments after it")
    if any("\0" in word for word in words):
        raise element.refuse("an argument holds no NUL")
    return words


def program(element: Element) -> Path:
    """Return a file, or a bare name to look for on PATH."""
    name = text(element)
    if "/" not in name and "\0" not in name:
        return Path(name)
    return file(element)


def variables(element: Element) -> Mapping[str, str]:
    """Return the environment variables of a function. Raises Refused for names that cannot be set."""
    found: dict[str, str] = {}
    for name, value in element.hidden().keys().items():
        try:
            if not _variable(name):
                raise value.refuse("not the name of a variable")
            if name in _SET_BY_LAMBDA:
                raise value.refuse("the local Lambda sets this variable itself")
            found[name] = value.text('text ("" for none)')
            if "\0" in found[name]:
                raise value.refuse("a variable holds no NUL")
        except Refused as refused:
            element.document.note(refused)
    return found


def file_patterns(element: Element) -> tuple[str, ...]:
    """Return a list of patterns of files, as `.gitignore` has them. Raises Refused."""
    return tuple(map(_file_pattern, element.items()))


def _file_pattern(element: Element) -> str:
    from bridge.source_files.patterns import FilePatterns  # few configurations have any

    found = text(element)
    try:
        FilePatterns([found])
    except ValueError as error:
        raise element.refuse(
            f"expected a pattern as .gitignore has them, such as *.py, found {element.found}"
        ) from error
    return found


shaped(file_patterns, {"type": "array", "items": {"type": "string"}})
shaped(command, {"type": "array", "items": {"type": "string"}, "minItems": 1})
shaped(variables, TEXTS)
