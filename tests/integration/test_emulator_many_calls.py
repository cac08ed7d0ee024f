"""Instances that serve many invocations at once (`instance_concurrency`): with our runtime, AWS's own and others."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import Answer, Caller, handler, local_lambda, runtime

BOTH = pytest.mark.parametrize("runtime_name", ["lambda_fn", "awslambdaric"])

MEETS_OTHERS = """
import logging, os, sys, threading, time

def meet(name, count):
    # Files, for the workers may be processes.
    open(f"{name}-{os.getpid()}-{threading.get_ident()}", "w").close()
    end = time.monotonic() + 60
    while len([each for each in os.listdir() if each.startswith(name)]) < count:
        assert time.monotonic() < end
        time.sleep(0.005)

def handler(event, context):
    if "meet" in event:
        meet(event["meet"], event["count"])
    if "say" in event:
        for _ in range(20):
            print("line of", context.aws_request_id, "x" * event["say"])
        logging.warning("record of %s", context.aws_request_id)
    if "raise" in event:
        raise ValueError(event["raise"])
    if "exit" in event:
        sys.exit(event["exit"])
    if "die" in event:
        os._exit(3)
    time.sleep(event.get("sleep", 0))
    if "then" in event:
        open(event["then"], "w").close()
    return {
        "n": event.get("n"),
        "pid": os.getpid(),
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "own_trace": getattr(context, "xray_trace_id", None),
    }
"""


@pytest.fixture(autouse=True)
async def _threads_for_the_sdk() -> AsyncIterator[None]:
    """boto3 blocks a thread for each call."""
    with ThreadPoolExecutor(40) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        yield


async def all_of(caller: Caller, *events: dict[str, Any]) -> list[Answer]:
    return await asyncio.gather(*(caller.invoke(event) for event in events))


@BOTH
async def test_one_instance_serves_many_calls_at_once(tmp_path: Path, runtime_name: str) -> None:
    """Each gets its own answer. Ours is one process, AWS's one for each call."""
    config = handler(tmp_path, MEETS_OTHERS, runtime=runtime_name, instance_concurrency=6, concurrency=1, timeout=60)
    async with local_lambda(config) as caller:
        answers = await all_of(caller, *({"meet": "a", "count": 6, "n": n} for n in range(6)))
        again = await all_of(caller, *({"meet": "b", "count": 6, "n": n} for n in range(6)))

    assert list(range(6)) == [answer.result["n"] for answer in answers]
    pids = {answer.result["pid"] for answer in (*answers, *again)}
    assert (1 if runtime_name == "lambda_fn" else 6) == len(pids)


@BOTH
async def test_log_lines_are_whole_and_have_their_request(tmp_path: Path, runtime_name: str) -> None:
    """Also in the log tails of the calls."""
    config = handler(tmp_path, MEETS_OTHERS, runtime=runtime_name, instance_concurrency=4, concurrency=1, timeout=60)
    event = {"meet": "a", "count": 4, "say": 6000}
    async with local_lambda(config) as caller:
        answers = await asyncio.gather(*(caller.invoke(event, LogType="Tail") for _ in range(4)))
        lines = [line for _, line in caller.lines]

    ids = [answer.headers["x-amzn-requestid"] for answer in answers]
    said = Counter(line for line in lines if line.startswith("line of"))
    assert {f"line of {request_id} {'x' * 6000}": 20 for request_id in ids} == said
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert sorted(ids) == sorted(each["requestId"] for each in records if each["message"].startswith("record of"))
    for request_id, answer in zip(ids, answers, strict=True):
        assert answer.log.endswith("\t\n")
        assert f"REPORT RequestId: {request_id}" in answer.log
        assert {request_id} == set(re.findall(r"(?:line of|RequestId:|record of) ([0-9a-f-]{36})", answer.log))


@BOTH
async def test_failures_concern_one_call(tmp_path: Path, runtime_name: str) -> None:
    config = handler(tmp_path, MEETS_OTHERS, runtime=runtime_name, instance_concurrency=4, concurrency=1, timeout=60)
    async with local_lambda(config) as caller:
        bad, *good = await all_of(
            caller,
            {"meet": "a", "count": 4, "raise": "boom"},
            *({"meet": "a", "count": 4, "n": n} for n in range(3)),
        )

    assert ("Unhandled", "ValueError") == (bad.function_error, bad.result["errorType"])
    assert [0, 1, 2] == [answer.result["n"] for answer in good]


async def test_each_call_has_its_own_trace_id(tmp_path: Path) -> None:
    """In the context; the variable of the whole process has none."""
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=3, concurrency=1, timeout=60)
    async with local_lambda(config) as caller:
        answers = await all_of(caller, *({"meet": "a", "count": 3} for _ in range(3)))

    assert [None] * 3 == [answer.result["trace"] for answer in answers]
    assert [answer.headers["x-amzn-trace-id"] for answer in answers] == [
        answer.result["own_trace"] for answer in answers
    ]


async def test_a_handler_that_exits_ends_its_call_alone(tmp_path: Path) -> None:
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=2, concurrency=1, timeout=60)
    async with local_lambda(config) as caller:
        bad, good = await all_of(caller, {"meet": "a", "count": 2, "exit": 3}, {"meet": "a", "count": 2, "n": 1})
        later = await caller.invoke()

    assert "Runtime.ExitError" == bad.result["errorType"]
    assert good.result["pid"] == later.result["pid"]


@BOTH
async def test_a_process_that_dies_fails_each_of_its_calls_once(tmp_path: Path, runtime_name: str) -> None:
    """The next call starts another one. Of AWS's processes only the one that died is concerned: its call times out."""
    config = handler(tmp_path, MEETS_OTHERS, runtime=runtime_name, instance_concurrency=4, concurrency=1, timeout=4)
    async with local_lambda(config) as caller:
        answers = await all_of(
            caller,
            {"meet": "a", "count": 4, "die": True},
            *({"meet": "a", "count": 4, "sleep": 2, "n": n} for n in range(3)),
        )
        later = await caller.invoke({"n": 9})

    errors = [answer.result.get("errorType") for answer in answers]
    if runtime_name == "lambda_fn":
        assert ["Runtime.ExitError"] * 4 == errors
        assert all("exit status 3" in answer.result["errorMessage"] for answer in answers)
    else:
        assert ["Sandbox.Timedout", None, None, None] == errors
    assert [200] * 4 == [answer.status for answer in answers]
    assert 9 == later.result["n"]


async def test_calls_that_wait_for_an_init_that_fails_get_its_failure(tmp_path: Path) -> None:
    """All of them, from one process."""
    source = "import time\ntime.sleep(1)\nopen('started', 'a').write('x')\nraise ValueError('no init')\n"
    config = handler(tmp_path, source, instance_concurrency=4, concurrency=1, timeout=60)
    async with local_lambda(config) as caller:
        answers = await all_of(caller, *({} for _ in range(4)))

    assert ["ValueError"] * 4 == [answer.result["errorType"] for answer in answers]
    assert "x" == (tmp_path / "started").read_text()


@BOTH
async def test_a_timeout_concerns_one_call_and_the_code_goes_on(tmp_path: Path, runtime_name: str) -> None:
    """As on AWS: the process is not killed, its answer comes too late, and then the place is free again."""
    config = handler(tmp_path, MEETS_OTHERS, runtime=runtime_name, instance_concurrency=2, concurrency=1, timeout=1.5)
    async with local_lambda(config) as caller:
        first = await caller.invoke()
        late, timely = await all_of(caller, {"meet": "a", "count": 2, "sleep": 3}, {"meet": "a", "count": 2, "n": 1})
        during = await caller.invoke({"n": 2})
        await asyncio.sleep(3)
        after = await all_of(caller, *({"meet": "b", "count": 2, "n": n} for n in range(2)))

    assert "Sandbox.Timedout" == late.result["errorType"]
    assert "Task timed out after 1.50 seconds" in late.result["errorMessage"]
    assert (1, 2) == (timely.result["n"], during.result["n"])
    assert [0, 1] == [answer.result.get("n") for answer in after]
    if runtime_name == "lambda_fn":
        assert {first.result["pid"]} == {answer.result["pid"] for answer in (timely, during, *after)}


async def test_full_instances_get_company_up_to_a_bound(tmp_path: Path) -> None:
    """`concurrency` counts instances. Above their places AWS's error for too many requests is the answer."""
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=2, concurrency=2, timeout=60)
    async with local_lambda(config) as caller:
        running = [asyncio.get_running_loop().create_task(caller.invoke({"meet": "a", "count": 5})) for _ in range(4)]
        while len(list(tmp_path.glob("a-*"))) < 4:
            await asyncio.sleep(0.01)
        refused = await caller.refusal()
        (tmp_path / "a-5").touch()
        answers = await asyncio.gather(*running)

    assert "TooManyRequestsException" == refused["Error"]["Code"]
    assert [2, 2] == list(Counter(answer.result["pid"] for answer in answers).values())


async def test_calls_fill_an_instance_before_they_start_another(tmp_path: Path) -> None:
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=3, concurrency=5, timeout=60)
    async with local_lambda(config) as caller:
        answers = await all_of(caller, *({"meet": "a", "count": 3} for _ in range(3)))
    assert 1 == len({answer.result["pid"] for answer in answers})


async def test_a_runtime_with_fewer_workers_gets_fewer_calls(tmp_path: Path) -> None:
    """One that knows nothing of concurrency asks once at a time: the calls take turns."""
    config = runtime(
        tmp_path,
        """
        while True:
            request_id, event, _ = next_invocation()
            time.sleep(0.05)
            answer(request_id, event["n"])
        """,
        instance_concurrency=4,
        concurrency=1,
        timeout=30,
    )
    async with local_lambda(config) as caller:
        answers = await all_of(caller, *({"n": n} for n in range(4)))
    assert [0, 1, 2, 3] == [answer.result for answer in answers]


async def test_an_instance_is_idle_only_without_any_call(tmp_path: Path) -> None:
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=2, concurrency=1, timeout=60)
    async with local_lambda(config, idle_timeout=0.4) as caller:
        slow, quick = await all_of(caller, {"meet": "a", "count": 2, "sleep": 1.5}, {"meet": "a", "count": 2})
    assert None is slow.function_error
    assert slow.result["pid"] == quick.result["pid"]


async def test_streams_run_side_by_side(tmp_path: Path) -> None:
    """Each InvokeWithResponseStream has the chunks of its own call."""
    source = """
    from threading import Barrier
    from lambda_fn import StreamingReply

    together = Barrier(3, timeout=60)

    def handler(event, context):
        def chunks():
            for part in range(3):
                together.wait()
                yield f"{event['n']}:{part};".encode()
        return StreamingReply(chunks())
    """
    config = handler(tmp_path, source, instance_concurrency=3, concurrency=1, timeout=60)

    async with local_lambda(config) as caller:

        def read(n: int) -> str:
            response = caller.client.invoke_with_response_stream(FunctionName="fn", Payload=json.dumps({"n": n}))
            chunks = [each["PayloadChunk"]["Payload"] for each in response["EventStream"] if "PayloadChunk" in each]
            return b"".join(chunks).decode()

        streams = await asyncio.gather(*(asyncio.to_thread(read, n) for n in range(3)))

    assert [f"{n}:0;{n}:1;{n}:2;" for n in range(3)] == streams


async def test_a_reload_lets_all_calls_end_where_they_are(tmp_path: Path) -> None:
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=2, concurrency=2, timeout=60)
    async with local_lambda(config) as caller:
        running = [asyncio.get_running_loop().create_task(caller.invoke({"meet": "a", "count": 3})) for _ in range(2)]
        while len(list(tmp_path.glob("a-*"))) < 2:
            await asyncio.sleep(0.01)
        await caller.local.update({"fn": replace(config, timeout=61)})
        after = await caller.invoke()
        (tmp_path / "a-3").touch()
        before = await asyncio.gather(*running)

    assert 1 == len({answer.result["pid"] for answer in before})
    assert before[0].result["pid"] != after.result["pid"]


async def test_asynchronous_invocations_use_the_places(tmp_path: Path) -> None:
    """Also those that come while all are taken."""
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=4, concurrency=1, timeout=60)
    async with local_lambda(config) as caller:
        events = [{"meet": f"round{n // 4}", "count": 4} for n in range(12)]
        accepted = [await caller.invoke(event, InvocationType="Event") for event in events]
        while len(list(tmp_path.glob("round*"))) < 12:
            await asyncio.sleep(0.02)

    assert {202} == {answer.status for answer in accepted}


async def test_an_instance_whose_places_are_all_stuck_is_replaced(tmp_path: Path) -> None:
    """At once, and its code goes on. The process ends when all of it has come back."""
    config = handler(tmp_path, MEETS_OTHERS, instance_concurrency=2, concurrency=1, timeout=1)
    async with local_lambda(config) as caller:
        first = await caller.invoke()
        late = await all_of(caller, *({"meet": "a", "count": 2, "sleep": 3, "then": f"done-{n}"} for n in range(2)))
        next_one = await caller.invoke()
        while len(list(tmp_path.glob("done-*"))) < 2:
            await asyncio.sleep(0.02)
        pid = first.result["pid"]
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.02)

    assert ["Sandbox.Timedout"] * 2 == [answer.result["errorType"] for answer in late]
    assert pid != next_one.result["pid"]
