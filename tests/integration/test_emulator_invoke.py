"""The local Lambda's Invoke API, called with AWS's own SDK."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.aws.invoke import MAX_CLIENT_CONTEXT, MAX_REPLY, MAX_REQUEST
from bridge.emulator import local_lambda as local_lambda_module
from tests.support.emulator import local_lambda, runtime

ECHO = """
while True:
    request_id, event, headers = next_invocation()
    answer(request_id, {"event": event, "headers": dict(headers)})
"""
SIZED = """
while True:
    request_id, event, _ = next_invocation()
    status, _, body = ask("POST", f"/invocation/{request_id}/response", b'"' + b"x" * (event["size"] - 2) + b'"')
    print(status, body.decode().strip(), flush=True)
"""
SLEEPER = """
while True:
    request_id, event, _ = next_invocation()
    print("begins", flush=True)
    time.sleep(event.get("sleep", 0))
    answer(request_id, os.getpid())
    print("ends", flush=True)
"""
ARN = "arn:aws:lambda:us-east-1:123456789012:function:fn"


@pytest.mark.parametrize(
    "name",
    ["fn", "123456789012:function:fn", ARN, "arn:aws:lambda:eu-west-1:210987654321:function:fn"],
)
async def test_a_function_is_found_by_name_partial_arn_and_arn(tmp_path: Path, name: str) -> None:
    """Account and region are not compared: an ARN written for AWS runs here."""
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        answer = await caller.invoke({"a": [1]}, name=name)

    assert (answer.status, answer.function_error, answer.version) == (200, None, "$LATEST")
    assert answer.result["event"] == {"a": [1]}
    assert answer.result["headers"]["Lambda-Runtime-Invoked-Function-Arn"] == ARN


async def test_an_alias_runs_the_one_version_there_is(tmp_path: Path) -> None:
    """Any alias stands for $LATEST; the function sees the ARN with it."""
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        by_query = await caller.invoke(Qualifier="live")
        by_name = await caller.invoke(name=f"{ARN}:live", Qualifier="live")

    arn = "Lambda-Runtime-Invoked-Function-Arn"
    assert [f"{ARN}:live"] * 2 == [a.result["headers"][arn] for a in (by_query, by_name)]
    assert by_query.version == "$LATEST"


async def test_what_is_not_found_is_named(tmp_path: Path) -> None:
    """An unknown function and a version, of which none is ever published."""
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        function = await caller.refusal(name="nosuch")
        version = await caller.refusal(Qualifier="7")

    assert [r["ResponseMetadata"]["HTTPStatusCode"] for r in (function, version)] == [404, 404]
    assert function["Error"] == {
        "Code": "ResourceNotFoundException",
        "Message": "Function not found: arn:aws:lambda:us-east-1:123456789012:function:nosuch",
    }
    assert function["Type"] == "User"
    assert f"Function not found: {ARN}:7" == version["Error"]["Message"]


async def test_two_qualifiers_that_differ_are_refused(tmp_path: Path) -> None:
    """As AWS: the name's own and the query's."""
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        refusal = await caller.refusal(name="fn:one", Qualifier="two")

    assert refusal["Error"]["Code"] == "InvalidParameterValueException"


async def test_the_function_is_told_what_aws_tells_it(tmp_path: Path) -> None:
    """Request id, deadline, trace id and the client context, decoded."""
    context = base64.b64encode(json.dumps({"custom": {"name": "Zoë\n"}}).encode()).decode()
    async with local_lambda(runtime(tmp_path, ECHO, timeout=2)) as caller:
        answer = await caller.invoke(ClientContext=context)

    told = answer.result["headers"]
    assert answer.headers["x-amzn-requestid"] == told["Lambda-Runtime-Aws-Request-Id"]
    assert answer.headers["x-amzn-trace-id"] == told["Lambda-Runtime-Trace-Id"]
    assert told["Lambda-Runtime-Trace-Id"].startswith("Root=1-")
    assert json.loads(told["Lambda-Runtime-Client-Context"]) == {"custom": {"name": "Zoë\n"}}
    assert len("1795257194120") == len(told["Lambda-Runtime-Deadline-Ms"])


@pytest.mark.parametrize(
    "context",
    [
        "no base64!",
        "bm8ganNvbg==",
        base64.b64encode(b"[1]").decode(),
        base64.b64encode(b'{"a":' * 400 + b"[" * 300 + b"]" * 300).decode(),
        base64.b64encode(b"[" * 2000).decode(),
        "A" * (MAX_CLIENT_CONTEXT + 1),
    ],
)
async def test_a_client_context_must_be_a_small_json_object_in_base64(tmp_path: Path, context: str) -> None:
    """Neither other text, nor other JSON, nor more than 3,583 bytes."""
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        refusal = await caller.refusal(ClientContext=context)

    assert refusal["Error"]["Code"] == "InvalidRequestContentException"


DEEP = 100_000


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"{} x",
        b'"\xff"',
        b"nonsense",
        b"[" * DEEP + b"]" * DEEP,
        b"[" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"a":' + b"[[" * DEEP + b"]]" * DEEP + b"}",
    ],
    ids=lambda payload: repr(payload[:12]),
)
async def test_a_payload_that_is_not_json_is_refused(tmp_path: Path, payload: bytes) -> None:
    """Before the function starts, with AWS's type and words."""
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        refusal = await caller.refusal(Payload=payload)

    assert refusal["Error"]["Code"] == "InvalidRequestContentException"
    assert refusal["Error"]["Message"].startswith("Could not parse request body into json: ")


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
@pytest.mark.parametrize(
    "path", ["2015-03-31/functions/fn/invocations", "2021-11-15/functions/fn/response-streaming-invocations"]
)
async def test_json_that_is_nested_too_deep_is_refused_quietly(
    tmp_path: Path, path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller's mistake: 400, and nothing in the bridge's log."""
    async with (
        local_lambda(runtime(tmp_path, ECHO)) as caller,
        aiohttp.ClientSession(f"{caller.local.endpoint_url}/") as session,
        session.post(
            path, data=b"[" * DEEP + b"]" * DEEP, headers={**SIGNED, "X-Amz-Invocation-Type": kind}
        ) as response,
    ):
        assert 400 == response.status

    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


async def test_no_payload_is_an_empty_object(tmp_path: Path) -> None:
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        answer = await caller.invoke(Payload=b"")

    assert answer.result["event"] == {}


async def test_a_request_may_be_one_byte_below_six_mebibytes(tmp_path: Path) -> None:
    """6,291,455 bytes pass; 6,291,456 are refused, saying how many came and how many may."""
    sizes = """
    while True:
        request_id, event, _ = next_invocation()
        answer(request_id, len(event))
    """
    async with local_lambda(runtime(tmp_path, sizes)) as caller:
        answer = await caller.invoke("x" * (MAX_REQUEST - 3))
        refusal = await caller.refusal("x" * (MAX_REQUEST - 2))

    assert answer.result == MAX_REQUEST - 3
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert refusal["Error"] == {
        "Code": "RequestEntityTooLargeException",
        "Message": "6291456 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)",
    }


async def test_a_request_of_unknown_length_is_counted(tmp_path: Path) -> None:
    """Chunked, it is refused with its real size, and not held."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(7):
            yield b"x" * 1024 * 1024

    async with (
        local_lambda(runtime(tmp_path, ECHO)) as caller,
        aiohttp.ClientSession() as session,
        session.post(
            f"{caller.local.endpoint_url}/2015-03-31/functions/fn/invocations",
            data=body(),
            headers=SIGNED,
        ) as response,
    ):
        refused = await response.json()

    assert response.status == 413
    assert refused["Message"].startswith("7340032 byte payload is too large")


async def test_a_reply_may_be_six_mebibytes_and_a_hundred_bytes(tmp_path: Path) -> None:
    """6,291,556 bytes pass whole; one more is a function error, and the runtime is told 413."""
    async with local_lambda(runtime(tmp_path, SIZED)) as caller:
        whole = await caller.invoke({"size": MAX_REPLY})
        above = await caller.invoke({"size": MAX_REPLY + 1})
        after = await caller.invoke({"size": 2})

    assert (whole.function_error, len(whole.payload)) == (None, MAX_REPLY)
    assert above.function_error == "Unhandled"
    assert above.result == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert after.payload == b'""'
    assert any(line.startswith("413 ") for _, line in caller.lines)


async def test_dry_run_runs_nothing(tmp_path: Path) -> None:
    """204 without a body; what would be refused is refused."""
    async with local_lambda(runtime(tmp_path, "print('started')")) as caller:
        answer = await caller.invoke(InvocationType="DryRun")
        refusal = await caller.refusal(name="nosuch", InvocationType="DryRun")

    assert (answer.status, answer.payload, caller.lines) == (204, b"", [])
    assert refusal["Error"]["Code"] == "ResourceNotFoundException"


async def test_an_event_runs_once_behind_the_response(tmp_path: Path) -> None:
    """202 at once; events above the concurrency wait their turn."""
    source = """
    while True:
        request_id, event, headers = next_invocation()
        with open("ran", "a") as file:
            file.write(f"{event} {headers['Lambda-Runtime-Client-Context']}\\n")
        answer(request_id, None)
        print("ran", flush=True)
    """
    context = base64.b64encode(b"{}").decode()
    async with local_lambda(runtime(tmp_path, source, concurrency=1)) as caller:
        answers = [await caller.invoke(n, InvocationType="Event", ClientContext=context) for n in range(3)]
        await caller.line("ran", times=3)

    assert [(answer.status, answer.payload) for answer in answers] == [(202, b"")] * 3
    # AWS passes the client context on synchronous invocations only.
    assert (tmp_path / "ran").read_text() == "0 None\n1 None\n2 None\n"


async def test_an_event_above_one_mebibyte_is_refused(tmp_path: Path) -> None:
    async with local_lambda(runtime(tmp_path, ECHO)) as caller:
        refusal = await caller.refusal("x" * (1024 * 1024 - 2), InvocationType="Event")

    assert (
        refusal["Error"]["Message"]
        == "1048576 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    )


_SIGNATURE = "Credential=a/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"


async def test_above_its_concurrency_a_function_is_throttled(tmp_path: Path) -> None:
    """429 with AWS's reason and a time to wait; the invocation in flight is not disturbed."""
    config = runtime(tmp_path, SLEEPER, concurrency=1)
    async with local_lambda(config) as caller, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(caller.invoke({"sleep": 0.3}))
        await caller.line("begins")
        refusal = await caller.refusal()
        await first

    assert refusal["Error"] == {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}
    assert refusal["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert refusal["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert first.result().function_error is None


async def test_concurrency_can_be_changed_while_a_function_runs(tmp_path: Path) -> None:
    """By PutFunctionConcurrency of the SDK: invocations in flight go on, and DeleteFunctionConcurrency undoes it."""
    config = runtime(tmp_path, SLEEPER, concurrency=5)
    async with local_lambda(config) as caller, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(caller.invoke({"sleep": 0.3}))
        await caller.line("begins")
        put = await asyncio.to_thread(
            caller.client.put_function_concurrency, FunctionName="fn", ReservedConcurrentExecutions=0
        )
        refusal = await caller.refusal()
        told = await asyncio.to_thread(caller.client.get_function_concurrency, FunctionName="fn")
        await asyncio.to_thread(caller.client.delete_function_concurrency, FunctionName="fn")
        await caller.invoke({"sleep": 0})
        described = await asyncio.to_thread(caller.client.get_function, FunctionName="fn")

    assert refusal["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert first.result().function_error is None
    assert (put["ReservedConcurrentExecutions"], told["ReservedConcurrentExecutions"]) == (0, 0)
    assert described["Concurrency"] == {"ReservedConcurrentExecutions": 5}


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"ReservedConcurrentExecutions":-1}', "x" * 200_000])
async def test_a_wrong_concurrency_is_refused(tmp_path: Path, body: str) -> None:
    signed = {"Authorization": f"AWS4-HMAC-SHA256 {_SIGNATURE}", "X-Amz-Date": "20260101T000000Z"}
    async with local_lambda(runtime(tmp_path, SLEEPER)) as caller, aiohttp.ClientSession() as session:
        url = f"{caller.local.endpoint_url}/2017-10-31/functions/fn/concurrency"
        async with session.put(url, data=body, headers=signed) as answer:
            told = (answer.status, answer.headers["x-amzn-ErrorType"])

    assert told == (400, "InvalidParameterValueException")


async def test_an_account_and_a_rate_have_reasons_of_their_own(tmp_path: Path) -> None:
    config = runtime(tmp_path, SLEEPER, rate=1)
    async with local_lambda(config) as caller:
        await caller.invoke({"sleep": 0})
        rate = await caller.refusal()
    config = runtime(tmp_path, SLEEPER)
    async with local_lambda(config, concurrency=1) as caller, asyncio.TaskGroup() as tasks:
        tasks.create_task(caller.invoke({"sleep": 0.3}))
        await caller.line("begins")
        account = await caller.refusal()

    assert rate["Reason"] == "ReservedFunctionInvocationRateLimitExceeded"
    assert account["Reason"] == "ConcurrentInvocationLimitExceeded"


async def test_the_log_tail_has_the_lines_that_aws_writes(tmp_path: Path) -> None:
    """START, what the function wrote on stdout and stderr in order, END, REPORT; Init Duration the first time only."""
    source = """
    print("starting", flush=True)
    while True:
        request_id, event, _ = next_invocation()
        print("one", flush=True)
        print("two", file=sys.stderr, flush=True)
        answer(request_id, None)
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        cold = await caller.invoke(LogType="Tail")
        warm = await caller.invoke(LogType="Tail")
        without = await caller.invoke()

    request_id = warm.headers["x-amzn-requestid"]
    assert cold.log.startswith("starting\nSTART RequestId: ")
    assert "Init Duration: " in cold.log
    *lines, report = warm.log.splitlines()
    assert [
        f"START RequestId: {request_id} Version: $LATEST",
        "one",
        "two",
        f"END RequestId: {request_id}",
    ] == lines
    assert [f"REPORT RequestId: {request_id}", "Duration", "Billed Duration", "Memory Size", "Max Memory Used"] == [
        part.rpartition(": ")[0] if n else part for n, part in enumerate(report.rstrip("\t").split("\t"))
    ]
    assert "x-amz-log-result" not in without.headers


TRACED = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1"


async def test_the_log_has_the_lines_that_aws_writes(tmp_path: Path) -> None:
    """Whether or not the invoker wants them, and the same as in the tail. A sampled invocation has one of X-Ray."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        print("said", flush=True)
        answer(request_id, None)
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        await caller.invoke()
        before = [line for _, line in caller.lines]
        caller.lines.clear()
        caller.client.meta.events.register("before-sign.lambda.Invoke", _add_trace)
        traced = await caller.invoke(LogType="Tail")
        after = [line for _, line in caller.lines]

    assert ["START", "said", "END", "REPORT"] == [line.partition(" ")[0] for line in before]
    assert re.fullmatch(
        r"REPORT RequestId: [0-9a-f-]{36}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB"
        r"\tMax Memory Used: [1-9]\d* MB\tInit Duration: \d+\.\d\d ms\t",
        before[-1],
    )
    assert traced.log.splitlines() == after
    assert (
        "XRAY TraceId: 1-67891233-abcdef012345678912345678\tSegmentId: 53995c3f42cd8ad8\tSampled: true\t" == after[-1]
    )


def _add_trace(request: Any, **_: object) -> None:
    request.headers["X-Amzn-Trace-Id"] = TRACED


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("next_invocation()\ntime.sleep(60)", ["START", "RequestId:", "END", "REPORT"]),
        ("sys.exit(3)", ["INIT_REPORT", "START", "RequestId:", "END", "REPORT"]),
    ],
)
async def test_the_log_of_a_failure_has_the_lines_that_aws_writes(
    tmp_path: Path, source: str, words: list[str]
) -> None:
    """A time limit, and a process that ends before its first invocation."""
    async with local_lambda(runtime(tmp_path, source, timeout=0.5)) as caller:
        answer = await caller.invoke(LogType="Tail")
        lines = [line for _, line in caller.lines]

    assert words == [line.partition(" ")[0] for line in lines]
    assert "\tStatus: " in lines[-1]
    assert answer.log.splitlines() == lines


async def test_reports_may_be_left_out(tmp_path: Path) -> None:
    """For `call`, and above the level info. Log tails have them all the same."""
    async with local_lambda(runtime(tmp_path, ECHO), shows_reports=False) as caller:
        answer = await caller.invoke(LogType="Tail")

    assert [] == caller.lines
    assert "REPORT RequestId: " in answer.log


async def test_the_log_tail_is_the_last_four_kilobytes(tmp_path: Path) -> None:
    source = """
    while True:
        request_id, event, _ = next_invocation()
        print("x" * 10000, flush=True)
        answer(request_id, None)
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        answer = await caller.invoke(LogType="Tail")

    assert len(answer.log) == 4096
    assert "REPORT RequestId: " in answer.log


async def test_functions_are_listed_and_described(tmp_path: Path) -> None:
    """What list_functions, get_function and waiters need; never the environment."""
    config = runtime(tmp_path, ECHO, env={"SECRET": "s"}, concurrency=4, timeout=1.5)
    async with local_lambda(config) as caller:
        listed = await asyncio.to_thread(caller.client.list_functions)
        described = await asyncio.to_thread(caller.client.get_function, FunctionName="fn")
        bare = await asyncio.to_thread(caller.client.get_function_configuration, FunctionName=ARN)

    assert [(f["FunctionName"], f["FunctionArn"], f["Timeout"], f["MemorySize"]) for f in listed["Functions"]] == [
        ("fn", ARN, 2, 128)
    ]
    assert described["Configuration"]["State"] == "Active"
    assert described["Concurrency"]["ReservedConcurrentExecutions"] == 4
    assert bare["Version"] == "$LATEST"
    assert "SECRET" not in str((listed, described, bare))


SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, "
    "Signature=0",
    "X-Amz-Date": "20261121T000000Z",
}


@pytest.mark.parametrize(
    ("headers", "status", "error_type"),
    [
        ({}, 403, "MissingAuthenticationTokenException"),
        ({"Authorization": "Bearer s3cret"}, 403, "IncompleteSignatureException"),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=s3cret"}, 403, "IncompleteSignatureException"),
        ({"Authorization": SIGNED["Authorization"]}, 403, "IncompleteSignatureException"),
        ({**SIGNED, "X-Amz-Invocation-Type": "Sometimes"}, 400, "InvalidParameterValueException"),
        ({**SIGNED, "X-Amz-Log-Type": "Head"}, 400, "InvalidParameterValueException"),
    ],
)
async def test_a_request_must_be_signed_and_make_sense(
    tmp_path: Path, headers: dict[str, str], status: int, error_type: str
) -> None:
    """Refused in AWS's form, with a request id, and without repeating what was sent."""
    async with local_lambda(runtime(tmp_path, ECHO)) as caller, aiohttp.ClientSession() as session:
        url = f"{caller.local.endpoint_url}/2015-03-31/functions/fn/invocations"
        async with session.post(url, data=b"{}", headers=headers) as response:
            body = await response.json()

    assert (status, error_type) == (response.status, response.headers["x-amzn-ErrorType"])
    assert len(response.headers["x-amzn-RequestId"]) == 36
    assert body["Type"] == "User"
    assert "s3cret" not in body["message"]


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/", "serves POST /2015-03-31/functions/NAME/invocations"),
        ("GET", "/2015-03-31/functions/fn/invocations", "serves POST"),
        ("POST", "/2015-03-31/functions", "serves POST"),
    ],
)
async def test_what_is_not_served_names_what_is(tmp_path: Path, method: str, path: str, words: str) -> None:
    async with (
        local_lambda(runtime(tmp_path, ECHO)) as caller,
        aiohttp.ClientSession() as session,
        session.request(method, caller.local.endpoint_url + path) as response,
    ):
        body = await response.json()

    assert (
        response.status,
        response.headers["x-amzn-ErrorType"],
    ) == (404, "UnknownOperationException")
    assert words in body["Message"]


async def test_a_caller_that_goes_away_does_not_stop_the_function(tmp_path: Path) -> None:
    """It runs to its end, its result is dropped, and the same process serves the next."""
    async with local_lambda(runtime(tmp_path, SLEEPER)) as caller:
        before = (await caller.invoke()).result
        timeout = aiohttp.ClientTimeout(total=0.1)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = f"{caller.local.endpoint_url}/2015-03-31/functions/fn/invocations"
            with pytest.raises(TimeoutError):
                await session.post(url, data=b'{"sleep": 0.3}', headers=SIGNED)
        await caller.line("ends", times=2)
        after = (await caller.invoke()).result

    assert before == after


async def test_idle_connections_make_room_for_new_ones(tmp_path: Path) -> None:
    """Nobody can lock others out by connecting: the oldest that has no request goes."""
    async with local_lambda(runtime(tmp_path, ECHO), max_connections=3) as caller:
        host, _, port = caller.local.endpoint_url.removeprefix("http://").partition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
        async with asyncio.timeout(local_lambda_module.IDLE_TIMEOUT / 3):  # not for being idle
            assert b"" == await idle[0][0].read()
        answer = await caller.invoke()
        for _, writer in idle:
            writer.close()

    assert 200 == answer.status


async def test_invocations_in_flight_make_no_room(tmp_path: Path) -> None:
    """Then the new connection is closed, and the invocation goes on."""
    async with local_lambda(runtime(tmp_path, SLEEPER), max_connections=1) as caller:
        invocation = asyncio.get_running_loop().create_task(caller.invoke({"sleep": 0.5}))
        await caller.line("begins")
        host, _, port = caller.local.endpoint_url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(local_lambda_module.IDLE_TIMEOUT / 3):  # not for being idle
            try:
                assert b"" == await reader.read()
            except ConnectionResetError:
                pass
        writer.close()
        answer = await invocation

    assert (200, None) == (answer.status, answer.function_error)
