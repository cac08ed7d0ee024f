"""docs/statuses.md has every message with which the bridge ends a call, with its status, and no other messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.rpc.errors import HttpRefusal, QueueRefused, ServerReset, Throttled
from tests.support.messages import BRIDGE, CLASSES, messages

PAGE = (Path(__file__).parents[1] / "docs" / "statuses.md").read_text()
MESSAGES = messages()
CODES_THAT_VARY = (HttpRefusal, QueueRefused, ServerReset, Throttled)


def rows() -> Iterator[tuple[list[str], str, str]]:
    """The messages, the status and the cure of each row."""
    for first, status, cure in re.findall(
        r"^\| (``? ?.*?`) \| (.*?) \| (.*?) \|$", PAGE.partition("## The request")[2], re.MULTILINE
    ):
        yield [(double or single) for double, single in re.findall(r"`` (.*?) ``|`([^`]+)`", first)], status, cure


SHOWN = {message: status for shown, status, _ in rows() for message in shown}


def literals() -> str:
    """All texts of the bridge's code, in order, with `…` for values."""
    nodes = (node for file in BRIDGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text())))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_message_is_on_the_page() -> None:
    """A new message needs a row that says what to do. `…` stands for each value in it."""
    assert set() == set(MESSAGES) - set(SHOWN)


def test_every_message_of_the_page_is_in_the_code() -> None:
    """Those that a class of errors gets directly are compared whole. Of the others, each part must be there."""
    known = literals()
    others = set(SHOWN) - set(MESSAGES)
    parts = {part for message in others for part in message.split("…") if len(part.strip()) > 3}

    assert len(others) < len(SHOWN) / 10
    assert [] == [part for part in parts if part not in known]


@pytest.mark.parametrize("message", sorted(set(MESSAGES) & set(SHOWN)))
def test_the_status_is_that_of_the_error(message: str) -> None:
    for kind in (CLASSES[name] for name in MESSAGES[message]):
        assert kind.code.name in SHOWN[message] or issubclass(kind, CODES_THAT_VARY)


def test_every_row_says_what_to_do() -> None:
    assert [] == [shown for shown, _, cure in rows() if len(cure.split()) < 5]
