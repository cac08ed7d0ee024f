"""Attackers at the port of a running bridge: each is cut off or bounded, while another client's calls go on
undisturbed.
"""

from __future__ import annotations

import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json import dumps
from pathlib import Path

import grpc
import pytest
from hyperframe.frame import GoAwayFrame
from prometheus_client.parser import text_string_to_metric_families

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.echo_api import AWS, FAULT, ID, EchoApi, echo_api
from tests.support.frames import PREFACE, FrameFactory, parse, raw
from tests.support.lambda_api import answer, lambda_api

pytestmark = pytest.mark.slow

MIB = 1 << 20
INITIAL_WINDOW_SIZE = 4
FLOODED = 20_000
"""Frames of a flood."""


@pytest.fixture(scope="module")
def api() -> Iterator[EchoApi]:
    with echo_api() as serving:
        yield serving


def reply_of(*sizes: int) -> bytes:
    """What a function answers that sends messages of these sizes."""
    frames = b"".join(b"\0" + size.to_bytes(4, "big") + bytes(size) for size in sizes)
    headers = {"content-type": "application/grpc-web+proto"}
    body = b64encode(frames + b"\x80\0\0\0\x0fgrpc-status:0\r\n").decode()
    reply = {"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": True}
    return dumps(reply).encode()


@pytest.fixture(scope="module")
def bridge(api: EchoApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """With one more function whose replies are large."""
    one, many = reply_of(4 * MIB), reply_of(*[64 << 10] * 64)
    with lambda_api({"large": answer(200, one), "many": answer(200, many), "tiny": answer(200, reply_of(10))}) as large:
        services = {
            "t.Echo": {"target": "function:echo", "endpoint_url": f"http://127.0.0.1:{api.port}"},
            "t.Large": {
                "target": "function:large",
                "endpoint_url": f"http://127.0.0.1:{large.port}",
            },
            "t.Many": {
                "target": "function:many",
                "endpoint_url": f"http://127.0.0.1:{large.port}",
            },
            "t.Tiny": {
                "target": "function:tiny",
                "endpoint_url": f"http://127.0.0.1:{large.port}",
                "max_concurrency": 20,
            },
        }
        config = {"services": services, "buffers": "64MiB"}
        with running_bridge(tmp_path_factory.mktemp("abuse"), config, environ=AWS) as running:
            running.wait_for_line("AWS credentials found")
            yield running
    assert not [line for line in running.lines if "Traceback" in line or '"error"' in line]


@contextmanager
def a_client_beside(bridge: RunningBridge) -> Iterator[None]:
    """Calls all the time and must get each of its replies."""
    ended = threading.Event()
    failed: list[str] = []

    def call_until_ended() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(bridge.address, options) as channel:
            invoke = unary_unary(channel, "/t.Echo/Beside")
            while True:
                try:
                    invoke(b"hello", timeout=10, metadata=((ID, "beside"),))
                except grpc.RpcError as error:
                    failed.append(f"{error.code()}: {error.details()}")
                if ended.is_set():
                    return

    calling = threading.Thread(target=call_until_ended)
    calling.start()
    try:
        yield
    finally:
        ended.set()
        calling.join()
    assert [] == failed


@contextmanager
def attacker(bridge: RunningBridge) -> Iterator[socket.socket]:
    host, _, port = bridge.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def sent(connection: socket.socket, data: bytes) -> bytes:
    """Everything the bridge says to these bytes until it hangs up, or for half a second."""
    received = b""
    with suppress(OSError):
        connection.sendall(data)
    connection.settimeout(0.5)
    with suppress(OSError):
        while part := connection.recv(MIB):
            received += part
    return received


def request(make: FrameFactory, stream_id: int, path: str, fault: str = "") -> bytes:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
    fields += [("te", "trailers"), ("content-type", "application/grpc"), (ID, "a"), (FAULT, fault)]
    return make.request(stream_id, fields)


def resident(bridge: RunningBridge) -> int:
    """Bytes."""
    return int(Path(f"/proc/{bridge.process.pid}/statm").read_text().split()[1]) * 4096


def gauge(bridge: RunningBridge, name: str) -> float:
    families = text_string_to_metric_families(bridge.get("/metrics"))
    return sum(s.value for family in families for s in family.samples if s.name == name)


def test_what_is_no_call_has_its_line_in_the_log(bridge: RunningBridge) -> None:
    """Whoever looks for a request that was refused finds it: its path, why, and where it came from."""
    make = FrameFactory()
    plain = {":method": "POST", ":scheme": "http", ":authority": "x", "content-type": "application/grpc"}
    refused = {
        "/no.Call/Method": {":method": "GET"},
        "/no.Call/Type": {"content-type": "application/json"},
        "/no.Call/Binary": {"x-bin": "!!"},
        "/no.Call/Timeout": {"grpc-timeout": "soon"},
    }
    frames = b""
    for number, (path, changed) in enumerate(refused.items()):
        fields = sorted({**plain, ":path": path, **changed}.items())
        frames += make.request(2 * number + 1, fields)
    with attacker(bridge) as connection:
        sent(connection, make.start() + frames)
    with attacker(bridge) as connection:
        assert b"400 Bad Request" in sent(connection, b"GET /no.Call HTTP/1.1\r\n\r\n")
    entries = [bridge.wait_for_log(path) for path in (*refused, "")]

    assert [1, 1, 1, 1, 1] == list(map(len, entries))
    assert {"INTERNAL"} == {entry["code"] for [entry] in entries}
    assert {"gRPC calls are POST requests"} < {entry["message"] for [entry] in entries}
    assert {"127.0.0.1"} == {entry["peer"] for [entry] in entries}


Flood = Callable[[FrameFactory], bytes]

FLOODS: dict[str, Flood] = {
    "too_many_resets": lambda make: b"".join(
        request(make, stream_id, "/t.Echo/M", "silence") + make.rst_stream(stream_id) for stream_id in range(1, 4000, 2)
    ),
    "too_many_stream_errors": lambda make: b"".join(
        request(make, stream_id, "/t.Echo/M", "silence") + make.window_update(stream_id, 2**31 - 1)
        for stream_id in range(1, 4000, 2)
    ),
    "too_many_pings": lambda make: make.ping() * FLOODED,
    "too_many_settings": lambda make: make.settings() * FLOODED,
    "too_many_useless_frames": lambda make: make.priority(1) * FLOODED,
    "too_many_window_updates": lambda make: make.window_update(0, 1) * FLOODED,
    "too_many_continuations": lambda make: make.headers(1, flags=()) + raw(0x9, 0, 1, b"") * FLOODED,
    "too_many_empty_data_frames": lambda make: make.headers(1) + make.data(1, b"") * FLOODED,
    "too_many_small_data_frames": lambda make: make.headers(1) + make.data(1, b"\0") * FLOODED,
}


@pytest.mark.parametrize("reason", FLOODS)
def test_a_flood_is_cut_off(bridge: RunningBridge, reason: str) -> None:
    """GOAWAY with ENHANCE_YOUR_CALM and the reason; no memory is lost to it."""
    make = FrameFactory()
    with a_client_beside(bridge), attacker(bridge) as connection:
        before = resident(bridge)
        answered = sent(connection, make.start() + FLOODS[reason](make))
        grown = resident(bridge) - before

    [goaway] = [frame for frame in parse(answered) if isinstance(frame, GoAwayFrame)]
    # What one read brings decides whether the answers that it makes are too many first.
    assert goaway.additional_data.decode() in (reason, "too_many_unsent_answers")
    assert 0xB == goaway.error_code
    assert grown < 32 * MIB
    bridge.wait_until(lambda: gauge(bridge, "bridge_streams") == 0)


def test_garbage_and_clients_that_leave_at_any_byte(bridge: RunningBridge) -> None:
    """A call cut off after each of its bytes, half of them by a TCP reset: nothing stays behind."""
    make = FrameFactory()
    call = request(make, 1, "/t.Echo/M", "silence")
    whole = PREFACE + make.settings() + call
    with a_client_beside(bridge):
        for cut in range(len(whole) + 1):
            with attacker(bridge) as connection:
                connection.sendall(whole[:cut])
                if cut % 2:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with attacker(bridge) as connection:
            sent(connection, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")

    bridge.wait_until(lambda: gauge(bridge, "bridge_streams") == 0)
    assert 0 == gauge(bridge, "bridge_buffered_bytes")


def test_a_thousand_connections(bridge: RunningBridge) -> None:
    """Each costs some kilobytes, and none is in another's way."""
    before = resident(bridge)
    with a_client_beside(bridge):
        connections = []
        try:
            for _ in range(1000):
                with attacker(bridge) as connection:
                    connections.append(connection.dup())
                connections[-1].sendall(FrameFactory().start())
            bridge.wait_until(lambda: gauge(bridge, "bridge_connections") > 1000)
            grown = resident(bridge) - before
        finally:
            for connection in connections:
                connection.close()

    assert grown < 64 * MIB
    bridge.wait_until(lambda: gauge(bridge, "bridge_connections") == 0)


def refused_calls(bridge: RunningBridge) -> int:
    """By the access log, in which one line may stand for many."""
    exhausted = [each for each in bridge.access_log() if each["code"] == "RESOURCE_EXHAUSTED"]
    return sum(each.get("calls", 1) for each in exhausted)


def taken_calls(bridge: RunningBridge, method: str) -> int:
    return len([each for each in bridge.access_log() if (each["method"], each["code"]) == (method, "OK")])


@pytest.mark.parametrize("method", ["/t.Large/M", "/t.Many/M"])
def test_replies_that_are_not_taken_fill_the_buffers_and_no_more(bridge: RunningBridge, method: str) -> None:
    """A hundred tiny requests for 4 MiB each behind a shut window: up to 64 MiB are held, the rest refused, all given
    back at the end.

    A reply in progress needs room for what comes and for what is read out of it, so that the last ones do not fit.

    In one message or in 64.
    """
    make = FrameFactory()
    with attacker(bridge) as connection:
        calls = b"".join(request(make, stream_id, method) for stream_id in range(1, 200, 2))
        before = refused_calls(bridge)
        connection.sendall(make.start({INITIAL_WINDOW_SIZE: 0}) + calls)
        bridge.wait_until(lambda: refused_calls(bridge) + taken_calls(bridge, method) - before >= 100)
        refused = refused_calls(bridge) - before
        held = gauge(bridge, "bridge_buffered_bytes")

    assert 80 <= refused
    assert 40 * MIB < held < 80 * MIB
    bridge.wait_until(lambda: gauge(bridge, "bridge_buffered_bytes") == 0)
    with a_client_beside(bridge):
        pass


def test_a_client_that_takes_nothing_holds_no_place(bridge: RunningBridge) -> None:
    """Functions that have answered are no calls in flight: 20 replies behind a shut window leave max_concurrency to
    others.
    """
    make = FrameFactory()
    with attacker(bridge) as connection:
        calls = b"".join(request(make, stream_id, "/t.Tiny/M") for stream_id in range(1, 41, 2))
        connection.sendall(make.start({INITIAL_WINDOW_SIZE: 0}) + calls)
        bridge.wait_for_log("/t.Tiny/M", 20)
        with grpc.insecure_channel(bridge.address) as channel:
            answer = unary_unary(channel, "/t.Tiny/Other")(b"", timeout=5)

    assert bytes(10) == answer
