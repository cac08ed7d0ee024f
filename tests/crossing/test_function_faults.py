"""Functions that fail: what each caller gets, through the bridge. The table of docs/faults.md, row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_stream

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs/faults.md"

SERVICER = """
import os, sys, threading, time
import grpc
from lambda_fn import LambdaServer
from tests.support.behaviours import handlers

def raises(request, context):
    raise ValueError("boom")

def returns_text(request, context):
    return "text"

def returns_none(request, context):
    return None

def exits(request, context):
    sys.exit(3)

def exits_at_once(request, context):
    os._exit(3)

def blocks(request, context):
    time.sleep(3)
    print("blocks returns", flush=True)
    return b""

def leaks(request, context):
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return str(threading.active_count()).encode()

def stream_raises(request, context):
    yield b"1"
    raise ValueError("midway")

def stream_exits(request, context):
    yield b"1"
    time.sleep(0.2)
    os._exit(3)

def works(request, context):
    return b"fine"

METHODS = {
    "Raises": ("unary_unary", raises), "ReturnsText": ("unary_unary", returns_text),
    "ReturnsNone": ("unary_unary", returns_none),
    "Exits": ("unary_unary", exits), "ExitsAtOnce": ("unary_unary", exits_at_once), "Blocks": ("unary_unary", blocks),
    "Leaks": ("unary_unary", leaks), "StreamRaises": ("unary_stream", stream_raises),
    "StreamExits": ("unary_stream", stream_exits),
    "Works": ("unary_unary", works),
}
server = LambdaServer()
server.add_registered_method_handlers("test.Test", handlers(METHODS))
handler = server.handler
"""

PLAIN = """
import os, sys, time

def raises(event, context):
    raise ValueError("boom")

def exits(event, context):
    sys.exit(3)

def blocks(event, context):
    time.sleep(30)

def returns_nothing(event, context):
    return None

def returns_text(event, context):
    return "text"

def returns_number(event, context):
    return {"statusCode": "many"}

def returns_object(event, context):
    return object()

def returns_html(event, context):
    return {"statusCode": 200, "headers": {"content-type": "text/html"}, "body": "<p>", "isBase64Encoded": False}
"""

PLAIN_HANDLERS = (
    "raises",
    "exits",
    "blocks",
    "returns_nothing",
    "returns_text",
    "returns_number",
    "returns_object",
    "returns_html",
)

STATUSES = {
    "Raises": ("UNKNOWN", "Exception calling application: boom"),
    "ReturnsText": ("INTERNAL", "Failed to serialize response!"),
    "ReturnsNone": ("INTERNAL", "Failed to serialize response!"),
    "Exits": ("INTERNAL", "Runtime"),
    "ExitsAtOnce": ("INTERNAL", "Runtime"),
    "Blocks": ("DEADLINE_EXCEEDED", ""),
    "StreamRaises": ("UNKNOWN", "Exception iterating responses: midway"),
    "StreamExits": ("INTERNAL", "Runtime"),
    "Leaks": ("OK", ""),
}
"""Method of the servicer: code, and what the message has in it."""

PLAIN_STATUSES = {
    "raises": ("INTERNAL", "ValueError: boom"),
    "exits": ("INTERNAL", "Runtime"),
    "blocks": ("DEADLINE_EXCEEDED", ""),
    "returns_nothing": ("INTERNAL", ""),
    "returns_text": ("INTERNAL", ""),
    "returns_number": ("INTERNAL", ""),
    "returns_object": ("INTERNAL", "Runtime.MarshalError"),
    "returns_html": ("UNKNOWN", ""),
}


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("faults")
    (folder / "servicer.py").write_text(SERVICER)
    (folder / "plain.py").write_text(PLAIN)
    root = str(Path(__file__).parents[2])
    settings: dict[str, Any] = {"code": str(folder), "timeout": "2s", "env": {"PYTHONPATH": root}}
    functions = {"servicer": {"handler": "servicer.handler", **settings}}
    services = {"test.Test": "local:servicer"}
    for name in PLAIN_HANDLERS:
        functions[name.replace("_", "-")] = {"handler": f"plain.{name}", **settings}
        services[f"plain.Test/{name}"] = f"local:{name.replace('_', '-')}"
    with running_bridge(folder, {"services": services, "functions": functions}) as running:
        yield running


def outcome(bridge: RunningBridge, method: str, timeout: float = 10) -> tuple[str, str, list[bytes]]:
    """Code, message, and the messages that came."""
    with grpc.insecure_channel(bridge.address) as channel:
        call: Any = unary_stream(channel, method)(b"", timeout=timeout)
        messages: list[bytes] = []
        with suppress(grpc.RpcError):
            messages.extend(call)
        return call.code().name, call.details(), messages


@pytest.mark.parametrize("method", STATUSES)
def test_a_servicer_that_fails(bridge: RunningBridge, method: str) -> None:
    """Its caller has a status that says so, and the next call is served."""
    code, text = STATUSES[method]
    found, message, _ = outcome(bridge, f"/test.Test/{method}", 1 if method == "Blocks" else 10)
    after = outcome(bridge, "/test.Test/Works")

    assert (code, True) == (found, text in message), message
    assert ("OK", [b"fine"]) == (after[0], after[2])


@pytest.mark.parametrize("name", PLAIN_STATUSES)
def test_a_handler_that_fails(bridge: RunningBridge, name: str) -> None:
    """A function without LambdaServer: what Lambda itself makes of it, as a status."""
    code, text = PLAIN_STATUSES[name]
    found, message, _ = outcome(bridge, f"/plain.Test/{name}")

    assert (code, True) == (found, text in message), message


def test_a_blocked_method_is_answered_at_the_deadline(bridge: RunningBridge) -> None:
    """Not when it returns."""
    before = _returned(bridge)
    code, _, _ = outcome(bridge, "/test.Test/Blocks", timeout=0.5)
    answered = _returned(bridge)

    assert "DEADLINE_EXCEEDED" == code
    assert before == answered


def _returned(bridge: RunningBridge) -> int:
    """How often the blocking method has returned so far."""
    return sum("blocks returns" in line for line in tuple(bridge.lines))


def test_the_functions_own_time_is_a_deadline_too(bridge: RunningBridge) -> None:
    """LambdaServer answers shortly before Lambda would end the instance: it is kept."""
    code, message, _ = outcome(bridge, "/test.Test/Blocks")

    assert ("DEADLINE_EXCEEDED", "the function's time is over (Lambda timeout)") == (code, message)


def test_the_table_in_the_docs_is_this_one() -> None:
    """Each row of docs/faults.md names a fault of this file and its code."""
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `([A-Z_]+)`", DOCS.read_text(), re.MULTILINE))

    assert {name: code for name, (code, _) in (STATUSES | PLAIN_STATUSES).items()} == rows
