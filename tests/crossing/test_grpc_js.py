"""@grpc/grpc-js, unmodified, through the bridge: node/client.js does the calls and tells what it saw."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.bridge_process import RunningBridge
from tests.support.clients import node_program, run

pytestmark = [pytest.mark.clients, pytest.mark.slow]


@pytest.fixture(scope="module")
def seen(bridge: RunningBridge) -> dict[str, Any]:
    done = run([*node_program("client.js"), bridge.address])
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line["value"] for line in lines}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("unary", "Hello, js!"),
        ("initial", "one"),
        ("trailing", [0, 255]),
        ("error", {"code": 5, "details": "gone"}),
        ("deadline", 4),
        ("server_stream", {"texts": ["s", "s", "s"], "code": 0}),
        ("failing_stream", {"texts": ["s"], "code": 10}),
        ("bidi", {"texts": ["a", "b"], "code": 0}),
    ],
)
def test_grpc_js(seen: dict[str, Any], what: str, expected: object) -> None:
    """What grpc-js sees is what the function said."""
    assert expected == seen[what]
