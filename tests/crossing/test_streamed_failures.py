"""Functions that fail while they stream, in the local Lambda: what came before is kept, and the status says what
happened.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_stream

pytestmark = pytest.mark.slow

FUNCTION = """
import http.client, json, os, time

host = os.environ["AWS_LAMBDA_RUNTIME_API"]
HEADERS = {
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Content-Type": "application/vnd.awslambda.http-integration-response",
    "Transfer-Encoding": "chunked",
}
HEAD = json.dumps({"statusCode": 200, "headers": {"content-type": "application/grpc-web+proto"}, "cookies": []})

def envelope(flags, data):
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data

def reply(method):
    if method == "CrashFirst":
        os._exit(1)
    yield HEAD.encode() + bytes(8)
    for message in (b"one", b"two"):
        yield envelope(0, message)
    if method == "Crash":
        time.sleep(0.2)
        os._exit(1)
    if method == "Hang":
        time.sleep(60)
    if method == "NoTrailers":
        return
    yield envelope(0x80, b"grpc-status:9\\r\\ngrpc-message:not%20now\\r\\nx-last:1\\r\\n")
    if method == "CrashLast":
        os._exit(1)

while True:
    connection = http.client.HTTPConnection(host)
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    response = connection.getresponse()
    method = json.loads(response.read())["rawPath"].rpartition("/")[2]
    request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    connection.close()
    connection = http.client.HTTPConnection(host)
    path = f"/2018-06-01/runtime/invocation/{request_id}/response"
    connection.request("POST", path, reply(method), HEADERS, encode_chunked=True)
    connection.getresponse().read()
    connection.close()
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("failing")
    (folder / "failing.py").write_text(textwrap.dedent(FUNCTION))
    config = {
        "services": {"t.Failing": {"target": "local:failing", "invoke_mode": "response_stream"}},
        "functions": {"failing": {"command": [sys.executable, "failing.py"], "timeout": "2s"}},
    }
    with running_bridge(folder, config) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "messages", "code", "text"),
    [
        ("Status", 2, grpc.StatusCode.FAILED_PRECONDITION, "not now"),
        ("CrashFirst", 0, grpc.StatusCode.INTERNAL, "failing failed: Runtime.ExitError"),
        ("Crash", 2, grpc.StatusCode.INTERNAL, "failing"),
        ("CrashLast", 2, grpc.StatusCode.FAILED_PRECONDITION, "not now"),
        ("Hang", 2, grpc.StatusCode.DEADLINE_EXCEEDED, "raise the function's timeout"),
        ("NoTrailers", 2, grpc.StatusCode.UNKNOWN, "has no trailers"),
    ],
)
def test_what_came_is_kept_and_the_status_says_why(
    bridge: RunningBridge, method: str, messages: int, code: grpc.StatusCode, text: str
) -> None:
    received: list[bytes] = []
    with grpc.insecure_channel(bridge.address) as channel:
        stream = unary_stream(channel, f"/t.Failing/{method}")(b"", timeout=20)
        with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - what comes before the error counts
            for message in stream:
                received.append(message)  # noqa: PERF402 - the error must not take them along

    assert [b"one", b"two"][:messages] == received
    assert code == caught.value.code()
    assert text in str(caught.value.details())
    (entry,) = bridge.wait_for_log(f"/t.Failing/{method}")
    assert 1 == entry["attempts"]
