"""Durable executions in the local Lambda, called by AWS's SDK: the same name and payload run once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import executions
from tests.support.emulator import Answer, Caller, handler, local_lambda

COUNTS = """
import os, pathlib, time

count = 0

def handler(event, context):
    global count
    count += 1
    if "begun" in event:
        pathlib.Path(event["begun"]).touch()
        while not os.path.exists(event["wait_for"]):
            time.sleep(0.005)
    if "raise" in event:
        raise ValueError(f"run {count}")
    return {"count": count, "large": "x" * event.get("size", 0)}
"""

ARN_HEADER = "x-amz-durable-execution-arn"
ARN_PATTERN = get_session().get_service_model("lambda").shape_for("DurableExecutionArn").metadata["pattern"]


def _function(folder: Path, **options: Any) -> FunctionConfig:
    return handler(folder, COUNTS, timeout=60.0, **options)


async def _execute(caller: Caller, name: str, event: object = None, **options: Any) -> Answer:
    return await caller.invoke(event, DurableExecutionName=name, Qualifier="live", **options)


async def test_the_same_request_gets_the_same_execution(tmp_path: Path) -> None:
    """Its ARN is one that AWS's model takes. Another name is another execution."""
    async with local_lambda(_function(tmp_path)) as caller:
        first, again, other = [await _execute(caller, name) for name in ("a", "a", "b")]
        plain = await caller.invoke()

    assert [1, 1, 2, 3] == [answer.result["count"] for answer in (first, again, other, plain)]
    assert re.fullmatch(ARN_PATTERN, first.headers[ARN_HEADER])
    assert "/durable-execution/a/" in first.headers[ARN_HEADER]
    assert first.headers[ARN_HEADER] == again.headers[ARN_HEADER] != other.headers[ARN_HEADER]
    assert ARN_HEADER not in plain.headers


async def test_a_second_request_waits_for_the_execution_under_way(tmp_path: Path) -> None:
    event = {"begun": str(tmp_path / "begun"), "wait_for": str(tmp_path / "go")}
    async with local_lambda(_function(tmp_path)) as caller:
        loop = asyncio.get_running_loop()
        first = loop.create_task(_execute(caller, "a", event))
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        second = loop.create_task(_execute(caller, "a", event))
        (tmp_path / "go").touch()
        answers = await asyncio.gather(first, second)

    assert [1, 1] == [answer.result["count"] for answer in answers]


async def test_another_payload_under_the_same_name_is_refused(tmp_path: Path) -> None:
    async with local_lambda(_function(tmp_path)) as caller:
        await _execute(caller, "a", {"x": 1})
        refused = await caller.refusal({"x": 2}, DurableExecutionName="a", Qualifier="live")
        again = await _execute(caller, "a", {"x": 1})

    assert "DurableExecutionAlreadyStartedException" == refused["Error"]["Code"]
    assert 409 == refused["ResponseMetadata"]["HTTPStatusCode"]
    assert 1 == again.result["count"]


async def test_a_failed_execution_is_not_run_again(tmp_path: Path) -> None:
    async with local_lambda(_function(tmp_path)) as caller:
        first, again = [await _execute(caller, "a", {"raise": True}) for _ in range(2)]

    assert "Unhandled" == first.function_error == again.function_error
    assert "run 1" == first.result["errorMessage"] == again.result["errorMessage"]
    assert first.headers[ARN_HEADER] == again.headers[ARN_HEADER]


async def test_a_throttled_request_leaves_the_name_free(tmp_path: Path) -> None:
    async with local_lambda(_function(tmp_path)) as caller:
        await asyncio.to_thread(
            caller.client.put_function_concurrency, FunctionName="fn", ReservedConcurrentExecutions=0
        )
        refused = await caller.refusal(DurableExecutionName="a", Qualifier="live")
        await asyncio.to_thread(caller.client.delete_function_concurrency, FunctionName="fn")
        ran = await _execute(caller, "a", {"x": 2})

    assert "TooManyRequestsException" == refused["Error"]["Code"]
    assert 1 == ran.result["count"]


@pytest.mark.parametrize(
    "options",
    [
        {"DurableExecutionName": "a"},
        {"DurableExecutionName": "a b", "Qualifier": "live"},
        {"DurableExecutionName": "x" * 65, "Qualifier": "live"},
        {"DurableExecutionName": "a", "Qualifier": "live", "InvocationType": "Event"},
    ],
)
async def test_what_cannot_be_an_execution_is_refused(tmp_path: Path, options: dict[str, str]) -> None:
    """A function without a qualifier, a name against the pattern, and (only here) an event."""
    async with local_lambda(_function(tmp_path)) as caller:
        refused = await caller.refusal(**options)

    assert "InvalidParameterValueException" == refused["Error"]["Code"]


async def test_tenants_share_no_execution(tmp_path: Path) -> None:
    """Nothing of one tenant reaches another, even under the same name."""
    async with local_lambda(_function(tmp_path, tenants=True)) as caller:
        await _execute(caller, "a", TenantId="one")
        refused = await caller.refusal(DurableExecutionName="a", Qualifier="live", TenantId="two")

    assert "DurableExecutionAlreadyStartedException" == refused["Error"]["Code"]


@pytest.mark.parametrize(("most", "size"), [("MOST_EXECUTIONS", 2), ("MOST_BYTES", 2500)])
async def test_the_oldest_executions_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str, size: int
) -> None:
    """Above a number and a sum of bytes, of which each result here takes a thousand."""
    monkeypatch.setattr(executions, most, size)
    async with local_lambda(_function(tmp_path)) as caller:
        for name in ("a", "b", "c"):
            await _execute(caller, name, {"size": 1000})
        kept = await _execute(caller, "c", {"size": 1000})
        forgotten = await _execute(caller, "a", {"size": 1000})

    assert (3, 4) == (kept.result["count"], forgotten.result["count"])
