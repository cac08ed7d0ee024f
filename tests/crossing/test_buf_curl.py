"""`buf curl --protocol grpc`, with reflection, through the bridge."""

from __future__ import annotations

import json

import pytest

from tests.support.bridge_process import RunningBridge
from tests.support.clients import node_binary, run

pytestmark = [pytest.mark.clients, pytest.mark.slow]


def buf_curl(bridge: RunningBridge, method: str, message: str) -> tuple[int, str, str]:
    command = [node_binary("buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    done = run([*command, "-d", message, f"http://{bridge.address}/{method}"])
    return done.returncode, done.stdout, done.stderr


def test_a_call_is_answered(bridge: RunningBridge) -> None:
    """Types by reflection, a call, an answer."""
    code, out, err = buf_curl(bridge, "helloworld.Greeter/SayHello", '{"name": "buf"}')

    assert (0, {"message": "Hello, buf!"}) == (code, json.loads(out)), err


def test_an_error_comes_with_its_code_and_message(bridge: RunningBridge) -> None:
    """The function's NOT_FOUND is buf's not_found."""
    code, _, err = buf_curl(bridge, "dev.Echo/Fail", '{"code": 5, "message": "gone"}')

    assert 0 != code
    assert {"code": "not_found", "message": "gone"} == {key: json.loads(err)[key] for key in ("code", "message")}


def test_a_server_stream_comes_whole(bridge: RunningBridge) -> None:
    """Three messages in order."""
    code, out, err = buf_curl(bridge, "dev.Echo/ServerStream", '{"text": "x", "count": 3}')

    assert 0 == code, err
    assert 3 == out.count('"text": "x"') + out.count('"text":"x"')
