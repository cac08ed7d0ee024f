"""The messages with which calls end, as they stand in the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bridge.aws import errors as aws_errors
from bridge.rpc import errors

BRIDGE = Path(__file__).parents[2] / "bridge"
CLASSES: Mapping[str, type[errors.RpcError]] = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.RpcError)
}


def messages() -> dict[str, set[str]]:
    """Return the names of the error classes by message. `…` stands for each value in a message.

    A message is the text with which a class of `bridge/rpc/errors.py` is called, or AWS's refusals of
    `bridge/aws/errors.py`. Texts that are made elsewhere are left out.
    """
    found: dict[str, set[str]] = {}
    for file in sorted(BRIDGE.rglob("*.py")):
        for text, name in _raised(ast.parse(file.read_text())):
            found.setdefault(text, set()).add(name)
    for kind, template in (*aws_errors._REFUSALS.values(), *aws_errors._OF_STATUS.values()):
        found.setdefault(_plain(re.sub(r"\{\w+\}", "…", template)), set()).add(kind.__name__)
    return found


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            text = _text(node.args[0])
            if name in CLASSES and re.search("[a-z]{2}", text):
                yield _plain(text), name


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(_text(each) for each in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
    return "…"


def _plain(text: str) -> str:
    return re.sub("…(…|\\s…)*", "…", text).strip()
