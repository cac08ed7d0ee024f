"""Functions with tenants (`tenants: true`) in the local Lambda, called by AWS's SDK."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.config.schema import FunctionConfig
from tests.support.emulator import Caller, handler, local_lambda

COUNTS = """
import os, pathlib, time

count = 0

def handler(event, context):
    global count
    count += 1
    if "wait_for" in event:
        pathlib.Path(event["begun"]).touch()
        while not os.path.exists(event["wait_for"]):
            time.sleep(0.005)
    return {"tenant": context.tenant_id, "count": count, "pid": os.getpid()}
"""


def _function(folder: Path, **options: Any) -> FunctionConfig:
    return handler(folder, COUNTS, tenants=True, timeout=60.0, **options)


async def _invoke(caller: Caller, tenant: str, event: object = None) -> dict[str, Any]:
    answer = await caller.invoke(event, TenantId=tenant)
    return dict(answer.result)


@pytest.mark.parametrize("runtime", ["lambda_fn", "awslambdaric"])
async def test_tenants_share_no_instance(tmp_path: Path, runtime: str) -> None:
    """The function is told the tenant, and an instance that is free serves its own tenant alone."""
    async with local_lambda(_function(tmp_path, runtime=runtime)) as caller:
        seen = [await _invoke(caller, tenant) for tenant in ("acme", "blue/green", "acme", "blue/green")]

    assert [("acme", 1), ("blue/green", 1), ("acme", 2), ("blue/green", 2)] == [
        (each["tenant"], each["count"]) for each in seen
    ]
    assert seen[0]["pid"] == seen[2]["pid"] != seen[1]["pid"] == seen[3]["pid"]


async def test_both_of_awss_errors(tmp_path: Path) -> None:
    """A function with tenants wants one, and one without wants none; neither runs."""
    without = handler(tmp_path, COUNTS, name="plain")
    async with local_lambda(_function(tmp_path), without) as caller:
        missing = await caller.refusal()
        unexpected = await caller.refusal(name="plain", TenantId="acme")
        dry = await caller.refusal(InvocationType="DryRun")
        first = await _invoke(caller, "acme")
        plain = await caller.invoke(name="plain")

    assert ["InvalidParameterValueException"] * 3 == [each["Error"]["Code"] for each in (missing, unexpected, dry)]
    assert [400] * 3 == [each["ResponseMetadata"]["HTTPStatusCode"] for each in (missing, unexpected, dry)]
    assert missing["Error"]["Message"].startswith("The invoked function is enabled with tenancy configuration.")
    assert unexpected["Error"]["Message"].startswith("The invoked function is not enabled with tenancy")
    assert 1 == first["count"] == plain.result["count"]
    assert plain.result["tenant"] is None


@pytest.mark.parametrize("tenant", ["a,b", "a" * 257, "a;b"])
async def test_what_is_no_tenant_is_refused(tmp_path: Path, tenant: str) -> None:
    async with local_lambda(_function(tmp_path)) as caller:
        refused = await caller.refusal(TenantId=tenant)

    assert "InvalidParameterValueException" == refused["Error"]["Code"]


async def test_a_streamed_reply_has_a_tenant_too(tmp_path: Path) -> None:
    async with local_lambda(_function(tmp_path)) as caller:
        streamed = await asyncio.to_thread(
            caller.client.invoke_with_response_stream, FunctionName="fn", Payload="{}", TenantId="acme"
        )
        chunks = await asyncio.to_thread(
            lambda: [event for event in streamed["EventStream"] if "PayloadChunk" in event]
        )
        with pytest.raises(caller.client.exceptions.InvalidParameterValueException):
            await asyncio.to_thread(caller.client.invoke_with_response_stream, FunctionName="fn", Payload="{}")

    assert b'"tenant": "acme"' in b"".join(event["PayloadChunk"]["Payload"] for event in chunks)


async def test_idle_instances_of_tenants_count_towards_the_limit(tmp_path: Path) -> None:
    """2.5 for each unit of concurrency, as AWS allows 2,500 for 1,000. AWS names no reason for this throttle."""
    async with local_lambda(_function(tmp_path, concurrency=2)) as caller:
        for tenant in "abcde":
            await _invoke(caller, tenant)
        refused = await caller.refusal(TenantId="f")
        again = await _invoke(caller, "a")

    assert "TooManyRequestsException" == refused["Error"]["Code"]
    assert "Reason" not in refused
    assert 2 == again["count"]


async def test_tenants_share_the_functions_concurrency(tmp_path: Path) -> None:
    """Two busy instances of one tenant leave none for another, and this throttle has its reason."""
    async with local_lambda(_function(tmp_path, concurrency=2)) as caller:
        go = tmp_path / "go"
        busy = []
        for number in range(2):
            begun = tmp_path / f"begun-{number}"
            event = {"wait_for": str(go), "begun": str(begun)}
            busy.append(asyncio.get_running_loop().create_task(_invoke(caller, "a", event)))
            while not begun.exists():
                await asyncio.sleep(0.01)
        refused = await caller.refusal(TenantId="b")
        go.touch()
        seen = await asyncio.gather(*busy)

    assert "ReservedFunctionConcurrentInvocationLimitExceeded" == refused["Reason"]
    assert 2 == len({each["pid"] for each in seen})


async def test_the_api_says_that_a_function_has_tenants(tmp_path: Path) -> None:
    async with local_lambda(_function(tmp_path), handler(tmp_path, COUNTS, name="plain")) as caller:
        described = [
            await asyncio.to_thread(caller.client.get_function_configuration, FunctionName=name)
            for name in ("fn", "plain")
        ]

    assert {"TenantIsolationMode": "PER_TENANT"} == described[0]["TenancyConfig"]
    assert "TenancyConfig" not in described[1]
