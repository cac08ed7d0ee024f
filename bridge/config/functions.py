"""`functions`: what the local Lambda runs, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bridge.config.element import Element
from bridge.config.problems import Refused
from bridge.config.schema import FunctionConfig, FunctionUrl
from bridge.config.target import FUNCTION_NAME
from bridge.config.values import (
    Keys,
    boolean,
    choice,
    duration,
    file,
    folder,
    integer,
    optional,
    pattern,
    size,
    text,
)
from bridge.rpc.limits import MIB

_name = re.compile(FUNCTION_NAME).fullmatch
_handler = pattern(r"[\w./-]{1,126}\.\w{1,126}", "a handler: module.attribute")
_variable = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch

_LONGEST_RUN = 1800.0
"""Seconds: what AWS allows a synchronous invocation (AWS Lambda quotas, "Function timeout")."""

_SET_BY_LAMBDA = frozenset({"_HANDLER", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT"})


def read_functions(elements: Mapping[str, Element]) -> dict[str, FunctionConfig]:
    """All problems are noted in the document."""
    functions = {}
    for name, element in elements.items():
        try:
            functions[name] = _function(name, element)
        except Refused as refused:
            element.document.note(refused)
    return functions


def _function(name: str, element: Element) -> FunctionConfig:
    if not _name(name):
        raise element.refuse("a function's name is 1 to 64 of A-Z a-z 0-9 - _")
    keys = Keys.of(element, "functions")
    usual = FunctionConfig(name, element.document.folder)
    found = FunctionConfig(
        name=name,
        code=keys.take("code", folder, usual.code),
        handler=keys.take("handler", optional(_handler), None),
        command=keys.take("command", optional(_command), None),
        python=keys.take("python", optional(_program), None),
        runtime=keys.take("runtime", choice("lambda_fn", "awslambdaric"), usual.runtime),
        timeout=keys.take("timeout", duration(0.001, _LONGEST_RUN), usual.timeout),
        memory=keys.take("memory", size(MIB, 10_240 * MIB), usual.memory),
        concurrency=keys.take("concurrency", integer(1, 1000), usual.concurrency),
        env=keys.take("env", _env, usual.env),
        reload=keys.take("reload", boolean, usual.reload),
        url=keys.take("url", optional(_url), None),
    )
    keys.close()
    if ("handler" in keys) == ("command" in keys):
        raise element.refuse('needs either "handler" or "command"')
    if "command" in keys:
        for key in ("python", "runtime"):
            if key in keys:
                element.document.note(keys.elements[key].refuse("has no effect on a command"))
    return found


def _command(element: Element) -> tuple[str, ...]:
    """Return a program and its arguments. A program with a slash in it is found from the function's folder."""
    if not element.is_list:
        raise element.refuse(f'expected a list such as ["./bootstrap"], found {element.found}')
    words = tuple(item.text() for item in element.items())
    if not words or not words[0]:
        raise element.refuse("expected a program, and its arguments after it")
    if any("\0" in word for word in words):
        raise element.refuse("an argument holds no NUL")
    return words


def _program(element: Element) -> Path:
    """Return a file, or a bare name to look for on PATH."""
    name = text(element)
    if "/" not in name and "\0" not in name:
        return Path(name)
    return file(element)


def _env(element: Element) -> Mapping[str, str]:
    variables: dict[str, str] = {}
    for name, value in element.hidden().keys().items():
        try:
            if not _variable(name):
                raise value.refuse("not the name of a variable")
            if name in _SET_BY_LAMBDA:
                raise value.refuse("the local Lambda sets this variable itself")
            variables[name] = value.text('text ("" for none)')
            if "\0" in variables[name]:
                raise value.refuse("a variable holds no NUL")
        except Refused as refused:
            element.document.note(refused)
    return variables


def _url(element: Element) -> FunctionUrl:
    keys = Keys.of(element, "functions.url")
    usual = FunctionUrl()
    found = FunctionUrl(
        auth=keys.take("auth", choice("none", "iam"), usual.auth),
        invoke_mode=keys.take("invoke_mode", choice("buffered", "response_stream"), usual.invoke_mode),
    )
    keys.close()
    return found
