"""stack: which targets share a queue and what was learned, and what a reload keeps of it."""

from __future__ import annotations

import asyncio

from bridge.layers.deadline import Deadlines
from bridge.rpc.figures import BridgeFigures
from bridge.stack import Shared, Stack
from tests.support.configured import configured

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}


def _shared() -> Shared:
    return Shared(BridgeFigures(), {}, Deadlines(asyncio.get_running_loop()), KEYS)


async def _open(services: str, shared: Shared, *, aws: str = "{region: eu-west-1}") -> None:
    """Put a configuration in force, as a start or a reload does."""
    stack = Stack(configured(f"aws: {aws}\nservices: {services}"), shared, local_endpoint="")
    await stack.open()
    stack.forget_other_gates()
    await stack.close()


async def _gates(services: str, *, aws: str = "{region: eu-west-1}") -> int:
    shared = _shared()
    await _open(services, shared, aws=aws)
    return len(shared.gates)


async def test_what_calls_a_function_in_the_same_way_shares_a_gate() -> None:
    """Over entries and legs, whatever the payload."""
    services = f"""
  a.A: {ARN}
  a.B: {{target: "{ARN}", event: alb, max_concurrency: 3}}
  a.C: {{split: {{"{ARN}": 1, "{ARN}:live": {{weight: 1, invoke_mode: response_stream}}}}}}
"""

    assert 2 == await _gates(services)


async def test_function_qualifier_role_and_endpoint_each_have_their_own() -> None:
    role = "arn:aws:iam::123456789012:role/r"
    services = f"""
  a.A: {ARN}
  a.B: {ARN}:live
  a.C: {ARN}2
  a.D: {{target: "{ARN}", role_arn: "{role}"}}
  a.E: {{target: "{ARN}", endpoint_url: "http://127.0.0.1:1"}}
"""

    assert 5 == await _gates(services)


async def test_other_targets_share_nothing() -> None:
    """They learn nothing: each entry has a queue of its own."""
    services = '{a.A: "https://h/x", a.B: "https://h/x", a.C: "grpc://h:1", a.D: "grpc://h:1"}'

    assert 4 == await _gates(services)


async def test_a_reload_keeps_the_gates_of_targets_that_did_not_change() -> None:
    shared = _shared()
    await _open(f"{{a.A: {ARN}, a.B: {ARN}2}}", shared)
    before = dict(shared.gates)
    await _open(f"{{a.A: {ARN}, a.C: {ARN}3}}", shared)
    kept = [key for key, gate in shared.gates.items() if before.get(key) is gate]

    assert (2, 1) == (len(shared.gates), len(kept))


async def test_a_reload_that_changes_the_way_to_a_function_learns_anew() -> None:
    shared = _shared()
    await _open(f"{{a.A: {ARN}}}", shared)
    before = set(shared.gates)
    await _open(f"{{a.A: {ARN}}}", shared, aws='{region: eu-west-1, endpoint_url: "http://127.0.0.1:1"}')

    assert not before & set(shared.gates)


async def test_a_function_shows_its_limit_once() -> None:
    """Else the metric would add it up."""
    shared = _shared()
    await _open(f"{{a.A: {ARN}, a.B: {ARN}}}", shared)
    readers = [figures.read_limit for figures in shared.targets.values()]

    assert 2 == len(readers)
    assert 1 == sum(reader is not None for reader in readers)
