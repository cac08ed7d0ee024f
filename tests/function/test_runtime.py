"""The runtime's loop against a Runtime API: what it takes, what it posts, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lambda_fn.lambda_context import LambdaContext
from lambda_fn.runtime_api import RuntimeApi, RuntimeApiError
from lambda_fn.runtime_loop import LoadError, Runtime, load
from lambda_fn.streaming import StreamingReply
from tests.support.runtime_api_double import (
    REQUEST_ID,
    Posted,
    RuntimeApiDouble,
    paths,
    runtime_api,
)

ROOT = Path(__file__).parents[2]
RESPONSE = f"invocation/{REQUEST_ID}/response"
ERROR = f"invocation/{REQUEST_ID}/error"


def run(handler: Callable[[Any, LambdaContext], Any], double: RuntimeApiDouble) -> list[Posted]:
    """Serve all that the Runtime API has; what was posted."""
    api = RuntimeApi(double.address)
    try:
        with pytest.raises(RuntimeApiError, match="cannot be reached"):
            Runtime(api, handler).run()
    finally:
        api.close()
    return double.posted


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")


def test_what_a_handler_returns_is_posted_as_json() -> None:
    """Invocation after invocation, over one connection."""
    with runtime_api(b'{"n": 1}', b'{"n": 2}') as double:
        posted = run(lambda event, context: {"got": event["n"]}, double)

    assert [RESPONSE, RESPONSE] == paths(posted)
    assert [{"got": 1}, {"got": 2}] == [post.json for post in posted]
    assert {"application/json"} == {post.headers["content-type"] for post in posted}
    assert double.connections <= 2  # the second after the last `next` hung up


def test_a_coroutine_function_is_awaited() -> None:
    """On one loop, so that its clients last."""
    loops = []

    async def handler(event: Any, context: LambdaContext) -> str:
        import asyncio

        loops.append(asyncio.get_running_loop())
        return "done"

    with runtime_api(b"{}", b"{}") as double:
        posted = run(handler, double)

    assert ["done", "done"] == [post.json for post in posted]
    assert loops[0] is loops[1]


def test_the_context_has_what_lambda_tells() -> None:
    """The attributes that the managed runtimes give."""
    seen: list[Any] = []

    def handler(event: Any, context: LambdaContext) -> None:
        assert context.client_context is not None
        seen.append(
            (
                context.aws_request_id,
                context.invoked_function_arn,
                context.function_name,
                context.memory_limit_in_mb,
                context.tenant_id,
                context.client_context.custom["k"],
                context.client_context.client.app_title,
                context.client_context.env,
                context.identity.cognito_identity_id,
                context.identity.cognito_identity_pool_id,
                context.get_remaining_time_in_millis() > 1_000_000,
                os.environ["_X_AMZN_TRACE_ID"],
            )
        )

    headers = {
        "Lambda-Runtime-Trace-Id": "Root=1",
        "Lambda-Runtime-Aws-Tenant-Id": "tenant",
        "Lambda-Runtime-Client-Context": json.dumps({"custom": {"k": "né"}, "client": {"app_title": "t"}}),
        "Lambda-Runtime-Cognito-Identity": json.dumps({"cognitoIdentityId": "i"}),
    }
    with runtime_api(b"{}", headers=headers) as double:
        posted = run(handler, double)

    assert [None] == [post.json for post in posted]
    arn = "arn:aws:lambda:us-east-1:123456789012:function:f"
    assert [(REQUEST_ID, arn, "f", "128", "tenant", "né", "t", None, "i", None, True, "Root=1")] == seen


def test_an_exception_is_posted_in_awss_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Type, message and the stack of the function's own code; the loop goes on."""

    def handler(event: Any, context: LambdaContext) -> str:
        if event == "bad":
            raise ValueError("boom")
        return "fine"

    with runtime_api(b'"bad"', b'"good"') as double:
        posted = run(handler, double)
    failure = posted[0].json
    stack = failure.pop("stackTrace")

    assert [ERROR, RESPONSE] == paths(posted)
    assert {"errorType": "ValueError", "errorMessage": "boom", "requestId": REQUEST_ID} == failure
    assert "ValueError" == posted[0].headers["lambda-runtime-function-error-type"]
    assert 1 == len(stack)
    assert "in handler" in stack[0]
    assert "[ERROR] ValueError: boom" in capsys.readouterr().out


class _Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def _quotes(event: Any, context: LambdaContext) -> None:
    raise ValueError(event)


def _mute(event: Any, context: LambdaContext) -> None:
    raise _Mute


@pytest.mark.parametrize(("handler", "kind"), [(_quotes, "ValueError"), (_mute, "_Mute")])
def test_an_exception_that_cannot_be_written_is_told_all_the_same(
    capsys: pytest.CaptureFixture[str], handler: Any, kind: str
) -> None:
    """Half a surrogate pair of its event in its text, or no text: either ended the instance."""
    with runtime_api(b'"\\ud800"', b'"next"') as double:
        posted = run(handler, double)

    assert [ERROR, ERROR] == paths(posted)
    assert {kind} == {post.json["errorType"] for post in posted}
    assert 2 == capsys.readouterr().out.count(f"[ERROR] {kind}: ")


@pytest.mark.parametrize("value", [object(), {1: {2}}, b"\xff".decode("latin-1").encode])
def test_what_is_no_json_is_a_marshal_error(value: Any) -> None:
    """Named as AWS names it."""
    with runtime_api(b"{}") as double:
        posted = run(lambda event, context: value, double)

    assert [ERROR] == paths(posted)
    assert "Runtime.MarshalError" == posted[0].json["errorType"]
    assert posted[0].json["errorMessage"].startswith("Unable to marshal response: ")


@pytest.mark.parametrize("event", [b"{", b"[" * 100_000 + b"]" * 100_000], ids=["cut", "deep"])
def test_an_event_that_cannot_be_read_is_an_unmarshal_error(event: bytes) -> None:
    """The handler is not called."""
    with runtime_api(event) as double:
        posted = run(lambda event, context: None, double)

    assert "Runtime.UnmarshalError" == posted[0].json["errorType"]


def test_a_reply_that_is_too_large_is_reported() -> None:
    """The Runtime API refuses it with 413; the invocation fails with AWS's words and the loop goes on."""
    with runtime_api(b"200", b"2", max_reply=190) as double:
        posted = run(lambda event, context: "x" * event, double)

    assert [RESPONSE, ERROR, RESPONSE] == paths(posted)
    assert "Function.ResponseSizeTooLarge" == posted[1].json["errorType"]


def test_a_connection_closed_while_the_handler_ran_is_made_anew() -> None:
    """Nothing is lost by it."""
    with runtime_api(b"1", b"2", drops=1) as double:
        posted = run(lambda event, context: event, double)

    assert [1, 2] == [post.json for post in posted]


# -- streamed replies --


def test_a_streaming_reply_is_sent_chunked() -> None:
    """With the headers of a streaming runtime, its own content type, and no error trailers."""

    def chunks() -> Iterator[bytes]:
        yield b"one "
        yield b""
        yield b"two"

    with runtime_api(b"{}", b"{}") as double:
        posted = run(lambda *_: StreamingReply(chunks(), content_type="text/plain"), double)

    assert [RESPONSE, RESPONSE] == paths(posted)
    assert [(b"one two", {})] * 2 == [(post.body, post.trailers) for post in posted]
    assert "streaming" == posted[0].headers["lambda-runtime-function-response-mode"]
    assert "text/plain" == posted[0].headers["content-type"]


def test_a_streaming_http_reply_has_its_head_and_eight_nuls_before_the_body() -> None:
    """AWS's http-integration form; async chunks as well."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"body"

    head = {"statusCode": 200, "headers": {"a": "b"}}
    with runtime_api(b"{}") as double:
        posted = run(lambda *_: StreamingReply(chunks(), head=head), double)
    prelude, _, body = posted[0].body.partition(bytes(8))

    assert (head, b"body") == (json.loads(prelude), body)
    assert "application/vnd.awslambda.http-integration-response" == posted[0].headers["content-type"]


def test_an_exception_before_the_first_chunk_fails_the_invocation() -> None:
    """Nothing has been sent yet: it is an error like any other."""

    def chunks() -> Iterator[bytes]:
        raise ValueError("at once")
        yield b""

    with runtime_api(b"{}") as double:
        posted = run(lambda *_: StreamingReply(chunks()), double)

    assert [ERROR] == paths(posted)


def test_an_exception_between_chunks_is_told_in_the_trailers() -> None:
    """What was sent stays sent; type and body in the trailers, as the streaming runtimes do."""

    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("midway")

    with runtime_api(b"{}", b"{}") as double:
        posted = run(lambda *_: StreamingReply(chunks()), double)
    told = json.loads(b64decode(posted[0].trailers["lambda-runtime-function-error-body"]))

    assert [RESPONSE, RESPONSE] == paths(posted)
    assert b"one" == posted[0].body
    assert "ValueError" == posted[0].trailers["lambda-runtime-function-error-type"]
    assert ("ValueError", "midway") == (told["errorType"], told["errorMessage"])


# -- loading --


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A function's folder with good and bad modules."""
    (tmp_path / "fn_good.py").write_text("def handler(event, context): return event\n")
    (tmp_path / "fn_syntax.py").write_text("def handler(:\n")
    (tmp_path / "fn_raises.py").write_text("raise KeyError('missing')\n")
    (tmp_path / "fn_needs.py").write_text("import fn_not_there\n")
    (tmp_path / "fn_pkg").mkdir()
    (tmp_path / "fn_pkg" / "inner.py").write_text("def handler(event, context): return event\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("name", ["fn_good.handler", "fn_pkg.inner.handler", "fn_pkg/inner.handler"])
def test_a_handler_is_found_by_its_name(name: str) -> None:
    """Module and attribute; a slash counts as a dot."""
    event = {"a": 1}

    assert event == load(name)(event, LambdaContext({}))


BAD_HANDLERS = {
    "fn_good": "Runtime.MalformedHandlerName",
    "fn_nowhere.handler": "Runtime.ImportModuleError",
    "fn_needs.handler": "Runtime.ImportModuleError",
    "fn_good.nothing": "Runtime.HandlerNotFound",
    "fn_syntax.handler": "Runtime.UserCodeSyntaxError",
}


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(("name", "kind"), BAD_HANDLERS.items())
def test_a_handler_that_cannot_be_loaded_is_an_error_of_awss_kind(name: str, kind: str) -> None:
    """The names that people search for."""
    with pytest.raises(LoadError) as caught:
        load(name)

    assert kind == caught.value.kind


def started(double: RuntimeApiDouble, name: str, task_root: Path) -> subprocess.CompletedProcess[str]:
    """The runtime as a process, as the local Lambda and AWS start it."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "AWS_LAMBDA_RUNTIME_API": double.address,
        "LAMBDA_TASK_ROOT": str(task_root),
    }
    return subprocess.run(
        [sys.executable, "-m", "lambda_fn.runtime", name],
        env=environment,
        cwd=task_root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fn_syntax.handler", "Runtime.UserCodeSyntaxError"), ("fn_raises.x", "KeyError")],
)
def test_a_failed_start_is_reported_and_ends_the_process(code: Path, name: str, kind: str) -> None:
    """To init/error; exit code 1."""
    with runtime_api(b"{}") as double:
        process = started(double, name, code)

    assert 1 == process.returncode
    assert ["init/error"] == paths(double.posted)
    assert kind == double.posted[0].json["errorType"]
    assert kind == double.posted[0].headers["lambda-runtime-function-error-type"]
    assert f"[ERROR] {kind}" in process.stdout


def test_logs_and_prints_come_out_line_by_line_with_the_request_id(code: Path) -> None:
    """What a function logs at the level it chose reaches whoever reads the process's output."""
    (code / "fn_logs.py").write_text(
        "import logging\n"
        "logging.getLogger().setLevel(logging.INFO)\n"
        "def handler(event, context):\n"
        "    print('printed')\n"
        "    logging.info('logged %s', event)\n"
    )
    with runtime_api(b"1") as double:
        process = started(double, "fn_logs.handler", code)
    printed, logged = process.stdout.splitlines()

    assert 1 == process.returncode  # the Runtime API went away
    assert "printed" == printed
    assert logged.startswith("[INFO]\t")
    assert logged.endswith(f"Z\t{REQUEST_ID}\tlogged 1")
    assert [RESPONSE] == paths(double.posted)


def test_a_handler_that_exits_ends_the_process(code: Path) -> None:
    """With its code and without a reply: Lambda reports Runtime.ExitError."""
    (code / "fn_exits.py").write_text("def handler(event, context): raise SystemExit(7)\n")
    with runtime_api(b"1") as double:
        process = started(double, "fn_exits.handler", code)

    assert (7, []) == (process.returncode, double.posted)


def test_the_examples_run_under_the_runtime(tmp_path: Path) -> None:
    """A whole call, from the event to the posted reply; the stream leaves in the streaming form."""
    from tests.support.lambda_channel import frame, http_v2_event, outcome_of

    calls = ("SayHello", "SayHelloStreamReply")
    events = [http_v2_event(f"/helloworld.Greeter/{call}", frame(b"\n\x02yo")) for call in calls]
    with runtime_api(*(json.dumps(event).encode() for event in events)) as double:
        started(double, "lambda_fn.examples.greeter.handler", tmp_path)
    unary, streamed = double.posted
    prelude, _, body = streamed.body.partition(bytes(8))

    assert (b"\n\nHello, yo!",) == outcome_of(unary.json, b64decode(unary.json["body"])).messages
    assert 10 == len(outcome_of(json.loads(prelude), body).messages)


def test_without_a_runtime_api_the_command_explains_itself() -> None:
    """Exit code 2."""
    process = subprocess.run(
        [sys.executable, "-m", "lambda_fn.runtime"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert 2 == process.returncode
    assert "usage: AWS_LAMBDA_RUNTIME_API=HOST:PORT" in process.stderr
