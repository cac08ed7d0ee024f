"""`runtime: node`: handlers in JavaScript, run by our own client of the Runtime API."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridge.config.schema import FunctionConfig
from tests.support.emulator import Caller, local_lambda

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]

HANDLERS = """
exports.async = async (event, context) => {
  return { event, id: context.awsRequestId, left: context.getRemainingTimeInMillis() };
};
exports.promise = (event) => new Promise((resolve) => setTimeout(resolve, 5, { event }));
exports.callback = (event, context, callback) => { setTimeout(() => callback(null, { event }), 5); };
exports.waits = (event, context, callback) => {
  callback(null, { event });
  setTimeout(() => console.log("still working"), 50);
};
exports.atOnce = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  setTimeout(() => console.log("never seen"), 60_000);
  callback(null, { event });
};
exports.sync = () => ({ ignored: true });
exports.nothing = async () => {};
exports.succeeds = (event, context) => context.succeed({ event });
exports.nested = { inner: async (event) => ({ event }) };
exports.throws = () => { throw new TypeError("oh"); };
exports.rejects = async () => { class Odd extends Error { name = "Odd"; } throw new Odd("né"); };
exports.fails = (event, context, callback) => callback(new Error("told"));
exports.text = async () => { throw "only text"; };
exports.circular = async () => { const found = {}; found.found = found; return found; };
exports.unhandled = () => { Promise.reject(new Error("nobody listens")); return new Promise(() => {}); };
exports.uncaught = () => new Promise(() => setTimeout(() => { throw new RangeError("later"); }, 5));
exports.exits = async () => process.exit(7);
exports.sleeps = () => new Promise((resolve) => setTimeout(resolve, 60_000));
exports.large = async () => "x".repeat(7 << 20);
exports.logs = async () => {
  console.log("a %s", "b", { c: 1 });
  console.error("a failure");
  return process.env._HANDLER;
};
exports.value = 5;
"""


def function(
    folder: Path, handler: str, source: str = HANDLERS, file: str = "index.js", **options: Any
) -> FunctionConfig:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(source)
    return FunctionConfig(name="fn", code=folder, handler=handler, **options)


async def invoked(config: FunctionConfig, event: object = 1) -> Any:
    async with local_lambda(config) as caller:
        return await answered(caller, event)


async def answered(caller: Caller, event: object = 1) -> Any:
    return await caller.invoke(Payload=json.dumps(event), LogType="Tail")


@pytest.mark.parametrize("name", ["promise", "callback", "waits", "atOnce", "succeeds", "nested.inner"])
async def test_each_kind_of_handler_answers(tmp_path: Path, name: str) -> None:
    """Async functions, promises, callbacks, and the context's own methods. The next invocation finds a clean state."""
    async with local_lambda(function(tmp_path, f"index.{name}")) as caller:
        for event in ({"a": "é"}, None, [1]):
            answer = await answered(caller, event)
            assert (None, {"event": event}) == (answer.function_error, answer.result)


async def test_the_context_is_awss(tmp_path: Path) -> None:
    answer = await invoked(function(tmp_path, "index.async", timeout=5.0))

    assert 1 == answer.result["event"]
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.result["id"])
    assert 0 < answer.result["left"] <= 5000


@pytest.mark.parametrize("name", ["sync", "nothing"])
async def test_a_handler_without_a_result_gives_null(tmp_path: Path, name: str) -> None:
    """What a plain function returns does not count, as on AWS."""
    answer = await invoked(function(tmp_path, f"index.{name}"))

    assert (None, None) == (answer.function_error, answer.result)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("throws", "TypeError", "oh"),
        ("rejects", "Odd", "né"),
        ("fails", "Error", "told"),
        ("text", "string", "only text"),
        ("circular", "Error", "Unable to stringify response body"),
        ("unhandled", "Runtime.UnhandledPromiseRejection", "Error: nobody listens"),
        ("uncaught", "RangeError", "later"),
        ("large", "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size"),
        ("exits", "Runtime.ExitError", "exit status 7"),
        ("sleeps", "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    ],
)
async def test_errors_are_as_aws_reports_them(tmp_path: Path, name: str, kind: str, message: str) -> None:
    """And the instance, or a new one, serves the next invocation."""
    async with local_lambda(function(tmp_path, f"index.{name}", timeout=1.0)) as caller:
        for _ in range(2):
            answer = await answered(caller)
            assert "Unhandled" == answer.function_error
            assert kind == answer.result["errorType"]
            assert message in answer.result["errorMessage"]
            if kind in ("TypeError", "Odd"):
                assert "index.js" in "".join(answer.result["trace"])


@pytest.mark.parametrize(
    ("handler", "file", "source", "kind", "message"),
    [
        (
            "index.missing",
            "index.js",
            HANDLERS,
            "Runtime.HandlerNotFound",
            "index.missing is undefined or not exported",
        ),
        ("index.value", "index.js", HANDLERS, "Runtime.HandlerNotFound", "index.value is not a function"),
        ("index.f", "index.js", "exports.f = (", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ("index.f", "index.js", "require('./none')", "Runtime.ImportModuleError", "Cannot find module './none'"),
        ("index.f", "index.mjs", "import './none.mjs'", "Runtime.ImportModuleError", "Cannot find module"),
        ("index.f", "index.js", "throw new RangeError('at start')", "RangeError", "at start"),
        ("gone.f", "index.js", "", "Runtime.ImportModuleError", "Cannot find module 'gone'"),
    ],
)
async def test_a_handler_that_does_not_load_says_why(
    tmp_path: Path, handler: str, file: str, source: str, kind: str, message: str
) -> None:
    answer = await invoked(function(tmp_path, handler, source, file, runtime="node"))

    assert (kind, "Unhandled") == (answer.result["errorType"], answer.function_error)
    assert message in answer.result["errorMessage"]


MODULE = "export const f = async (event) => ({ event, url: import.meta.url.split('/').pop() });"


@pytest.mark.parametrize(
    ("handler", "file", "source", "package"),
    [
        ("index.f", "index.mjs", MODULE, None),
        ("index.f", "index.js", MODULE, '{"type": "module"}'),
        ("index.f", "index.cjs", "exports.f = async (event) => ({ event });", '{"type": "module"}'),
        ("index.f", "index.js", "exports.f = async (event) => ({ event });", '{"type": "commonjs"}'),
        ("src/index.f", "src/index.js", "exports.f = async (event) => ({ event });", None),
    ],
)
async def test_the_handlers_file_chooses_node(
    tmp_path: Path, handler: str, file: str, source: str, package: str | None
) -> None:
    """CommonJS and modules, by their endings and by package.json, as Node.js itself decides."""
    if package is not None:
        (tmp_path / "package.json").write_text(package)
    answer = await invoked(function(tmp_path, handler, source, file), "e")

    assert (None, "e") == (answer.function_error, answer.result["event"])


async def test_python_stays_python(tmp_path: Path) -> None:
    """With both files there, and where the configuration says so."""
    (tmp_path / "index.py").write_text("def f(event, context):\n    return 'python'\n")
    for options in ({}, {"runtime": "lambda_fn"}):
        answer = await invoked(function(tmp_path, "index.f", MODULE, "index.mjs", **options))
        assert "python" == answer.result
    assert (
        "index.mjs" == (await invoked(function(tmp_path, "index.f", MODULE, "index.mjs", runtime="node"))).result["url"]
    )


async def test_the_api_describes_the_runtime(tmp_path: Path) -> None:
    """As AWS names it, without a version."""
    async with local_lambda(function(tmp_path, "index.async")) as caller:
        described = await asyncio.to_thread(caller.client.get_function_configuration, FunctionName="fn")

    assert ("nodejs", "index.async") == (described["Runtime"], described["Handler"])


async def test_log_lines_are_as_aws_writes_them(tmp_path: Path) -> None:
    """Time, request id, level and text, with tabs between them."""
    async with local_lambda(function(tmp_path, "index.logs")) as caller:
        answer = await answered(caller)
        lines = [line for _, line in caller.lines if "\t" in line and not line.startswith("REPORT")]

    assert "index.logs" == answer.result
    time, request_id, level, text = lines[0].split("\t")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert re.fullmatch(r"[0-9a-f-]{36}", request_id)
    assert ("INFO", "a b { c: 1 }") == (level, text)
    assert lines[1].endswith(f"\t{request_id}\tERROR\ta failure")


async def test_one_instance_serves_many_calls_at_once(tmp_path: Path) -> None:
    """As with instance_concurrency on AWS; each call has its own result."""
    source = """
        let here = 0;
        const waiting = [];
        exports.f = (event) => new Promise((resolve) => {
          waiting.push(() => resolve({ event, pid: process.pid }));
          if (++here === 4) waiting.forEach((go) => go());
        });
    """
    config = function(tmp_path, "index.f", source, concurrency=1, instance_concurrency=4, timeout=20.0)
    async with local_lambda(config) as caller:
        answers = await asyncio.gather(*(answered(caller, number) for number in range(4)))

    assert [0, 1, 2, 3] == [answer.result["event"] for answer in answers]
    assert 1 == len({answer.result["pid"] for answer in answers})
