"""Web pages call a function at its URL: the clients that pages use, in headless Chromium, from a page of another
origin.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from lambda_fn.examples import echo_pb2
from tests.support.bridge_process import running_bridge
from tests.support.clients import node_program, run

pytestmark = [pytest.mark.clients, pytest.mark.slow]

PAGE = Path(__file__).parent / "browser"
CLIENTS = (
    "connect-web, Connect in JSON",
    "connect-web, Connect in protobuf",
    "connect-web, gRPC-Web",
    "grpc-web, text",
    "grpc-web, binary",
    "@improbable-eng/grpc-web",
)


def descriptors() -> bytes:
    """echo.proto as protoc hands it to plugins: with the JSON names, which Python's own copy leaves out."""
    file: Any = descriptor_pb2.FileDescriptorProto()
    echo_pb2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        described = echo_pb2.DESCRIPTOR.message_types_by_name[message.name]
        for field in message.field:
            field.json_name = described.fields_by_name[field.name].json_name
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


STREAMING = """
from lambda_fn import LambdaServer
from lambda_fn.examples import echo, echo_pb2_grpc

server = LambdaServer(stream_replies=True)
echo_pb2_grpc.add_EchoServicer_to_server(echo.Echo(), server)
handler = server.handler
"""
HANDLERS = {"buffered": "lambda_fn.examples.echo.handler", "response_stream": "streaming.handler"}


@pytest.fixture(scope="module", params=HANDLERS)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By client: what it saw of each call."""
    program = node_program("browser.js", folder=PAGE)
    echo = {
        "handler": HANDLERS[request.param],
        "timeout": "10s",
        "url": {"auth": "none", "invoke_mode": request.param},
    }
    config = {"services": {"dev.Echo": "local:echo"}, "functions": {"echo": echo}}
    folder = tmp_path_factory.mktemp("browsers")
    (folder / "streaming.py").write_text(STREAMING)
    with running_bridge(folder, config) as bridge:
        found = re.search(r"http://[\w.:]+/lambda-url/echo", "\n".join(bridge.lines))
        assert found is not None, bridge.lines
        done = run([*program, found[0]], text_in=b64encode(descriptors()).decode())
    assert 0 == done.returncode, done.stderr
    played: dict[str, Any] = json.loads(done.stdout)
    return played


@pytest.mark.parametrize("client", CLIENTS)
def test_a_page_calls_a_unary_method(seen: dict[str, Any], client: str) -> None:
    """After a preflight for its metadata; the reply's initial and trailing metadata are its to read."""
    assert ["héllo", "first", "last"] == seen[client]["unary"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_page_reads_a_stream(seen: dict[str, Any], client: str) -> None:
    """All messages, in order."""
    assert [0, 1, 2] == seen[client]["stream"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_page_learns_why_a_call_failed(seen: dict[str, Any], client: str) -> None:
    """Code and message."""
    assert [5, "gé ne"] == seen[client]["fail"]
