"""Each row of the status table: the fault is made for real, by a function in the local Lambda or by a broken peer."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.lambda_api import CUT, HANG_UP, SILENCE, LambdaApi, answer, lambda_api, refusal

pytestmark = pytest.mark.slow

AWS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret-of-ours",
    "AWS_REGION": "eu-west-1",
}
IDENTITY = "arn:aws:iam::123456789012:user/bridge"

Code = grpc.StatusCode


def grpc_web(frames: bytes, **reply: Any) -> str:
    """A function's reply in the function-URL shape."""
    headers = {"content-type": "application/grpc-web+proto"}
    whole = {
        "statusCode": 200,
        "headers": headers,
        "body": b64encode(frames).decode(),
        "isBase64Encoded": True,
    }
    return json.dumps({**whole, **reply})


MESSAGE = b"\0\0\0\0\2\x08\x01"
OK = b"\x80\0\0\0\x0fgrpc-status:0\r\n"

GONE = {"content-type": "application/grpc-web+proto", "grpc-status": "5", "grpc-message": "gone"}

ANSWERS = {
    "throttled": refusal(429, "TooManyRequestsException", "Rate Exceeded.", "Retry-After: 0"),
    "starting": refusal(409, "ResourceConflictException"),
    "snapshot": refusal(408, "SnapStartTimeoutException"),
    "refused": refusal(403, "AccessDeniedException", f"User: {IDENTITY} is not authorized"),
    "unkeyed": refusal(502, "KMSDisabledException"),
    "broken": refusal(500, "ServiceException"),
    "io": refusal(410, "EFSIOException"),
    "large": refusal(413, "RequestTooLargeException"),
    "htmlish": answer(413, "<html>too large</html>", "content-type: text/html"),
    "cut-http": CUT + b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "hangs-up": HANG_UP,
    "silent": SILENCE,
    "bad-json": answer(200, "{nonsense"),
    "bad-base64": answer(200, grpc_web(MESSAGE, body="!!!!")),
    "bad-frame": answer(200, grpc_web(b"\x42\0\0\0\1x" + OK)),
    "no-status": answer(200, grpc_web(b"")),
    "no-trailers": answer(200, grpc_web(MESSAGE)),
    "half-a-message": answer(200, grpc_web(b"\0\0\0\0\x10x")),
    "status-in-headers": answer(200, grpc_web(b"\x80\0\0\0\0", headers=GONE)),
    "spaces": answer(200, grpc_web(b"\x80\0\0\0\x2dgrpc-status: 5\r\ngrpc-message: %20gone%20%20\r\n")),
    "teapot": answer(200, grpc_web(b"", statusCode=418, headers={"content-type": "text/plain"})),
    "unavailable": answer(200, grpc_web(b"", statusCode=503, headers={})),
    "odd-code": answer(200, grpc_web(b"\x80\0\0\0\x10grpc-status:99\r\n")),
    "good": answer(200, grpc_web(MESSAGE + OK)),
}


@dataclass(frozen=True)
class Outcome:
    code: grpc.StatusCode
    details: str
    trailing: dict[str, str | bytes]


def call(bridge: RunningBridge, service: str, body: bytes = b"", **options: Any) -> Outcome:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(bridge.address, unlimited) as channel:
        invoke = unary_unary(channel, f"/{service}/Method")
        done: Any
        try:
            _, done = invoke.with_call(body, timeout=options.get("timeout", 20))
        except grpc.RpcError as error:
            done = error
        return Outcome(done.code(), done.details() or "", dict(done.trailing_metadata() or ()))


# -- what AWS and broken peers say -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api() -> Iterator[LambdaApi]:
    with lambda_api(ANSWERS) as serving:
        yield serving


@pytest.fixture(scope="module")
def aws_bridge(api: LambdaApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    services: dict[str, Any] = {f"t.{name}": f"function:{name}" for name in [*ANSWERS, "missing"]}
    services["t.throttled"] = {"target": "function:throttled", "queue": None}
    services["t.exhausted"] = {
        "target": "function:throttled",
        "throttled_as": "RESOURCE_EXHAUSTED",
        "queue": {"wait": "500ms"},
    }
    config = {
        "services": services,
        "aws": {"endpoint_url": f"http://127.0.0.1:{api.port}"},
        "defaults": {"retry": {"backoff": "5ms"}},
    }
    with running_bridge(tmp_path_factory.mktemp("aws"), config, environ=AWS) as bridge:
        wait_until_ready(bridge)
        yield bridge


def wait_until_ready(bridge: RunningBridge) -> None:
    """Credentials are sought in the background."""
    bridge.wait_for_line("AWS credentials found")


@pytest.mark.parametrize(
    ("name", "code", "text", "attempts"),
    [
        ("throttled", Code.UNAVAILABLE, "throttle", 1),
        ("starting", Code.UNAVAILABLE, "ResourceConflict", 3),
        ("snapshot", Code.UNAVAILABLE, "SnapStartTimeout", 3),
        ("missing", Code.UNIMPLEMENTED, "no function missing", 1),
        ("refused", Code.PERMISSION_DENIED, "refused", 1),
        ("unkeyed", Code.INTERNAL, "KMS", 1),
        ("broken", Code.UNAVAILABLE, "may have run", 1),
        ("io", Code.UNAVAILABLE, "may have run", 1),
        ("large", Code.RESOURCE_EXHAUSTED, "6291456", 1),
        ("htmlish", Code.RESOURCE_EXHAUSTED, "413", 1),
        ("cut-http", Code.UNAVAILABLE, "may have run", 1),
        ("not-http", Code.INTERNAL, "", 1),
        ("hangs-up", Code.UNAVAILABLE, "may have run", 1),
        ("bad-json", Code.INTERNAL, "JSON", 1),
        ("bad-base64", Code.INTERNAL, "base64", 1),
        ("bad-frame", Code.INTERNAL, "0x42", 1),
        ("no-status", Code.UNKNOWN, "status", 1),
        ("no-trailers", Code.UNKNOWN, "trailers", 1),
        ("half-a-message", Code.INTERNAL, "middle", 1),
        ("status-in-headers", Code.NOT_FOUND, "gone", 1),
        ("spaces", Code.NOT_FOUND, " gone  ", 1),
        ("teapot", Code.UNKNOWN, "418", 1),
        ("unavailable", Code.UNAVAILABLE, "503", 1),
        ("odd-code", Code.UNKNOWN, "", 1),
        ("good", Code.OK, "", 1),
    ],
)
def test_what_comes_back_becomes_a_status(
    aws_bridge: RunningBridge, api: LambdaApi, name: str, code: Code, text: str, attempts: int
) -> None:
    """The code, a message that says what happened, and no attempt too many."""
    api.requests.clear()
    outcome = call(aws_bridge, f"t.{name}")

    assert code is outcome.code, outcome.details
    assert text in outcome.details
    assert attempts == api.requests[name]
    assert IDENTITY not in outcome.details


def test_throttled_as_names_the_code(aws_bridge: RunningBridge, api: LambdaApi) -> None:
    """throttled_as: RESOURCE_EXHAUSTED, with Retry-After as pushback. It is tried again until `queue.wait` is over."""
    api.requests.clear()
    outcome = call(aws_bridge, "t.exhausted")

    assert Code.RESOURCE_EXHAUSTED is outcome.code
    assert "throttle" in outcome.details
    assert 1 < api.requests["throttled"] < 20
    assert "0" == outcome.trailing["grpc-retry-pushback-ms"]


def test_our_identity_and_our_key_stay_in_the_log_or_nowhere(aws_bridge: RunningBridge) -> None:
    """What AWS says of our identity is logged for the operator; the secret key is written nowhere."""
    call(aws_bridge, "t.refused")
    aws_bridge.wait_for_log("/t.refused/Method")

    log = "\n".join(aws_bridge.lines)
    assert IDENTITY in log
    assert AWS["AWS_SECRET_ACCESS_KEY"] not in log


def test_a_deadline_aborts_the_request(aws_bridge: RunningBridge, api: LambdaApi) -> None:
    """DEADLINE_EXCEEDED, and the API sees the connection close."""
    api.hung_up.clear()
    outcome = call(aws_bridge, "t.silent", timeout=0.3)

    assert Code.DEADLINE_EXCEEDED is outcome.code
    assert api.hung_up.wait(5)


def test_a_client_that_goes_away_aborts_the_request(aws_bridge: RunningBridge, api: LambdaApi) -> None:
    """A cancelled call closes the upstream connection."""
    api.hung_up.clear()
    api.requests.clear()
    with grpc.insecure_channel(aws_bridge.address) as channel:
        future = unary_unary(channel, "/t.silent/Method").future(b"")
        aws_bridge.wait_until(lambda: api.requests["silent"] == 1)
        future.cancel()

        assert api.hung_up.wait(5)


def test_no_route_is_unimplemented(aws_bridge: RunningBridge) -> None:
    """No entry matches."""
    outcome = call(aws_bridge, "no.Such")

    assert (Code.UNIMPLEMENTED, True) == (outcome.code, "no.Such" in outcome.details)


def test_a_request_above_max_request_is_refused(aws_bridge: RunningBridge) -> None:
    """One message above 4 MiB: RESOURCE_EXHAUSTED with size and limit, on the declared length."""
    outcome = call(aws_bridge, "t.good", b"x" * ((4 << 20) + 1))

    assert Code.RESOURCE_EXHAUSTED is outcome.code
    assert "4194305" in outcome.details
    assert "4194304" in outcome.details


def test_a_refused_connection_is_unavailable_and_retried(tmp_path: Path) -> None:
    """Nothing listens: UNAVAILABLE, after all attempts, without saying that the function may have run."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    config = {
        "services": {"t.f": {"target": "function:f", "retry": {"backoff": "5ms"}}},
        "aws": {"endpoint_url": f"http://127.0.0.1:{port}"},
    }
    with running_bridge(tmp_path, config, environ=AWS) as bridge:
        wait_until_ready(bridge)
        outcome = call(bridge, "t.f")
        [logged] = bridge.wait_for_log("/t.f/Method")

    assert Code.UNAVAILABLE is outcome.code
    assert "may have run" not in outcome.details
    assert 3 == logged["attempts"]


def test_a_certificate_that_does_not_verify_is_unavailable_and_not_retried(tmp_path: Path) -> None:
    """TLS to a stranger: UNAVAILABLE once."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with lambda_api({}, tls) as api:
        config = {
            "services": {"t.f": "function:f"},
            "aws": {"endpoint_url": f"https://127.0.0.1:{api.port}"},
        }
        with running_bridge(tmp_path, config, environ=AWS) as bridge:
            wait_until_ready(bridge)
            outcome = call(bridge, "t.f")
            [logged] = bridge.wait_for_log("/t.f/Method")

    assert Code.UNAVAILABLE is outcome.code
    assert "certificate" in outcome.details
    assert 1 == logged["attempts"]


def test_without_credentials_calls_are_unavailable_and_the_bridge_not_ready(tmp_path: Path) -> None:
    """Rule 6: UNAVAILABLE, /readyz 503. What to do is said once, in the log, and not to callers."""
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    config = {"services": {"t.f": "function:f"}, "aws": {"region": "eu-west-1"}}
    with running_bridge(tmp_path, config, environ=nowhere) as bridge:
        outcome = call(bridge, "t.f")
        status, body = bridge.get_whole("/readyz")
        bridge.wait_for_line("AWS_PROFILE")

    assert Code.UNAVAILABLE is outcome.code
    assert "the bridge has no AWS credentials yet; its log says why" == outcome.details
    assert 1 == sum("AWS_PROFILE" in line for line in bridge.lines)
    assert (503, True) == (status, "credentials" in body)


# -- what functions do -------------------------------------------------------------------------------------------------

FUNCTIONS = """
import os, sys, time

def raises(event, context):
    raise ValueError("no such order\\nsecond line")

def exits(event, context):
    os._exit(7)

def hogs(event, context):
    hog = bytearray(400 << 20)
    for at in range(0, len(hog), 4096):
        hog[at] = 1
    time.sleep(5)

def sleeps(event, context):
    time.sleep(30)

def large(event, context):
    return {"statusCode": 200, "headers": {}, "body": "x" * (7 << 20)}

def returns_a_set(event, context):
    return {1, 2}

def answers_nothing(event, context):
    return None
"""


@pytest.fixture(scope="module")
def local_bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder = tmp_path_factory.mktemp("local")
    (folder / "faulty.py").write_text(FUNCTIONS)
    (folder / "broken.py").write_text("import no_such_module\n")
    names = ["raises", "exits", "hogs", "large", "returns_a_set", "answers_nothing"]
    functions: dict[str, Any] = {
        name: {"handler": f"faulty.{name}", "timeout": "5s", "memory": "192MiB"} for name in names
    }
    functions["sleeps"] = {"handler": "faulty.sleeps", "timeout": "1s"}
    functions["single"] = {"handler": "faulty.sleeps", "timeout": "3s", "concurrency": 1}
    functions["broken"] = {"handler": "broken.handler"}
    services: dict[str, Any] = {f"t.{name}": f"local:{name}" for name in functions}
    services["t.one"] = {"target": "local:sleeps", "max_concurrency": 1, "queue": None}
    services["t.throttled"] = {"target": "local:single", "retry": {"attempts": 1}}
    config = {"services": services, "functions": functions}
    with running_bridge(folder, config) as bridge:
        yield bridge


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("raises", Code.INTERNAL, "ValueError: no such order"),
        ("exits", Code.INTERNAL, "exit status 7"),
        ("hogs", Code.INTERNAL, "memory"),
        ("sleeps", Code.DEADLINE_EXCEEDED, "its own time"),
        ("large", Code.RESOURCE_EXHAUSTED, "6291556"),
        ("returns_a_set", Code.INTERNAL, "MarshalError"),
        ("answers_nothing", Code.INTERNAL, ""),
        ("broken", Code.INTERNAL, "no_such_module"),
    ],
)
def test_what_a_function_does_becomes_a_status(local_bridge: RunningBridge, name: str, code: Code, text: str) -> None:
    """A failure of the function reaches its own caller: code, type and a short message, never a stack trace."""
    outcome = call(local_bridge, f"t.{name}")

    assert code is outcome.code, outcome.details
    assert text in outcome.details
    assert "Traceback" not in outcome.details
    assert "second line" not in outcome.details


def test_too_many_calls_in_flight_are_refused(local_bridge: RunningBridge) -> None:
    """max_concurrency without a queue: the second call gets RESOURCE_EXHAUSTED at once, the first goes on."""
    with grpc.insecure_channel(local_bridge.address) as channel:
        first = unary_unary(channel, "/t.one/Method").future(b"")
        local_bridge.wait_until(lambda: 'bridge_in_flight{target="local:sleeps"} 1.0' in local_bridge.get("/metrics"))
        second = call(local_bridge, "t.one")
        first.cancel()

    assert Code.RESOURCE_EXHAUSTED is second.code
    assert "max_concurrency" in second.details


def test_a_throttled_local_function_is_unavailable(local_bridge: RunningBridge) -> None:
    """The local Lambda throttles at the function's concurrency, as AWS does."""
    with grpc.insecure_channel(local_bridge.address) as channel:
        first = unary_unary(channel, "/t.single/Method").future(b"")
        local_bridge.wait_until(lambda: 'bridge_in_flight{target="local:single"} 1.0' in local_bridge.get("/metrics"))
        local_bridge.wait_until(lambda: any("START" in line or "single" in line for line in local_bridge.lines))
        second = call(local_bridge, "t.throttled")
        first.cancel()

    assert Code.UNAVAILABLE is second.code
    assert "throttle" in second.details


def test_calls_in_flight_when_the_drain_ends_are_unavailable(tmp_path: Path) -> None:
    """SIGTERM: the call gets `drain` to finish, then UNAVAILABLE; the process ends with 0."""
    with lambda_api({"silent": SILENCE}) as api:
        config = {
            "services": {"t.silent": "function:silent"},
            "aws": {"endpoint_url": f"http://127.0.0.1:{api.port}"},
            "drain": "500ms",
        }
        with running_bridge(tmp_path, config, environ=AWS) as bridge:
            wait_until_ready(bridge)
            with grpc.insecure_channel(bridge.address) as channel:
                future = unary_unary(channel, "/t.silent/Method").future(b"")
                bridge.wait_until(lambda: api.requests["silent"] == 1)
                stopped = threading.Thread(target=bridge.stop)
                stopped.start()
                error: Any = future.exception(timeout=10)
                stopped.join()

    assert Code.UNAVAILABLE is error.code()
    assert "shutting down" in error.details()
    assert 0 == bridge.process.returncode
