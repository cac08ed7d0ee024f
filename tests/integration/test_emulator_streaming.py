"""InvokeWithResponseStream of the local Lambda, called with AWS's own SDK."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from botocore.exceptions import ClientError

from bridge.aws.event_stream import EventStreamReader
from bridge.aws.event_stream_encoder import EVENT_STREAM_TYPE
from tests.support.emulator import Caller, handler, local_lambda, runtime

STREAM_PATH = "/2021-11-15/functions/fn/response-streaming-invocations"
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=0",
    "X-Amz-Date": "20260101T000000Z",
}
GATED = """
while True:
    request_id, event, _ = next_invocation()
    stream = begin(request_id)
    write(stream, b"first")
    wait_for("go")
    write(stream, b"last")
    end(stream)
"""
ENDLESS = """
while True:
    request_id, event, _ = next_invocation()
    stream = begin(request_id)
    stream.sock.settimeout(0.5)
    total = event["size"]
    sent = 0
    while sent < total:
        try:
            write(stream, bytes(65536))
            sent += 65536
        except TimeoutError:
            print("held back", sent, flush=True)
            os._exit(0)
    print("sent all", end(stream), flush=True)
"""


async def stream_of(caller: Caller, **options: Any) -> Any:
    """The SDK's response, its stream unread."""
    options.setdefault("Payload", b"{}")
    return await asyncio.to_thread(caller.client.invoke_with_response_stream, FunctionName="fn", **options)


async def events_of(caller: Caller, **options: Any) -> list[dict[str, Any]]:
    response = await stream_of(caller, **options)
    with closing(response["EventStream"]) as events:
        return await asyncio.to_thread(list, events)


def payload(events: list[dict[str, Any]]) -> bytes:
    return b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)


async def test_a_streamed_reply_ends_with_invoke_complete(tmp_path: Path) -> None:
    """Binary bytes pass unchanged."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        stream = begin(request_id)
        write(stream, bytes(range(256)))
        end(stream)
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        response = await stream_of(caller)
        with closing(response["EventStream"]) as stream:
            events = await asyncio.to_thread(list, stream)

    assert (response["StatusCode"], response["ExecutedVersion"]) == (200, "$LATEST")
    assert response["ResponseStreamContentType"] == EVENT_STREAM_TYPE
    assert events == [{"PayloadChunk": {"Payload": bytes(range(256))}}, {"InvokeComplete": {}}]


async def test_what_is_written_arrives_before_there_is_more(tmp_path: Path) -> None:
    """The function writes its last bytes only after the first ones were read."""
    async with local_lambda(runtime(tmp_path, GATED)) as caller:
        response = await stream_of(caller)
        with closing(response["EventStream"]) as stream:
            events = iter(stream)
            first = await asyncio.to_thread(next, events)
            (tmp_path / "go").touch()
            rest = await asyncio.to_thread(list, events)

    assert first == {"PayloadChunk": {"Payload": b"first"}}
    assert payload(rest) == b"last"


def test_what_was_sent_before_a_crash_arrives(tmp_path: Path) -> None:
    """A process that writes and dies while the local Lambda is busy: its bytes and its end are there to be seen at
    once.
    """
    kept = uvloop.run(crash_in_busy_moments(tmp_path))  # the bridge's loop: asyncio's own is slower to see the end

    assert [b"last"] * 10 == [payload(rest) for rest in kept]
    assert {"Runtime.ExitError"} == {rest[-1]["InvokeComplete"]["ErrorCode"] for rest in kept}


async def crash_in_busy_moments(folder: Path) -> list[list[dict[str, Any]]]:
    """The events of ten invocations."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        print("waits", flush=True)
        wait_for(event["go"])
        write(begin(request_id), b"last")
        os._exit(1)
    """
    kept = []
    async with local_lambda(runtime(folder, source)) as caller:
        for number in range(10):
            invoked = asyncio.get_running_loop().create_task(
                events_of(caller, Payload=json.dumps({"go": f"go{number}"}))
            )
            await caller.line("waits", times=number + 1)
            (folder / f"go{number}").touch()
            time.sleep(0.1)  # the loop is the local Lambda's: this is the busy moment
            kept.append(await invoked)
    return kept


async def test_a_function_that_does_not_stream_is_one_chunk(tmp_path: Path) -> None:
    """Its JSON, whole, however large."""
    source = """
    def handler(event, context):
        return {"text": "x" * 1_000_000}
    """
    async with local_lambda(handler(tmp_path, source)) as caller:
        events = await events_of(caller)

    assert json.loads(events[0]["PayloadChunk"]["Payload"]) == {"text": "x" * 1_000_000}
    assert events[1:] == [{"InvokeComplete": {}}]


async def test_the_tail_of_the_log_comes_last(tmp_path: Path) -> None:
    source = """
    def handler(event, context):
        print("hello")
    """
    async with local_lambda(handler(tmp_path, source)) as caller:
        events = await events_of(caller, LogType="Tail")

    log = base64.b64decode(events[-1]["InvokeComplete"]["LogResult"]).decode()
    assert "hello\n" in log
    assert "REPORT RequestId: " in log


async def failure_of(caller: Caller, **options: Any) -> tuple[bytes, str, Any]:
    """What came before, the ErrorCode, and the ErrorDetails read as JSON."""
    events = await events_of(caller, **options)
    complete = events[-1]["InvokeComplete"]
    return payload(events), complete["ErrorCode"], json.loads(complete["ErrorDetails"])


async def test_an_exception_is_the_last_event(tmp_path: Path) -> None:
    """HTTP has said 200 long since; a function that does not stream has no other event."""
    source = """
    def handler(event, context):
        raise ValueError("boom")
    """
    async with local_lambda(handler(tmp_path, source)) as caller:
        before, code, details = await failure_of(caller)

    assert (before, code) == (b"", "ValueError")
    assert (details["errorType"], details["errorMessage"]) == ("ValueError", "boom")


async def test_a_failed_init_is_the_last_event(tmp_path: Path) -> None:
    async with local_lambda(runtime(tmp_path, "sys.exit(3)")) as caller:
        before, code, details = await failure_of(caller)

    assert (before, code) == (b"", "Runtime.ExitError")
    assert details["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")


async def test_a_crash_in_the_middle_comes_after_what_was_written(tmp_path: Path) -> None:
    source = """
    request_id, event, _ = next_invocation()
    stream = begin(request_id)
    write(stream, b"part")
    wait_for("go")
    os._exit(1)
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        response = await stream_of(caller)
        with closing(response["EventStream"]) as stream:
            events = iter(stream)
            first = await asyncio.to_thread(next, events)
            (tmp_path / "go").touch()
            rest = await asyncio.to_thread(list, events)

    assert first == {"PayloadChunk": {"Payload": b"part"}}
    assert rest[-1]["InvokeComplete"]["ErrorCode"] == "Runtime.ExitError"


async def test_the_time_limit_in_the_middle(tmp_path: Path) -> None:
    """A function that never ends its stream is killed; the next invocation has a fresh process."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        stream = begin(request_id)
        write(stream, b"part")
        wait_for("never")
    """
    async with local_lambda(runtime(tmp_path, source, timeout=0.3)) as caller:
        before, code, details = await failure_of(caller)

    assert (before, code) == (b"part", "Sandbox.Timedout")
    assert details["errorMessage"].endswith("Error: Task timed out after 0.30 seconds")


async def test_an_exception_in_the_middle(tmp_path: Path) -> None:
    """Python's runtime reports it in the trailers of its stream."""
    source = """
    from lambda_fn.streaming import StreamingReply

    def chunks():
        yield b"part"
        raise ValueError("midway")

    def handler(event, context):
        return StreamingReply(chunks())
    """
    async with local_lambda(handler(tmp_path, source)) as caller:
        before, code, details = await failure_of(caller)

    assert (before, code) == (b"part", "ValueError")
    assert details["errorMessage"] == "midway"


async def test_above_the_limit_a_stream_fails(tmp_path: Path) -> None:
    """200 MiB, lowered here; the runtime is told 413."""
    async with local_lambda(runtime(tmp_path, ENDLESS), max_streamed_reply=100_000) as caller:
        before, code, details = await failure_of(caller, Payload=b'{"size": 131072}')
        await caller.line("sent all 413")

    assert len(before) <= 100_000
    assert code == "Function.ResponseSizeTooLarge"
    assert "(100000 bytes)" in details["errorMessage"]


async def test_a_stream_may_be_larger_than_a_reply(tmp_path: Path) -> None:
    """8 MiB; without streaming 6 MiB are the end."""
    async with local_lambda(runtime(tmp_path, ENDLESS)) as caller:
        events = await events_of(caller, Payload=b'{"size": 8388608}')

    assert len(payload(events)) == 8388608


@pytest.mark.parametrize(
    ("options", "status"),
    [({"Qualifier": "7"}, 404), ({"Payload": b"no JSON"}, 400), ({"ClientContext": "?"}, 400)],
)
async def test_what_is_refused_has_a_status_of_http(tmp_path: Path, options: dict[str, Any], status: int) -> None:
    """Before the function starts, errors are those of Invoke."""
    async with local_lambda(runtime(tmp_path, GATED)) as caller:
        with pytest.raises(ClientError) as caught:
            await stream_of(caller, **options)

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_throttling_has_a_status_of_http(tmp_path: Path) -> None:
    async with local_lambda(runtime(tmp_path, GATED, concurrency=1)) as caller:
        busy = await stream_of(caller)
        with pytest.raises(ClientError) as caught:
            await stream_of(caller)
        (tmp_path / "go").touch()
        with closing(busy["EventStream"]) as stream:
            await asyncio.to_thread(list, stream)

    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"


async def test_dry_run_runs_nothing_and_event_is_refused(tmp_path: Path) -> None:
    async with local_lambda(runtime(tmp_path, "print('started')")) as caller:
        url = caller.local.endpoint_url + STREAM_PATH
        found = []
        async with aiohttp.ClientSession(headers=SIGNED) as session:
            for kind in ("DryRun", "Event"):
                async with session.post(url, headers={"X-Amz-Invocation-Type": kind}) as response:
                    found.append((response.status, response.headers.get("x-amzn-ErrorType")))

    assert found == [(204, None), (400, "InvalidParameterValueException")]
    assert caller.lines == []


async def raw_request(caller: Caller, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that reads only when asked to."""
    host, _, port = caller.local.endpoint_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    lines = [f"POST {STREAM_PATH} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in SIGNED.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    return reader, writer


async def test_a_slow_client_holds_the_function_back(tmp_path: Path) -> None:
    """Of 64 MiB only what the buffers between hold is written while nobody reads."""
    async with local_lambda(runtime(tmp_path, ENDLESS, timeout=20)) as caller:
        reader, writer = await raw_request(caller, b'{"size": 67108864}')
        await reader.readline()
        while not (held := [line for _, line in caller.lines if line.startswith("held back")]):
            caller.written.clear()
            await caller.written.wait()
        writer.close()

    assert int(held[0].split()[-1]) < 32 * 1024 * 1024


async def test_the_function_goes_on_when_the_client_has_gone(tmp_path: Path) -> None:
    """To its end, at full speed: what it still writes is dropped."""
    async with local_lambda(runtime(tmp_path, ENDLESS, timeout=20)) as caller:
        reader, writer = await raw_request(caller, b'{"size": 33554432}')
        await reader.readline()
        writer.transport.abort()

        await caller.line("sent all 202")


async def test_our_own_reader_reads_it(tmp_path: Path) -> None:
    """The bridge's carrier and the local Lambda agree on the format."""

    async def chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        async for chunk in response.content.iter_any():
            yield chunk

    (tmp_path / "go").touch()
    reader = EventStreamReader()
    types = []
    async with (
        local_lambda(runtime(tmp_path, GATED)) as caller,
        aiohttp.ClientSession(headers=SIGNED) as session,
        session.post(caller.local.endpoint_url + STREAM_PATH) as response,
    ):
        async for chunk in chunks(response):
            reader.feed(chunk)
            while (event := reader.next_event()) is not None:
                types.append(event.header(":event-type"))
    reader.finish()

    assert types[0] == "PayloadChunk"
    assert types[-1] == "InvokeComplete"
