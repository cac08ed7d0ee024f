"""The functions' processes of the local Lambda: how they start, fail, are limited, kept, replaced and killed."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
import uvloop

from bridge.config.schema import FunctionConfig, Reload
from bridge.emulator.local_lambda import LocalLambda
from bridge.rpc.limits import MIB
from tests.support.emulator import handler, local_lambda, runtime

PID = """
while True:
    request_id, event, _ = next_invocation()
    time.sleep(event.get("sleep", 0))
    answer(request_id, os.getpid())
"""
AS_TOLD = """
import os, signal, sys, time

def handler(event, context):
    match event:
        case {"raise": text}:
            raise ValueError(text)
        case {"exit": status}:
            os._exit(status)
        case {"signal": number}:
            os.kill(os.getpid(), number)
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"allocate": size}:
            kept = bytearray(size)
            kept[::4096] = b"x" * len(kept[::4096])
            time.sleep(5)
    custom = context.client_context.custom if context.client_context else None
    left = context.get_remaining_time_in_millis()
    return {"pid": os.getpid(), "custom": custom, "memory": context.memory_limit_in_mb, "left": left}
"""


async def gone(pid: int) -> bool:
    """Return True once the process has ended, False if it has not within 30 s."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = await asyncio.to_thread(lambda: select.select([descriptor], [], [], 30))
    finally:
        os.close(descriptor)
    return bool(ready)


NAMES_ITS_API = """
import os

def handler(event, context):
    return {"api": os.environ["AWS_LAMBDA_RUNTIME_API"], "pid": os.getpid()}
"""


@pytest.mark.parametrize("runtime_name", ["lambda_fn", "awslambdaric"])
async def test_a_strangers_request_for_an_invocation_breaks_none(
    tmp_path: Path, runtime_name: Literal["lambda_fn", "awslambdaric"]
) -> None:
    """Whatever else on this machine sends one GET to an instance's Runtime API: the instance goes on."""
    config = handler(tmp_path, NAMES_ITS_API, runtime=runtime_name)
    async with local_lambda(config) as caller:
        first = (await caller.invoke()).result
        url = f"http://{first['api']}/2018-06-01/runtime/invocation/next"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert 403 == response.status
        again = [(await caller.invoke()).result for _ in range(2)]

    assert [first, first] == again


@pytest.mark.parametrize("runtime_name", ["lambda_fn", "awslambdaric"])
async def test_a_python_handler_runs_on_either_runtime(
    tmp_path: Path, runtime_name: Literal["lambda_fn", "awslambdaric"]
) -> None:
    """Ours or AWS's own client: event, context, exception and warm reuse alike."""
    config = handler(tmp_path, AS_TOLD, runtime=runtime_name, timeout=5, memory=256 * MIB)
    async with local_lambda(config) as caller:
        first = await caller.invoke(ClientContext="eyJjdXN0b20iOiB7ImEiOiAiYiJ9fQ==")
        failed = await caller.invoke({"raise": "boom"})
        second = await caller.invoke()

    assert (first.result["custom"], int(first.result["memory"])) == ({"a": "b"}, 256)
    assert 0 < first.result["left"] <= 5000
    assert (
        failed.function_error,
        failed.result["errorType"],
        failed.result["errorMessage"],
    ) == ("Unhandled", "ValueError", "boom")
    assert first.result["pid"] == second.result["pid"]


async def test_a_shell_script_is_a_runtime(tmp_path: Path) -> None:
    """Any program: a relative command is looked up in the function's folder."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    script = tmp_path / "bootstrap"
    script.write_text(
        textwrap.dedent("""\
        #!/bin/sh
        api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
        while true; do
          event=$(curl -s -D headers "$api/next")
          id=$(tr -d '\\r' < headers | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
          curl -s -o /dev/null -d "{\\"echo\\": $event, \\"handler\\": \\"$_HANDLER\\"}" "$api/$id/response"
        done
        """)
    )
    script.chmod(0o755)
    config = FunctionConfig(name="fn", code=tmp_path, command=("./bootstrap",))
    async with local_lambda(config) as caller:
        answers = [await caller.invoke({"n": n}) for n in range(2)]

    assert [{"echo": {"n": n}, "handler": "bootstrap"} for n in range(2)] == [a.result for a in answers]

    async with local_lambda(replace(config, handler="Shop::Orders")) as caller:
        assert {"echo": {}, "handler": "Shop::Orders"} == (await caller.invoke({})).result


async def test_a_streamed_reply_is_returned_whole(tmp_path: Path) -> None:
    """Plain Invoke gives prelude, NULs and body as they are, with the function's content type."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        ask(
            "POST",
            f"/invocation/{request_id}/response",
            iter([b'{"statusCode":200}', bytes(8), b"\\xff\\x00"]),
            {
                "Lambda-Runtime-Function-Response-Mode": "streaming",
                "Content-Type": "application/vnd.awslambda.http-integration-response",
            },
        )
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        answer = await caller.invoke()

    assert answer.payload == b'{"statusCode":200}\0\0\0\0\0\0\0\0\xff\0'
    assert answer.headers["content-type"] == "application/vnd.awslambda.http-integration-response"


async def test_a_streamed_reply_that_ends_in_an_error_is_a_function_error(tmp_path: Path) -> None:
    source = """
    while True:
        request_id, event, _ = next_invocation()
        connection.sock.sendall(
            f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\\r\\n"
            "Transfer-Encoding: chunked\\r\\nLambda-Runtime-Function-Response-Mode: streaming\\r\\n\\r\\n"
            "4\\r\\npart\\r\\n0\\r\\nLambda-Runtime-Function-Error-Type: Oops\\r\\n\\r\\n".encode()
        )
        connection.sock.recv(65536)
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        answer = await caller.invoke()

    assert (answer.function_error, answer.result["errorType"]) == ("Unhandled", "Oops")


# -- failures


async def test_time_runs_out(tmp_path: Path) -> None:
    """The process is killed, the invoker gets AWS's body, and the next invocation a fresh process."""
    async with local_lambda(runtime(tmp_path, PID, timeout=0.3)) as caller:
        before = await caller.invoke()
        late = await caller.invoke({"sleep": 30}, LogType="Tail")
        killed = await gone(before.result)
        after = await caller.invoke()

    request_id = late.headers["x-amzn-requestid"]
    assert (late.function_error, late.status) == ("Unhandled", 200)
    assert {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 0.30 seconds",
    } == late.result
    assert "Status: timeout" in late.log
    assert killed
    assert after.result != before.result


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"exit": 1}, "Runtime exited with error: exit status 1"),
        ({"exit": 0}, "Runtime exited without providing a reason"),
        ({"signal": signal.SIGSEGV}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
async def test_a_process_that_ends_fails_its_invocation(tmp_path: Path, event: dict[str, int], message: str) -> None:
    """In AWS's words for how it ended; the REPORT line names the type."""
    config = handler(tmp_path, AS_TOLD, runtime="awslambdaric")
    async with local_lambda(config) as caller:
        answer = await caller.invoke(event, LogType="Tail")
        after = await caller.invoke()

    request_id = answer.headers["x-amzn-requestid"]
    assert answer.function_error == "Unhandled"
    assert {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request_id} Error: {message}",
    } == answer.result
    assert "Status: error\tError Type: Runtime.ExitError" in answer.log
    assert after.function_error is None


async def test_memory_runs_out(tmp_path: Path) -> None:
    """The process is killed for real, and the invoker told what AWS tells; the console says why."""
    config = handler(tmp_path, AS_TOLD, runtime="awslambdaric", memory=64 * MIB, timeout=10)
    async with local_lambda(config) as caller:
        answer = await caller.invoke({"allocate": 128 * MIB})

    assert (
        answer.function_error,
        answer.result["errorType"],
    ) == ("Unhandled", "Runtime.ExitError")
    assert answer.result["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert any(line.startswith("out of memory: ") for _, line in caller.lines)


async def test_memory_of_children_counts(tmp_path: Path) -> None:
    source = """
    import subprocess
    request_id, event, _ = next_invocation()
    fill = "x = bytearray(128 << 20); x[::4096] = b'x' * len(x[::4096]); import time; time.sleep(5)"
    subprocess.run([sys.executable, "-S", "-c", fill])
    """
    async with local_lambda(runtime(tmp_path, source, memory=64 * MIB, timeout=10)) as caller:
        answer = await caller.invoke()

    assert answer.result["errorMessage"].endswith("signal: killed")


@pytest.mark.parametrize("runtime_name", ["lambda_fn", "awslambdaric"])
async def test_a_handler_that_cannot_be_imported_is_an_init_error(
    tmp_path: Path, runtime_name: Literal["lambda_fn", "awslambdaric"]
) -> None:
    """The invoker gets what the runtime reported, at once."""
    config = replace(handler(tmp_path, ""), handler="nosuch.handler", runtime=runtime_name)
    async with local_lambda(config) as caller:
        answer = await caller.invoke(LogType="Tail")

    assert answer.function_error == "Unhandled"
    assert answer.result["errorType"] == "Runtime.ImportModuleError"
    assert "nosuch" in answer.result["errorMessage"]


async def test_a_process_that_ends_before_it_asks_is_an_exit_error(tmp_path: Path) -> None:
    """What it wrote is in the tail, before AWS's line about the init that failed."""
    async with local_lambda(runtime(tmp_path, "print('no'); sys.exit(7)")) as caller:
        answer = await caller.invoke(LogType="Tail")

    assert answer.result["errorMessage"].endswith("Runtime exited with error: exit status 7")
    assert answer.log.startswith("no\nINIT_REPORT Init Duration: ")
    assert ("fn", "no") in caller.lines


async def test_init_takes_too_long(tmp_path: Path) -> None:
    """The process is killed; AWS would try once more under the function's own time limit."""
    source = "open('pid', 'w').write(str(os.getpid())); time.sleep(30)"
    async with local_lambda(runtime(tmp_path, source), init_timeout=2) as caller:
        answer = await caller.invoke(LogType="Tail")
        killed = await gone(int((tmp_path / "pid").read_text()))

    assert answer.result["errorType"] == "Sandbox.Timedout"
    assert answer.result["errorMessage"].endswith("Task timed out after 2.00 seconds")
    assert "Phase: init\tStatus: timeout" in answer.log
    assert killed


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    """While the bridge runs, somebody removes the function's code. On the bridge's loop: errors differ between
    loops.
    """

    async def invoke() -> str:
        folder = tmp_path / "gone"
        folder.mkdir()
        async with local_lambda(handler(folder, "handler = None")) as caller:
            shutil.rmtree(folder)
            answer = await caller.invoke()
            return str(answer.result["errorMessage"]).rpartition("Error: ")[2]

    assert f"chdir {tmp_path / 'gone'}: no such file or directory" == uvloop.run(invoke())


@pytest.mark.parametrize("command", ["./nosuch", "no-such-program"])
async def test_a_command_that_cannot_run_is_an_invalid_entrypoint(tmp_path: Path, command: str) -> None:
    config = FunctionConfig(name="fn", code=tmp_path, command=(command,))
    async with local_lambda(config) as caller:
        answer = await caller.invoke()
        again = await caller.invoke()

    assert (
        answer.function_error,
        answer.result["errorType"],
    ) == ("Unhandled", "Runtime.InvalidEntrypoint")
    assert f"fork/exec {command}: no such file or directory" in answer.result["errorMessage"]
    assert answer.result["errorType"] == again.result["errorType"]


async def test_a_runtime_that_talks_garbage_hurts_nobody_else(tmp_path: Path) -> None:
    """Its own invocation runs out of time; another function answers meanwhile."""
    garbage = """
    import socket
    while True:
        connection = socket.create_connection(host.split(":"))
        try:
            for _ in range(100):
                connection.sendall(b"\\x00garbage\\r\\n" * 1000)
        except OSError:
            time.sleep(0.01)
    """
    bad = runtime(tmp_path, garbage, name="bad")
    good = runtime(tmp_path, PID, name="good")
    async with local_lambda(bad, good, init_timeout=5) as caller, asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(caller.invoke(name="bad"))
        quick = [await caller.invoke(name="good") for _ in range(5)]
        overtaken = not slow.done()
        await slow

    assert overtaken
    assert [answer.function_error for answer in quick] == [None] * 5
    assert slow.result().result["errorType"] == "Sandbox.Timedout"


# -- environment


async def test_a_function_has_the_environment_that_aws_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the bridge's: above all not its AWS keys."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real-secret")
    monkeypatch.setenv("AWS_CA_BUNDLE", "x")
    monkeypatch.setenv("BRIDGE_CONFIG", "x")
    source = """
    while True:
        request_id, event, _ = next_invocation()
        answer(request_id, dict(os.environ, cwd=os.getcwd()))
    """
    config = runtime(tmp_path, source, memory=100 * MIB, env={"STAGE": "dev", "TZ": ":Asia/Tokyo"})
    async with local_lambda(config) as caller:
        environment = (await caller.invoke()).result

    assert "real-secret" not in json.dumps(environment)
    assert not {"AWS_CA_BUNDLE", "BRIDGE_CONFIG", "PYTHONPATH"} & environment.keys()
    assert {
        "AWS_LAMBDA_FUNCTION_NAME": "fn",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "100",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "STAGE": "dev",
        "TZ": ":Asia/Tokyo",
        "cwd": str(tmp_path),
    }.items() <= environment.items()
    assert "[$LATEST]" in environment["AWS_LAMBDA_LOG_STREAM_NAME"]


async def test_a_handlers_folder_comes_first_on_the_python_path(tmp_path: Path) -> None:
    """A module of the function wins over one of the same name that is installed."""
    (tmp_path / "boto3.py").write_text("MINE = True")
    source = """
    import boto3
    def handler(event, context):
        return boto3.MINE
    """
    async with local_lambda(handler(tmp_path, source)) as caller:
        answer = await caller.invoke()

    assert answer.result is True


async def test_an_interpreter_without_lambda_fn_is_lent_ours(tmp_path: Path) -> None:
    """Any Python with protobuf will do; here a bare one, whose site-packages hold nothing of ours."""
    bare = tmp_path / "bare"
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "venv", "--without-pip", str(bare))
    await process.wait()
    folder = tmp_path / "code"
    folder.mkdir()
    source = """
    import sys
    def handler(event, context):
        return sys.prefix
    """
    config = replace(handler(folder, source), python=bare / "bin" / "python")
    async with local_lambda(config) as caller:
        answer = await caller.invoke()

    assert str(bare) == answer.result


# -- reuse, reload, end


async def test_instances_are_reused_last_in_first_out(tmp_path: Path) -> None:
    """Two at once need two processes; afterwards one serves alone, if it is back for each call."""
    async with local_lambda(runtime(tmp_path, PID, concurrency=2)) as caller:
        pair = await asyncio.gather(*(caller.invoke({"sleep": 0.5}) for _ in range(2)))
        alone = set()
        for _ in range(5):
            while not all(one.is_ready for one in caller.local._functions["fn"]._instances):
                await asyncio.sleep(0.01)
            alone.add((await caller.invoke()).result)

    assert len({answer.result for answer in pair}) == 2
    assert len(alone) == 1
    assert alone <= {answer.result for answer in pair}


async def test_a_sequence_of_calls_never_needs_a_second_process(tmp_path: Path) -> None:
    """The next call may come before the runtime has come back for it."""
    source = """
    while True:
        request_id, event, _ = next_invocation()
        answer(request_id, os.getpid())
        time.sleep(0.05)
    """
    async with local_lambda(runtime(tmp_path, source, concurrency=1)) as caller:
        pids = {(await caller.invoke()).result for _ in range(4)}

    assert len(pids) == 1


async def test_a_runtime_that_does_not_come_back_is_replaced(tmp_path: Path) -> None:
    """Its answer stands; its time limit goes on until it asks again, and then it is killed."""
    source = """
    request_id, event, _ = next_invocation()
    answer(request_id, os.getpid())
    time.sleep(30)
    """
    config = runtime(tmp_path, source, concurrency=1, timeout=0.3)
    async with local_lambda(config) as caller:
        first, second = [await caller.invoke() for _ in range(2)]
        killed = await gone(first.result)

    assert [None, None] == [first.function_error, second.function_error]
    assert first.result != second.result
    assert killed


async def test_idle_instances_end(tmp_path: Path) -> None:
    async with local_lambda(runtime(tmp_path, PID), idle_timeout=0.1) as caller:
        first = (await caller.invoke()).result
        ended = await gone(first)
        second = (await caller.invoke()).result

    assert ended
    assert first != second


KEEPS_A_FILE = """
import os, tempfile, time
from pathlib import Path

def handler(event, context):
    folder = Path(tempfile.gettempdir())
    print(folder, flush=True)
    before = [path.name for path in folder.iterdir()] if "TMPDIR" in os.environ else []
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "folder" / "file").write_text("x")
    if "exit" in event:
        os._exit(1)
    time.sleep(event.get("sleep", 0))
    return {"folder": str(folder), "before": before, "mode": folder.stat().st_mode & 0o777}
"""


async def test_temporary_files_last_as_long_as_their_instance(tmp_path: Path) -> None:
    """As /tmp does on Lambda: warm invocations find them, other instances do not, and nobody else may look."""
    async with local_lambda(handler(tmp_path, KEEPS_A_FILE), concurrency=2) as caller:
        first = (await caller.invoke()).result
        warm = (await caller.invoke()).result
        pair = await asyncio.gather(*(caller.invoke({"sleep": 0.5}) for _ in range(2)))
        folders = {answer.result["folder"] for answer in pair}
        there = [Path(folder).is_dir() for folder in folders]

    assert ([], ["folder"]) == (first["before"], warm["before"])
    assert (first["folder"], 0o700) == (warm["folder"], first["mode"])
    assert [True, True] == there
    assert [] == [folder for folder in folders if Path(folder).exists()]


@pytest.mark.parametrize(
    ("event", "options"),
    [({"exit": True}, {}), ({"sleep": 60}, {"timeout": 1.0}), ({}, {"idle_timeout": 0.05})],
    ids=["it exits", "its time runs out", "it is idle"],
)
async def test_temporary_files_go_however_the_instance_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: dict[str, object], options: dict[str, float]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    config = handler(tmp_path, KEEPS_A_FILE, timeout=options.pop("timeout", 5.0))
    async with local_lambda(config, **options) as caller:
        await caller.invoke(event)
        while caller.local._functions["fn"]._instances:
            await asyncio.sleep(0.01)
        left = list((tmp_path / "t").iterdir())

    assert f"{tmp_path}/t/lambda-tmp-" in caller.log
    assert [] == left


async def test_a_command_that_does_not_start_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "code").mkdir()
    async with local_lambda(FunctionConfig(name="fn", code=tmp_path / "code", command=("./none",))) as caller:
        await caller.invoke()

    assert ["code"] == [path.name for path in tmp_path.iterdir()]


async def test_a_function_may_choose_where_its_temporary_files_go(tmp_path: Path) -> None:
    """The folder is then its own to tidy up."""
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    async with local_lambda(handler(tmp_path, KEEPS_A_FILE, env={"TMPDIR": str(chosen)})) as caller:
        used = (await caller.invoke()).result["folder"]

    assert str(chosen) == used
    assert (chosen / "folder" / "file").exists()


async def test_a_function_starts_where_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose file system is read-only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    source = """
    while True:
        request_id, event, _ = next_invocation()
        answer(request_id, os.environ.get("TMPDIR"))
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        answer = await caller.invoke()

    assert (None, None) == (answer.function_error, answer.result)


async def test_an_instance_that_died_idle_is_not_missed(tmp_path: Path) -> None:
    """The next invocation gets another process and no error."""
    async with local_lambda(runtime(tmp_path, PID)) as caller:
        first = (await caller.invoke()).result
        os.kill(first, signal.SIGKILL)
        while caller.local._functions["fn"]._instances:
            await asyncio.sleep(0.01)
        second = await caller.invoke()

    assert second.function_error is None
    assert first != second.result


async def test_a_changed_file_brings_fresh_processes(tmp_path: Path) -> None:
    """New invocations run the new code; the one in flight finishes with the old."""
    source = "V = 1" + PID.replace("os.getpid()", "V")
    config = runtime(tmp_path, source, reload=Reload())
    async with local_lambda(config) as caller:
        first = await caller.invoke()
        async with asyncio.TaskGroup() as tasks:
            busy = tasks.create_task(caller.invoke({"sleep": 1}))
            while not caller.local._functions["fn"].running:
                await asyncio.sleep(0.01)
            path = tmp_path / "fn.py"
            path.write_text(path.read_text().replace("V = 1", "V = 2"))
            await caller.line("fn.py changed: the next invocation starts anew")
            fresh = await caller.invoke()
        after = await caller.invoke()

    assert [a.result for a in (first, busy.result(), fresh, after)] == [1, 1, 2, 2]


async def test_a_change_during_a_cold_start_costs_no_invocation(tmp_path: Path) -> None:
    """The moment between a runtime's first request and its first invocation is no time to kill it."""
    async with local_lambda(runtime(tmp_path, PID)) as caller:
        function = caller.local._functions["fn"]
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(caller.invoke())
            while not any(instance.is_ready for instance in function._instances):
                await asyncio.sleep(0)
            function.renew(function.config)
        second = await caller.invoke()

    assert (None, None) == (first.result().function_error, second.function_error)
    assert first.result().result != second.result


async def test_the_functions_can_be_changed_while_running(tmp_path: Path) -> None:
    """Unchanged ones keep their processes, changed ones get new ones, removed ones finish what they do."""
    kept = runtime(tmp_path, PID, name="kept")
    changed = runtime(tmp_path, PID, name="changed")
    removed = runtime(tmp_path, PID + "    print('ends', flush=True)\n", name="removed")
    async with local_lambda(kept, changed, removed) as caller:
        before = [(await caller.invoke(name=name)).result for name in ("kept", "changed")]
        async with asyncio.TaskGroup() as tasks:
            last = tasks.create_task(caller.invoke({"sleep": 0.5}, name="removed"))
            while not caller.local._functions["removed"].running:
                await asyncio.sleep(0.01)
            added = replace(kept, name="added")
            await caller.local.update({"kept": kept, "changed": replace(changed, env={"A": "b"}), "added": added})
            refusal = await caller.refusal(name="removed")
            after = [(await caller.invoke(name=name)).result for name in ("kept", "changed")]
            new = await caller.invoke(name="added")

    assert before[0] == after[0]
    assert before[1] != after[1]
    assert refusal["Error"]["Code"] == "ResourceNotFoundException"
    assert last.result().function_error is None
    assert new.function_error is None


async def test_close_kills_everything(tmp_path: Path) -> None:
    """Busy or idle, and what the processes started themselves; a caller in wait gets an answer."""
    source = """
    import subprocess
    child = subprocess.Popen(["sleep", "60"])
    while True:
        request_id, event, _ = next_invocation()
        print(json.dumps([os.getpid(), child.pid]), flush=True)
        time.sleep(event.get("sleep", 0))
        answer(request_id, None)
    """
    async with local_lambda(runtime(tmp_path, source)) as caller:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(caller.invoke())
            busy = tasks.create_task(caller.invoke({"sleep": 60}))
            while sum(line.startswith("[") for _, line in caller.lines) < 2:
                caller.written.clear()
                await caller.written.wait()
            await caller.local.close()
        pids = [pid for _, line in caller.lines if line.startswith("[") for pid in json.loads(line)]
        ended = [await gone(pid) for pid in pids]

    assert ended == [True] * 4
    assert busy.result().result["errorType"] == "Runtime.ExitError"


async def test_no_process_outlives_a_bridge_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no time to clean up: a small process of ours does it."""
    runtime(tmp_path, "print(os.getpid(), os.environ['TMPDIR'], flush=True)\nwhile True:\n    time.sleep(60)")
    program = f"""
import asyncio, sys, threading
from pathlib import Path
from tests.support.emulator import local_lambda
from bridge.config.schema import FunctionConfig, Reload

async def main():
    fn = FunctionConfig(name="fn", code=Path({str(tmp_path)!r}), command=({sys.executable!r}, "-S", "fn.py"))
    async with local_lambda(fn) as caller:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(caller.invoke())
            while not caller.lines:
                caller.written.clear()
                await caller.written.wait()
            print(caller.lines[0][1], flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""
    bridge = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert bridge.stdout is not None
    number, folder = (await bridge.stdout.readline()).split()
    pid = int(number)
    was_alive = Path(f"/proc/{pid}").exists() and Path(os.fsdecode(folder)).exists()
    bridge.kill()
    await bridge.wait()

    assert was_alive
    assert await gone(pid)
    async with asyncio.timeout(30):
        while Path(os.fsdecode(folder)).exists():
            await asyncio.sleep(0.01)


async def test_an_address_in_use_is_an_os_error(tmp_path: Path) -> None:
    """So that the command line can say so; what was begun is undone."""
    async with local_lambda() as caller:
        port = int(caller.local.endpoint_url.rpartition(":")[2])
        second = LocalLambda({})
        with pytest.raises(OSError, match="address already in use"):
            await second.start("127.0.0.1", port)


async def test_the_endpoint_url_can_be_called(tmp_path: Path) -> None:
    """Also when it listens everywhere."""
    local = LocalLambda({})
    port = await local.start("0.0.0.0", 0)
    try:
        assert f"http://127.0.0.1:{port}" == local.endpoint_url
    finally:
        await local.close()
        await local.close()


async def test_a_program_that_lacks_lambda_fn_is_told_what_to_install(tmp_path: Path) -> None:
    """Its log says so once, behind Python's own line. `-S` leaves out what is installed."""
    (tmp_path / "app.py").write_text("import lambda_fn\n")
    config = FunctionConfig(name="fn", code=tmp_path, command=(sys.executable, "-I", "-S", "app.py"))
    async with local_lambda(config) as caller:
        await caller.invoke()
        output = caller.log

    assert "No module named 'lambda_fn'" in output
    assert "pip install grpc-lambda-fn" in output


async def test_a_command_that_is_not_executable_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bootstrap").touch(mode=0o644)
    async with local_lambda(FunctionConfig(name="fn", code=tmp_path, command=("./bootstrap",))) as caller:
        answer = await caller.invoke()

    assert "fork/exec ./bootstrap: permission denied" in answer.result["errorMessage"]
    assert f"chmod +x {tmp_path}/bootstrap" in answer.result["errorMessage"]
