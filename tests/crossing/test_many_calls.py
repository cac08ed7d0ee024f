"""A thousand calls at once through one bridge: each gets its own reply, one status, one log line, and nothing stays
behind.

Sizes, faults and cancellations are drawn from a fixed seed, which is printed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lambda_fn.examples import echo_pb2
from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge
from tests.support.byte_methods import stream_stream
from tests.support.echo_api import AWS, FAULT, ID, EchoApi, echo_api

pytestmark = pytest.mark.slow

SEED = 20_260_823
CALLS = 1000
IN_FLIGHT = 64
CONNECTIONS = 4
LARGEST = 3 << 20
SHORT_TIMEOUT = 0.4

Code = grpc.StatusCode

WHOLE = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection
]

EXPECTED = {
    "": Code.OK,
    "throttle": Code.OK,
    "hang up": Code.UNAVAILABLE,
    "raise": Code.INTERNAL,
    "status": Code.FAILED_PRECONDITION,
    "silence": Code.DEADLINE_EXCEEDED,
}
FAULTS = ["", *EXPECTED]
WEIGHTS = [80, 0, 6, 3, 3, 3, 5]


@dataclass(frozen=True)
class Plan:
    """What one call sends and what is done to it."""

    call_id: str
    sizes: tuple[int, ...]
    """Of its messages."""
    fault: str
    cancel_after: float | None
    compression: grpc.Compression

    def messages(self) -> list[bytes]:
        """No two of all calls are alike."""
        return [
            f"{self.call_id}/{index}/".encode() + random.Random(f"{self.call_id}/{index}").randbytes(size)
            for index, size in enumerate(self.sizes)
        ]


@dataclass(frozen=True)
class Outcome:
    code: grpc.StatusCode
    details: str
    echoed_id: str
    is_its_own: bool
    """Whether the messages are those that the call sent, in their order."""


def plans(seed: int, run: str) -> list[Plan]:
    chosen = random.Random(seed)
    return [_plan(chosen, f"{seed:x}{run}{index:08x}".rjust(32, "0")) for index in range(CALLS)]


def _plan(chosen: random.Random, call_id: str) -> Plan:
    count = chosen.choice((1, 1, 1, 2, 5))
    # As many small ones as large ones on a logarithmic scale; one in fifty as large as can be.
    whole = LARGEST if chosen.random() < 0.02 else int(LARGEST ** chosen.random())
    [fault] = chosen.choices(FAULTS, WEIGHTS)
    return Plan(
        call_id=call_id,
        sizes=(whole // count,) * count,
        fault=fault,
        cancel_after=chosen.uniform(0, 0.15) if chosen.random() < 0.1 else None,
        compression=chosen.choice((grpc.Compression.NoCompression,) * 9 + (grpc.Compression.Gzip,)),
    )


_PASSED_WHILE_SENDING = "Internal error from Core"
"""What grpcio says, as INTERNAL, if a call's deadline passes while it writes a message: on a busy machine before the
call has left.
"""


async def run_call(channel: grpc.aio.Channel, plan: Plan) -> Outcome:
    messages = plan.messages()
    call = stream_stream(channel, "/many.Calls/Echo")(
        _each(messages),
        metadata=(
            (ID, plan.call_id),
            (FAULT, plan.fault),
            ("traceparent", f"00-{plan.call_id}-0000000000000001-01"),
        ),
        timeout=SHORT_TIMEOUT if plan.fault == "silence" else 60,
        compression=plan.compression,
    )
    if plan.cancel_after is not None:
        asyncio.get_running_loop().call_later(plan.cancel_after, call.cancel)
    received: list[bytes] = []
    try:
        while (message := await call.read()) is not grpc.aio.EOF:
            assert isinstance(message, bytes)
            received.append(message)
        code = await call.code()
    except asyncio.CancelledError:
        # Ours, and no other's. Not call.cancelled(): read() may be cancelled before grpcio has noted the call's status.
        assert plan.cancel_after is not None
        code = Code.CANCELLED
    except grpc.aio.AioRpcError as error:
        code = error.code()
    if code is Code.CANCELLED:
        return Outcome(code, "", plan.call_id, received == messages[: len(received)])
    trailing, details = dict(await call.trailing_metadata() or ()), await call.details() or ""
    if details == _PASSED_WHILE_SENDING:
        code = Code.DEADLINE_EXCEEDED
    return Outcome(
        code,
        details,
        str(trailing.get(ID, "")),
        received == (messages if code is Code.OK else []),
    )


async def _each(messages: Sequence[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def run_all(address: str, planned: Sequence[Plan]) -> dict[Plan, Outcome]:
    """At most IN_FLIGHT at a time, in turn over all connections."""
    room = asyncio.Semaphore(IN_FLIGHT)
    outcomes: dict[Plan, Outcome] = {}

    async def one(channel: grpc.aio.Channel, plan: Plan) -> None:
        async with room:
            outcomes[plan] = await run_call(channel, plan)

    async with channels(address) as opened, asyncio.TaskGroup() as group:
        for index, plan in enumerate(planned):
            group.create_task(one(opened[index % CONNECTIONS], plan))
    return outcomes


@asynccontextmanager
async def channels(address: str) -> AsyncIterator[list[grpc.aio.Channel]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(grpc.aio.insecure_channel(address, WHOLE)) for _ in range(CONNECTIONS)]


def metrics(bridge: RunningBridge) -> Counter[str]:
    """The sum over all labels of each sample of /metrics."""
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(bridge.get("/metrics")):
        for sample in family.samples:
            sums[sample.name] += int(sample.value)
    return sums


@pytest.fixture(scope="module")
def api() -> Iterator[EchoApi]:
    with echo_api(SEED) as serving:
        yield serving


@pytest.fixture(scope="module")
def echo_bridge(api: EchoApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    config = {
        "services": {"many.Calls": "function:echo"},
        "aws": {"endpoint_url": f"http://127.0.0.1:{api.port}"},
    }
    with running_bridge(tmp_path_factory.mktemp("many"), config, environ=AWS) as bridge:
        bridge.wait_for_line("AWS credentials found")
        yield bridge


async def test_a_thousand_calls_get_each_its_own_reply(echo_bridge: RunningBridge, api: EchoApi) -> None:
    """64 in flight on 4 connections, up to 3 MiB, with faults and cancellations; twice, and far less memory is held
    than was sent.
    """
    print(f"seed {SEED}")
    first = await run_all(echo_bridge.address, plans(SEED, "a"))
    after_first = await settled(echo_bridge)
    second = await run_all(echo_bridge.address, plans(SEED, "b"))
    after_second = await settled(echo_bridge)

    for outcomes in (first, second):
        assert CALLS == len(outcomes)
        for plan, outcome in outcomes.items():
            judge(plan, outcome)
    for plan in (*first, *second):
        attempts = api.attempts[plan.call_id]
        assert attempts <= (2 if plan.fault == "throttle" else 1), plan
        if plan.fault == "silence":
            assert api.aborted[plan.call_id] == attempts, "the upstream request was not aborted"
    check_log(echo_bridge, {**first, **second}, after_second)
    sent = sum(sum(plan.sizes) for plan in (*first, *second))
    resident = [each["process_resident_memory_bytes"] for each in (after_first, after_second)]
    print(f"sent {sent >> 20} MiB; resident {resident[0] / 2**20:.0f}, then {resident[1] / 2**20:.0f} MiB")
    assert resident[1] < sent * 0.75, "what was sent has stayed"


def judge(plan: Plan, outcome: Outcome) -> None:
    assert outcome.is_its_own, f"{plan}: the messages of another call, or not all"
    if plan.cancel_after is not None and outcome.code is Code.CANCELLED:
        return
    assert EXPECTED[plan.fault] is outcome.code, (plan, outcome)
    if plan.fault in ("", "throttle", "status"):
        assert plan.call_id == outcome.echoed_id
    if plan.fault in ("raise", "status"):
        assert plan.call_id in outcome.details


async def settled(bridge: RunningBridge) -> Counter[str]:
    """The metrics once nothing is under way."""
    async with asyncio.timeout(10):
        while (found := metrics(bridge))["bridge_streams"]:
            await asyncio.sleep(0.05)
    assert found["grpc_server_started_total"] == found["grpc_server_handled_total"]
    assert 0 == found["bridge_in_flight"]
    assert 0 == found["bridge_buffered_bytes"]
    return found


def check_log(bridge: RunningBridge, outcomes: dict[Plan, Outcome], figures: Counter[str]) -> None:
    """One line for each call that reached the bridge, with the status that its client saw.

    Calls that were cancelled before their request had come may share a line, and those that ended in the queue.
    """
    started = figures["grpc_server_started_total"]
    bridge.wait_until(lambda: sum(each.get("calls", 1) for each in bridge.access_log()) >= started)
    entries = [each for each in bridge.access_log() if "calls" not in each]
    together = [each for each in bridge.access_log() if "calls" in each]
    by_id = {entry["trace_id"]: entry for entry in entries}
    assert {"CANCELLED", "DEADLINE_EXCEEDED"} >= {each["code"] for each in together}
    assert len(by_id) == len(entries)
    assert len(entries) + sum(each["calls"] for each in together) == figures["grpc_server_handled_total"]
    for plan, outcome in outcomes.items():
        entry = by_id.pop(plan.call_id, None)
        if outcome.code in (Code.CANCELLED, Code.DEADLINE_EXCEEDED):
            # The client may have ended it before it left, or just as the answer did.
            continue
        assert entry is not None, plan
        assert outcome.code.name == entry["code"]
    assert {} == by_id
    assert not [line for line in bridge.lines if "Traceback" in line or "bug in the bridge" in line]


async def test_many_calls_to_real_functions(tmp_path: Path) -> None:
    """The local Lambda with eight instances: throttled calls wait for another turn. No client sees one, and none gets
    another's reply.
    """
    config = {
        **EXAMPLES,
        "functions": {
            "greeter": EXAMPLES["functions"]["greeter"],
            "echo": {**EXAMPLES["functions"]["echo"], "concurrency": 8},
        },
        "defaults": {"queue": {"wait": "1m"}},
    }
    texts = [f"{index} " + "x" * random.Random(index).randrange(100_000) for index in range(200)]
    with running_bridge(tmp_path, config) as bridge:
        async with channels(bridge.address) as opened:
            room = asyncio.Semaphore(IN_FLIGHT)

            async def one(index: int) -> str:
                async with room:
                    return await echo(opened[index % CONNECTIONS], texts[index])

            replies = await asyncio.gather(*map(one, range(len(texts))))
        found = await settled(bridge)
        entries = bridge.wait_for_log("/dev.Echo/Unary", int(found["grpc_server_handled_total"]))

    assert texts == replies
    assert ["OK"] * len(texts) == [entry["code"] for entry in entries]
    assert found["bridge_cold_starts_total"] <= 8


async def echo(channel: grpc.aio.Channel, text: str) -> str:
    unary = channel.unary_unary(
        "/dev.Echo/Unary",
        request_serializer=echo_pb2.EchoRequest.SerializeToString,
        response_deserializer=echo_pb2.EchoReply.FromString,
    )
    return str((await unary(echo_pb2.EchoRequest(text=text), timeout=60)).text)
