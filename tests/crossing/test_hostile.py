"""Each attack of benchmarks/hostile for a moment: a neighbour's calls go on, and the process stays within its buffers.

What the neighbour gets is compared with the bridge's own CPU time, which a busy machine does not change.
docs/hostile.md has waits on a quiet machine, beside Envoy's.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.hostile.run import BUFFERS, PATH, Attack, attacks
from benchmarks.hostile.run import merged as with_more
from benchmarks.hostile.trial import Victim, attack
from benchmarks.peers import SIZES, message_of
from tests.support.bridge_process import running_bridge
from tests.support.echo_api import AWS
from tests.support.lambda_api import answer, lambda_api

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECONDS = 2.0
MAX_CPU_A_CALL = 0.25
"""Seconds of the bridge's CPU for each call that a neighbour gets meanwhile. With its work budget the bridge spends at
most some 25 ms. Without it that is 1 s and more, because the bridge serves the attacker alone.
"""
MOMENT = 64 << 20
"""Bytes above twice `buffers` that are forgiven: the allocator's, and what a single read brings."""


def reply_with(message: bytes) -> bytes:
    """A function's reply of one message and OK."""
    body = b"\0" + len(message).to_bytes(4, "big") + message + b"\x80\0\0\0\x0fgrpc-status:0\r\n"
    headers = {"content-type": "application/grpc-web+proto"}
    return json.dumps(
        {
            "statusCode": 200,
            "headers": headers,
            "isBase64Encoded": True,
            "body": b64encode(body).decode(),
        }
    ).encode()


@pytest.fixture(scope="module")
def stand_in() -> Iterator[int]:
    """The port of an API that answers for the functions of benchmarks/bridge.yaml."""
    answers = {
        "greeter": answer(200, reply_with(b"\n\x0bHello world")),
        "slow": answer(200, reply_with(b"")),
    }
    answers |= {f"sized-{size}": answer(200, reply_with(message_of(size))) for size in SIZES}
    with lambda_api(answers) as api:
        yield api.port


@pytest.mark.parametrize("each", attacks(), ids=lambda each: each.name)
def test_a_neighbour_goes_on(each: Attack, stand_in: int, tmp_path: Path) -> None:
    """None of its calls fails, it gets its share of the bridge, and memory stays near the buffers."""
    text = (ROOT / "benchmarks" / "bridge.yaml").read_text()
    usual = yaml.safe_load(text.replace("arn:aws:lambda:us-east-1:123456789012:function:", "function:"))
    config = with_more(usual, each.config)
    config["aws"]["endpoint_url"] = f"http://127.0.0.1:{stand_in}"
    config["services"]["bench.Tls"] = config["services"]["bench.Plain"]
    config["buffers"] = f"{BUFFERS >> 20}MiB"
    with running_bridge(tmp_path, config, environ=AWS) as bridge:
        bridge.wait_for_line("AWS credentials found")
        outcome = attack(Victim("bridge", bridge.process.pid, bridge.address, PATH), each.name, SECONDS)

    assert 0 == outcome.waits.failed
    assert outcome.cpu / max(1, outcome.calls_meanwhile) < MAX_CPU_A_CALL
    assert outcome.peak_memory < outcome.memory_before + 2 * BUFFERS + MOMENT
