"""stack: which calls share the instances of a function in full duplex, and which never do."""

from __future__ import annotations

import asyncio

import pytest

from bridge.aws.events.duplex_order import NamedCertificate, PinnedCertificate
from bridge.carriers.duplex.kept import KeptCarriers
from bridge.carriers.duplex.rendezvous import Arrived
from bridge.layers.deadline import Deadlines
from bridge.rpc.address import TcpAddress
from bridge.rpc.figures import BridgeFigures
from bridge.stack import Shared, Stack
from tests.support.configured import configured

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
ALWAYS = "duplex: {use: always}"


class Nowhere:
    """A place at which no function arrives."""

    address = TcpAddress("127.0.0.1", 50052)
    certificate: PinnedCertificate | NamedCertificate | None = None

    def expect(self, arrived: Arrived) -> str:
        return "token"

    def forget(self, token: str) -> None: ...


async def _stack(services: str, kept: KeptCarriers, *, aws: str = "region: eu-west-1") -> Stack:
    shared = Shared(BridgeFigures(), {}, Deadlines(asyncio.get_running_loop()), KEYS, attached=kept)
    config = configured(f"duplex: {{listen: '127.0.0.1:50052'}}\naws: {{{aws}}}\nservices: {{{services}}}")
    stack = Stack(config, shared, local_endpoint="")
    await stack.open()
    return stack


async def _carriers(services: str) -> int:
    kept = KeptCarriers(Nowhere())
    stack = await _stack(services, kept)
    found = len(kept._carriers)
    await stack.close()
    await kept.close()
    return found


@pytest.mark.parametrize(
    "other",
    [
        f'target: "{ARN}:live", {ALWAYS}',
        f'target: "{ARN}2", {ALWAYS}',
        f'target: "{ARN}", role_arn: "arn:aws:iam::123456789012:role/r", {ALWAYS}',
        f'target: "{ARN}", endpoint_url: "http://127.0.0.1:1", {ALWAYS}',
        f'target: "{ARN}", {ALWAYS}',
    ],
    ids=["qualifier", "function", "role", "endpoint", "entry"],
)
async def test_an_instance_belongs_to_one_function_role_endpoint_and_entry(other: str) -> None:
    assert 2 == await _carriers(f'a.A: {{target: "{ARN}", {ALWAYS}}}, a.B: {{{other}}}')


async def test_each_leg_has_its_own_instances() -> None:
    assert 2 == await _carriers(f'a.A: {{split: {{"{ARN}": 1, "{ARN}:live": 1}}}}')


async def test_a_function_that_never_takes_calls_so_has_none() -> None:
    assert 0 == await _carriers(f'a.A: {{target: "{ARN}", duplex: {{use: never}}}}, a.B: "grpc://h:1"')


@pytest.mark.parametrize(
    ("services", "aws"),
    [
        (f'a.A: {{target: "{ARN}", duplex: {{use: always, calls: 11}}}}', "region: eu-west-1"),
        (f'a.A: {{target: "{ARN}", duplex: {{use: always, idle: 6s}}}}', "region: eu-west-1"),
        (f'a.A: {{target: "{ARN}", duplex: {{use: always, attach: 31s}}}}', "region: eu-west-1"),
        (f'a.A: {{target: "{ARN}", {ALWAYS}, max_request: 1MiB}}', "region: eu-west-1"),
        (f'a.A: {{target: "{ARN}", {ALWAYS}}}', "region: eu-west-1, role_arn: 'arn:aws:iam::123456789012:role/r'"),
    ],
    ids=["calls", "idle", "attach", "limits", "role of all"],
)
async def test_a_reload_keeps_the_instances_of_unchanged_targets_alone(services: str, aws: str) -> None:
    kept = KeptCarriers(Nowhere())
    first = await _stack(f'a.A: {{target: "{ARN}", {ALWAYS}}}', kept)
    (carrier,) = kept._carriers.values()

    same = await _stack(f'a.A: {{target: "{ARN}", {ALWAYS}}}, a.B: "grpc://h:1"', kept)
    await first.close()
    assert [carrier] == list(kept._carriers.values())

    changed = await _stack(services, kept, aws=aws)
    await same.close()
    assert 1 == len(kept._carriers)
    assert carrier not in kept._carriers.values()
    await changed.close()
    await kept.close()
