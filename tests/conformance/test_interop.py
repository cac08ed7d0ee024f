"""gRPC's interop cases with grpc-go's own client: through a grpc:// target and with functions in full duplex all of
them, through Invoke what its nature allows.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.clients import ROOT, run, tool
from tests.support.programs import free_port, wait_until_listening

pytestmark = [pytest.mark.clients, pytest.mark.slow]

SERVICE = "grpc.testing.TestService"

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
)

LEFT_OUT = {
    "pick_first_unary": "grpc-go's own server gives no server id, which the case compares",
    "orca_per_rpc": "grpc-go's own server gives no load reports",
    "orca_oob": "grpc-go's own server gives no load reports",
    "compute_engine_creds": "needs Google's credentials",
    "service_account_creds": "needs Google's credentials",
    "jwt_token_creds": "needs Google's credentials",
    "per_rpc_creds": "needs Google's credentials",
    "oauth2_auth_token": "needs Google's credentials",
    "google_default_credentials": "needs Google's credentials",
    "compute_engine_channel_credentials": "needs Google's credentials",
}
"""Cases that the client knows and nobody can pass here."""

NEED_FULL_DUPLEX = {
    "ping_pong": "the client waits for each answer before it sends on",
    "cancel_after_first_response": "the client waits for an answer before it ends its side",
    "custom_metadata": "its second half is a full-duplex call",
}
"""Cases that no function can pass over Invoke: Lambda takes its input whole."""


def play(case: str, bridge: RunningBridge) -> subprocess.CompletedProcess[str]:
    host, _, port = bridge.address.rpartition(":")
    return run(
        [
            tool("grpc-go-interop-client"),
            f"-server_host={host}",
            f"-server_port={port}",
            f"-test_case={case}",
        ]
    )


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """A bridge before grpc-go's interop server."""
    command = tool("grpc-go-interop-server")
    port = free_port()
    with subprocess.Popen([command, f"-port={port}"], stderr=subprocess.DEVNULL) as server:
        try:
            wait_until_listening(port, server)
            services = {SERVICE: f"grpc://127.0.0.1:{port}"}
            with running_bridge(tmp_path_factory.mktemp("native"), {"services": services}) as bridge:
                yield bridge
        finally:
            server.terminate()


def _function(**keys: Any) -> dict[str, Any]:
    """The configuration of a bridge before the interop service as a function."""
    return {
        "services": {SERVICE: {"target": "local:interop", "half_close": "500ms", **keys}},
        "functions": {
            "interop": {
                "handler": "tests.support.interop_function.handler",
                "code": str(ROOT),
                "timeout": "60s",
            }
        },
    }


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    with running_bridge(tmp_path_factory.mktemp("function"), _function()) as bridge:
        yield bridge


@pytest.fixture(scope="module", params=["auto", "always"])
def duplex(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """The same function, which may connect to the bridge."""
    config = _function(duplex={"use": request.param}) | {"duplex": {"listen": f"127.0.0.1:{free_port()}"}}
    with running_bridge(tmp_path_factory.mktemp("duplex"), config) as bridge:
        yield bridge


@pytest.mark.parametrize("case", CASES)
def test_over_native_grpc(native: RunningBridge, case: str) -> None:
    played = play(case, native)

    assert 0 == played.returncode, played.stderr


@pytest.mark.parametrize("case", [case for case in CASES if case not in NEED_FULL_DUPLEX])
def test_over_invoke(function: RunningBridge, case: str) -> None:
    played = play(case, function)

    assert 0 == played.returncode, played.stderr


@pytest.mark.parametrize("case", CASES)
def test_in_full_duplex(duplex: RunningBridge, case: str) -> None:
    played = play(case, duplex)

    assert 0 == played.returncode, played.stderr


@pytest.mark.parametrize("case", NEED_FULL_DUPLEX)
def test_what_invoke_cannot_carry_says_so(function: RunningBridge, case: str) -> None:
    """Instead of hanging, the client learns what it needs."""
    played = play(case, function)

    assert 0 != played.returncode
    assert "full duplex needs a grpc:// target" in played.stderr


def test_every_case_of_the_client_is_accounted_for() -> None:
    """A case that a later client brings shows up here."""
    listed = run([tool("grpc-go-interop-client"), "-help"]).stderr
    start = listed.index("Valid options are:")
    lines = listed[start : listed.index("(default", start)].splitlines()[1:]
    known = {line.partition(":")[0].strip() for line in lines if ":" in line}

    assert {*CASES, *LEFT_OUT} - {"rpc_soak", "channel_soak"} == known
