"""Many invocations at once in one process: each has its own answer, its own identity in logs and traces, and its own
failures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import grpc
import pytest

from lambda_fn import LambdaServer, invocation
from lambda_fn.concurrent_runtime import MAX_FAILURES, ManyAtOnce, Poller
from lambda_fn.lambda_context import LambdaContext
from lambda_fn.runtime import concurrency_in
from lambda_fn.runtime_api import RuntimeApi
from lambda_fn.runtime_logs import RuntimeLog
from lambda_fn.runtime_loop import Runtime
from lambda_fn.streaming import StreamingReply
from lambda_fn.threads import SPARE_WORKERS, usual_workers
from tests.support.lambda_channel import http_v2_event
from tests.support.runtime_api_double import RuntimeApiDouble, paths, runtime_api

ROOT = Path(__file__).parents[2]

Handler = Callable[[Any, LambdaContext], Any]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)


@pytest.fixture
def surroundings() -> Iterator[ManyAtOnce]:
    many = ManyAtOnce(RuntimeLog())
    yield many
    many.close()


def invocations(count: int) -> list[tuple[bytes, Mapping[str, str]]]:
    return [
        (
            b"%d" % number,
            {
                "Lambda-Runtime-Aws-Request-Id": f"id-{number}",
                "Lambda-Runtime-Trace-Id": f"Root=1-{number}",
                "Lambda-Runtime-Invocation-Id": f"inner-{number}",
            },
        )
        for number in range(count)
    ]


def serve(double: RuntimeApiDouble, handler: Handler, surroundings: ManyAtOnce, *, threads: int) -> list[float]:
    """Serve all that the Runtime API has, with so many threads; the pauses that they made."""
    pauses: list[float] = []

    def run() -> None:
        api = RuntimeApi(double.address)
        Poller(api, Runtime(api, handler, surroundings), pause=pauses.append).run()
        api.close()

    pollers = [Thread(target=run) for _ in range(threads)]
    for poller in pollers:
        poller.start()
    for poller in pollers:
        poller.join()
    return pauses


def answers(double: RuntimeApiDouble) -> dict[str, Any]:
    """What was posted, by the rest of its path."""
    return {
        path.removeprefix("invocation/"): post.json
        for path, post in zip(paths(double.posted), double.posted, strict=True)
    }


def test_as_many_invocations_run_at_once_as_there_are_threads(surroundings: ManyAtOnce) -> None:
    together = Barrier(4, timeout=60)

    def handler(event: int, context: LambdaContext) -> int:
        together.wait()
        return event * 10

    with runtime_api() as double:
        double.invocations = invocations(8)
        serve(double, handler, surroundings, threads=4)

    assert {f"id-{number}/response": number * 10 for number in range(8)} == answers(double)


def test_coroutines_share_one_loop(surroundings: ManyAtOnce) -> None:
    loops = set()
    together = asyncio.Barrier(3)

    async def handler(event: int, context: LambdaContext) -> str:
        loops.add(asyncio.get_running_loop())
        await together.wait()
        return invocation.current().request_id

    with runtime_api() as double:
        double.invocations = invocations(3)
        serve(double, handler, surroundings, threads=3)

    assert {f"id-{number}/response": f"id-{number}" for number in range(3)} == answers(double)
    assert 1 == len(loops)


@pytest.mark.parametrize("verdict", [400, 403, 410, 413, 500])
@pytest.mark.parametrize("result", ["reply", "failure", "stream"])
def test_an_answer_that_is_refused_concerns_its_invocation_alone(
    verdict: int, result: str, surroundings: ManyAtOnce, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(event: int, context: LambdaContext) -> Any:
        if event != 1 or result == "reply":
            return event
        if result == "failure":
            raise ValueError
        return StreamingReply([b"1"])

    with runtime_api(verdicts={"id-1": verdict}) as double:
        double.invocations = invocations(4)
        serve(double, handler, surroundings, threads=1)

    for number in (0, 2, 3):
        assert number == answers(double)[f"id-{number}/response"]
    assert f"answered {verdict} to the reply" in caplog.text


@pytest.mark.parametrize("status", [400, 403, 410, 429, 500, 503])
def test_a_thread_that_is_refused_an_invocation_asks_again(status: int, surroundings: ManyAtOnce) -> None:
    """However often: AWS answers 500 while more threads ask than it has places for."""
    with runtime_api(refusals=[status] * 12) as double:
        double.invocations = invocations(1)
        pauses = serve(double, lambda event, context: event, surroundings, threads=1)

    assert {"id-0/response": 0} == answers(double)
    assert [0.1, 0.2, 0.4, 0.8, *[1.0] * 8] == pauses[:12]
    assert 0.1 == pauses[12]


def test_a_thread_ends_when_the_runtime_api_is_gone(surroundings: ManyAtOnce) -> None:
    with runtime_api() as double:
        pauses = serve(double, lambda event, context: event, surroundings, threads=2)

    assert 2 * MAX_FAILURES == len(pauses)


@pytest.mark.parametrize("result", ["reply", "failure", "stream"])
def test_the_invocation_id_is_repeated(result: str, surroundings: ManyAtOnce) -> None:
    """Each answer has that of its own invocation, and none if there was none."""

    def handler(event: int, context: LambdaContext) -> Any:
        if result == "failure":
            raise ValueError
        return event if result == "reply" else StreamingReply([b"1"])

    with runtime_api() as double:
        double.invocations = [*invocations(2), (b"9", {"Lambda-Runtime-Aws-Request-Id": "id-9"})]
        serve(double, handler, surroundings, threads=1)

    assert ["inner-0", "inner-1", None] == [post.headers.get("lambda-runtime-invocation-id") for post in double.posted]


def test_a_handler_that_exits_fails_alone(surroundings: ManyAtOnce) -> None:
    def handler(event: int, context: LambdaContext) -> int:
        if event == 0:
            sys.exit(3)
        return event

    with runtime_api() as double:
        double.invocations = invocations(2)
        serve(double, handler, surroundings, threads=1)

    posted = answers(double)
    assert "Runtime.ExitError" == posted["id-0/error"]["errorType"]
    assert "(3)" in posted["id-0/error"]["errorMessage"]
    assert 1 == posted["id-1/response"]


def test_a_coroutine_that_exits_leaves_the_loop_to_the_others(surroundings: ManyAtOnce) -> None:
    async def handler(event: int, context: LambdaContext) -> int:
        if event == 0:
            sys.exit(3)
        return event

    with runtime_api() as double:
        double.invocations = invocations(3)
        serve(double, handler, surroundings, threads=1)

    posted = answers(double)
    assert "Runtime.ExitError" == posted["id-0/error"]["errorType"]
    assert (1, 2) == (posted["id-1/response"], posted["id-2/response"])


def test_a_fault_of_the_runtime_itself_costs_no_place(
    surroundings: ManyAtOnce, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a log that cannot be written to."""

    def fail(failure: Mapping[str, Any]) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(surroundings.log, "write_failure", fail)

    def handler(event: int, context: LambdaContext) -> int:
        if event == 0:
            raise ValueError
        return event

    with runtime_api() as double:
        double.invocations = invocations(2)
        serve(double, handler, surroundings, threads=1)

    assert {"id-1/response": 1} == answers(double)
    assert "the invocation has no answer" in caplog.text


def test_each_invocation_has_its_own_trace_id(surroundings: ManyAtOnce) -> None:
    """Also in the environment there is none, for that is one for all."""
    together = Barrier(3, timeout=60)

    def handler(event: int, context: LambdaContext) -> list[str | None]:
        together.wait()
        found = [context.xray_trace_id, invocation.current().trace_id, os.environ.get("_X_AMZN_TRACE_ID")]
        together.wait()
        return found

    with runtime_api() as double:
        double.invocations = invocations(3)
        serve(double, handler, surroundings, threads=3)

    assert {f"id-{number}/response": [f"Root=1-{number}", f"Root=1-{number}", None] for number in range(3)} == answers(
        double
    )


@pytest.mark.parametrize("is_async", [False, True])
def test_servicers_log_under_their_own_request(is_async: bool, surroundings: ManyAtOnce) -> None:
    """LambdaServer runs them in threads or on a loop of its own, where only the invocation follows."""
    seen: dict[str, str] = {}
    together = Barrier(3, timeout=60)

    def note(request: bytes) -> bytes:
        seen[request.decode()] = invocation.current().request_id
        return request

    def plain(request: bytes, context: grpc.ServicerContext) -> bytes:
        together.wait()
        return note(request)

    async def coroutine(request: bytes, context: Any) -> bytes:
        return note(request)

    server = LambdaServer()
    method: Any = grpc.unary_unary_rpc_method_handler(coroutine if is_async else plain)
    server.add_registered_method_handlers("a.B", {"M": method})
    with runtime_api() as double:
        double.invocations = [
            (json.dumps(http_v2_event("/a.B/M", b"\0\0\0\0\1" + payload)).encode(), headers)
            for payload, headers in invocations(3)
        ]
        serve(double, server.handler, surroundings, threads=3)
    server.close()

    assert {str(number): f"id-{number}" for number in range(3)} == seen
    marks = [post for post in double.posted if b"x-lambda-fn-cold-start" in post.body]
    assert 1 == len(marks)


def test_a_server_has_threads_for_all_calls() -> None:
    assert SPARE_WORKERS == usual_workers({})
    assert SPARE_WORKERS + 64 == usual_workers({"AWS_LAMBDA_MAX_CONCURRENCY": "64"})


@pytest.mark.parametrize("text", ["", "0", "-1", "1601", "many", "1.5", " 2"])
def test_a_concurrency_that_is_none_of_awss(text: str) -> None:
    with pytest.raises(ValueError, match=r"AWS_LAMBDA_MAX_CONCURRENCY is .*: set it to a number from 1 to 1600"):
        concurrency_in({"AWS_LAMBDA_MAX_CONCURRENCY": text})


@pytest.mark.slow
def test_the_process_serves_many_and_ends_with_the_runtime_api(tmp_path: Path) -> None:
    """Its printed lines are whole, and those of its log have the id of their request."""
    (tmp_path / "app.py").write_text(
        "import logging, threading\n"
        "together = threading.Barrier(8, timeout=60)\n"
        "def handler(event, context):\n"
        "    together.wait()\n"
        "    for part in range(20):\n"
        "        print(context.aws_request_id, part, 'x' * 40, sep=';')\n"
        "    print('end', context.aws_request_id, end='')\n"
        "    logging.warning('note of %s', context.aws_request_id)\n"
        "    return event\n"
    )
    with runtime_api() as double:
        double.invocations = invocations(8)
        process = subprocess.run(
            [sys.executable, "-m", "lambda_fn.runtime", "app.handler"],
            env={
                "PYTHONPATH": str(ROOT),
                "LAMBDA_TASK_ROOT": str(tmp_path),
                "AWS_LAMBDA_RUNTIME_API": double.address,
                "AWS_LAMBDA_MAX_CONCURRENCY": "8",
                "AWS_LAMBDA_LOG_FORMAT": "JSON",
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    assert 1 == process.returncode
    assert {f"id-{number}/response": number for number in range(8)} == answers(double)
    lines = process.stdout.splitlines()
    printed = [f"id-{number};{part};{'x' * 40}" for number in range(8) for part in range(20)]
    printed += [f"end id-{number}" for number in range(8)]
    assert sorted(printed) == sorted(line for line in lines if not line.startswith("{"))
    notes = [found for line in lines if line.startswith("{") and "note" in (found := json.loads(line))["message"]]
    assert {(f"note of id-{number}", f"id-{number}") for number in range(8)} == {
        (note["message"], note["requestId"]) for note in notes
    }


def test_the_process_refuses_another_concurrency() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "lambda_fn.runtime", "app.handler"],
        env={"PYTHONPATH": str(ROOT), "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", "AWS_LAMBDA_MAX_CONCURRENCY": "all"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert 2 == process.returncode
    assert "AWS_LAMBDA_MAX_CONCURRENCY is 'all'" in process.stderr


def test_log_records_outside_of_an_invocation_have_no_request(capsys: pytest.CaptureFixture[str]) -> None:
    log = RuntimeLog()
    assert invocation.NONE == log.serves()
    logging.getLogger("lambda_fn").debug("not shown")
    assert "" == capsys.readouterr().out
