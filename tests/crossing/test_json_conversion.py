"""`payload: json` in a whole bridge: large and hostile messages end with their own status, others go on, no process
stays behind.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from bridge.services.descriptors import load_descriptors
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary

FOLDER = Path(__file__).parent / "orders"
ORDER = GetMessageClass(load_descriptors(FOLDER).message("orders.v1.Order"))
ECHO = "/orders.v1.Orders/Echo"
SLOW = b'{"extra":{"%b":[%b1]}}' % (b"k" * 1_000_000, b"1," * 400_000)
"""JSON that takes minutes to read: json_format notes the key again for each element."""
LARGE = ORDER(parts=[{"id": f"order-{n}", "item_counts": {"a": n}} for n in range(5000)])
CODES = grpc.StatusCode


class Function:
    """A JSON function: it gives back what it gets, or what `reply` says."""

    def __init__(self) -> None:
        self.reply: bytes | None = None
        self.address = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        function = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = body if function.reply is None else function.reply
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.address = f"http://127.0.0.1:{server.server_port}"
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            serving.start()
            try:
                yield
            finally:
                server.shutdown()
                serving.join()


@pytest.fixture
def function() -> Iterator[Function]:
    function = Function()
    with function.running():
        yield function


Start = Callable[..., RunningBridge]


@pytest.fixture
def start(tmp_path: Path, function: Function) -> Iterator[Start]:
    """Starts one bridge, with these keys besides."""
    context: list[Any] = []

    def started(**keys: object) -> RunningBridge:
        entry = {"target": function.address, "payload": "json", "descriptors": str(FOLDER)}
        config = {"services": {"orders.v1.Orders": entry}, **keys}
        context.append(running_bridge(tmp_path, config))
        bridge: RunningBridge = context[0].__enter__()
        return bridge

    yield started
    for each in context:
        each.__exit__(None, None, None)


@contextmanager
def calling(bridge: RunningBridge) -> Iterator[grpc.UnaryUnaryMultiCallable[Any, Any]]:
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(bridge.address, options) as channel:
        yield channel.unary_unary(ECHO, request_serializer=_bytes_of, response_deserializer=ORDER.FromString)


def _bytes_of(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def failure(call: grpc.UnaryUnaryMultiCallable[Any, Any], message: Any, **keys: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(message, timeout=60, **keys)
    error: Any = raised.value
    return error.code(), error.details()


def converters(bridge: RunningBridge) -> list[int]:
    """The process ids of the conversion processes."""
    pid = bridge.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"bridge.conversion" in _command(child)]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def metric(bridge: RunningBridge, name: str) -> float:
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", bridge.get("/metrics"), re.MULTILINE)
    assert found is not None
    return float(found[1])


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


@needs_proc
def test_large_messages_go_both_ways(start: Start) -> None:
    """The processes count in the memory that metrics tell, and nothing counts in `buffers` afterwards."""
    bridge = start()
    with calling(bridge) as call:
        assert ORDER(id="7") == call(ORDER(id="7"), timeout=60)
        assert not converters(bridge)
        alone = metric(bridge, "process_resident_memory_bytes")
        held = metric(bridge, "bridge_buffered_bytes")

        assert LARGE == call(LARGE, timeout=60)

        assert 1 <= len(converters(bridge)) <= 2
        assert metric(bridge, "process_resident_memory_bytes") > alone + (8 << 20)
        bridge.wait_until(lambda: metric(bridge, "bridge_buffered_bytes") <= held)


def test_bombs_end_with_their_own_status(start: Start) -> None:
    """It is told by its size and its limit, and the next call is served."""
    bridge = start(buffers="64MiB")
    with calling(bridge) as call:
        code, told = failure(call, b"\x42\x00" * 2_000_000, compression=grpc.Compression.Gzip)

        assert CODES.RESOURCE_EXHAUSTED is code
        assert re.search(r"request of 4000000 bytes needs more than \d+ bytes of memory", told)
        # Sixteen kilobytes that make much JSON, but not too much.
        assert ORDER(parts=[{}] * 8000) == call(ORDER(parts=[{}] * 8000), timeout=60)


HOSTILE = {
    "deep": b'{"extra":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "deep array": b"[" * 100_000,
    "integer": b'{"totalCents":' + b"9" * 1_000_000 + b"}",
    "exponent": b'{"totalCents":1e999999999}',
    "duration": b'{"leadTime":"' + b"9" * 100_000 + b's"}',
}


def test_hostile_replies_are_bad_replies(start: Start, function: Function) -> None:
    bridge = start()
    with calling(bridge) as call:
        for shape, reply in HOSTILE.items():
            function.reply = reply
            code, told = failure(call, ORDER())

            assert (shape, CODES.INTERNAL) == (shape, code)
            assert "JSON is no" in told
    assert not any("Traceback" in line for line in bridge.lines)


def test_a_conversion_that_takes_too_long_ends_alone(start: Start, function: Function) -> None:
    """INTERNAL, with what to do; small and large calls go on meanwhile."""
    bridge = start()
    with calling(bridge) as call:
        function.reply = SLOW
        slow = call.future(ORDER(id="slow"), timeout=60)
        bridge.wait_until(lambda: bool(converters(bridge)))
        function.reply = None
        served = 0
        while not slow.done():
            assert ORDER(id="7") == call(ORDER(id="7"), timeout=60)
            served += 1

        assert CODES.INTERNAL is slow.code()
        assert "longer than 5 s" in slow.details()
        assert served > 10
        assert LARGE == call(LARGE, timeout=60)


@needs_proc
def test_a_process_that_dies_ends_its_call_alone(start: Start, function: Function) -> None:
    bridge = start()
    with calling(bridge) as call:
        function.reply = SLOW
        slow = call.future(ORDER(), timeout=60)
        bridge.wait_until(lambda: bool(converters(bridge)))
        bridge.wait_until(lambda: metric(bridge, "bridge_buffered_bytes") > 1 << 20)
        for pid in converters(bridge):
            os.kill(pid, signal.SIGKILL)

        assert CODES.INTERNAL is slow.code()
        assert "died" in slow.details()
        function.reply = None
        assert LARGE == call(LARGE, timeout=60)


@needs_proc
def test_a_client_that_leaves_frees_the_place(start: Start, function: Function) -> None:
    bridge = start()
    with calling(bridge) as call:
        function.reply = SLOW
        slow = [call.future(ORDER(), timeout=60) for _ in range(4)]
        bridge.wait_until(lambda: len(converters(bridge)) == 2)
        for each in slow:
            each.cancel()
        function.reply = None

        assert LARGE == call(LARGE, timeout=60)
        bridge.wait_until(lambda: metric(bridge, "bridge_buffered_bytes") < 1 << 20)


@needs_proc
def test_a_drain_waits_for_conversions(start: Start) -> None:
    """SIGTERM in the middle of a large call, to the processes as well, as service managers send it."""
    bridge = start(drain="30s")
    with calling(bridge) as call:
        call(LARGE, timeout=60)
        pids = converters(bridge)
        under_way = call.future(LARGE, timeout=60)
        bridge.wait_until(lambda: metric(bridge, "bridge_buffered_bytes") > 1 << 20)
        for pid in (*pids, bridge.process.pid):
            os.kill(pid, signal.SIGTERM)

        assert LARGE == under_way.result()
    assert 0 == bridge.process.wait(60)
    assert all(is_gone(pid) for pid in pids)


@needs_proc
def test_a_bridge_that_is_killed_leaves_no_process(start: Start, function: Function) -> None:
    """Not even one that is in the middle of a job."""
    bridge = start()
    with calling(bridge) as call:
        function.reply = SLOW
        slow = call.future(ORDER(), timeout=60)
        bridge.wait_until(lambda: metric(bridge, "bridge_buffered_bytes") > 1 << 20)
        pids = converters(bridge)
        assert not slow.done()

        bridge.process.kill()
        bridge.wait_until(lambda: all(is_gone(pid) for pid in pids))

    assert pids


def test_workers_have_processes_of_their_own(start: Start) -> None:
    bridge = start(workers=2)
    for _ in range(3):
        with calling(bridge) as call:
            assert LARGE == call(LARGE, timeout=60)


@needs_proc
def test_a_reload_teaches_the_processes_first(start: Start, tmp_path: Path, function: Function) -> None:
    """A message type that gains a field: calls after the reload have it, in the process that was there before."""
    protos = tmp_path / "protos"
    protos.mkdir()
    proto = protos / "a.proto"
    text = (
        'syntax = "proto3"; package orders.v1; service Orders { rpc Echo (A) returns (A); } '
        "message A { repeated string id = 1; %s }"
    )
    proto.write_text(text % "")
    entry = {"target": function.address, "payload": "json", "descriptors": str(protos)}
    bridge = start(services={"orders.v1.Orders": entry})
    with grpc.insecure_channel(bridge.address) as channel:
        call = unary_unary(channel, ECHO)
        request = b"\x0a\x01x" * 10_000 + b"\x12\x01y"
        assert b"\x0a\x01x" * 10_000 == call(request, timeout=60)
        pids = converters(bridge)

        proto.write_text(text % "string new = 2;")
        bridge.process.send_signal(signal.SIGHUP)
        bridge.wait_for_line("reloaded")

        assert request == call(request, timeout=60)
        assert pids == converters(bridge)


def test_the_json_is_the_usual_one(start: Start, function: Function) -> None:
    """Large and small messages are written in the same way."""
    bridge = start()
    with calling(bridge) as call:
        small, large = ORDER(id="1"), ORDER(id="1", note="x" * 20_000)
        assert [small, large] == [call(each, timeout=60) for each in (small, large)]
        function.reply = json.dumps({"id": "1", "note": "x" * 20_000, "unknown": [1]}).encode()
        assert large == call(small, timeout=60)
    assert len(gzip.compress(bytes(100))) < 100
