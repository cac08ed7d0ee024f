"""What a function's log gets: whole lines, and records with the id of their request."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import sys
from collections.abc import Iterator
from threading import Lock, Thread

import pytest

from lambda_fn import invocation, runtime_logs
from lambda_fn.invocation import Invocation
from lambda_fn.runtime_logs import RuntimeLog, WholeLines


@pytest.fixture(autouse=True)
def _same_logging_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    before, level, streams = list(root.handlers), root.level, (sys.stdout, sys.stderr)
    yield
    root.handlers[:] = before
    root.setLevel(level)
    sys.stdout, sys.stderr = streams


def within(request_id: str, stream: WholeLines, *parts: str) -> None:
    """Write as the code of an invocation does."""

    def write() -> None:
        invocation.enter(Invocation(request_id))
        for part in parts:
            stream.write(part)

    contextvars.Context().run(write)


def test_lines_of_invocations_do_not_mix() -> None:
    """Each is written when its end has come."""
    out = io.StringIO()
    lines = WholeLines(out, Lock())
    within("a", lines, "one ")
    within("b", lines, "two ", "three\nfour")
    within("a", lines, "five\n", "six\nse")
    lines.finish(Invocation("b").request_id)
    lines.finish("a")
    lines.finish("a")

    assert "two three\none five\nsix\nfour\nse\n" == out.getvalue()


def test_lines_of_threads_without_an_invocation_do_not_mix() -> None:
    out = io.StringIO()
    lines = WholeLines(out, Lock())
    lines.write("one ")
    thread = Thread(target=lambda: lines.write("two\n"))
    thread.start()
    thread.join()
    lines.write("three\n")

    assert "two\none three\n" == out.getvalue()


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is too long goes out in pieces; of too many that are begun the oldest goes out."""
    monkeypatch.setattr(runtime_logs, "_MAX_HELD", 10)
    monkeypatch.setattr(runtime_logs, "_MAX_LINES", 2)
    out = io.StringIO()
    lines = WholeLines(out, Lock())
    within("a", lines, "x" * 11, "y")
    for request_id in "bc":
        within(request_id, lines, request_id)

    assert "x" * 11 + "\ny\n" == out.getvalue()


def test_the_stream_is_like_the_one_behind_it(tmp_path: object) -> None:
    with open(f"{tmp_path}/out", "w", encoding="latin-1", errors="replace") as out:
        lines = WholeLines(out, Lock())
        lines.write("nothing yet")
        lines.flush()

        assert (out.fileno(), False, "latin-1", "replace") == (
            lines.fileno(),
            lines.isatty(),
            lines.encoding,
            lines.errors,
        )
        assert out.buffer is lines.buffer
        assert lines.writable()


@pytest.mark.parametrize("keeps_lines_whole", [False, True])
def test_records_have_their_request(keeps_lines_whole: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """In text as the managed runtimes write it; also a thread's of its own, where one invocation runs at a time."""
    log = RuntimeLog.set_up({}, keeps_lines_whole=keeps_lines_whole)
    sys.stdout.write("begun ")
    log.only = Invocation("only")
    logging.getLogger("x").warning("first")
    own = contextvars.Context()
    own.run(invocation.enter, Invocation("own"))
    own.run(logging.getLogger().warning, "second")
    log.finish(Invocation("own"))
    first, second = (line for line in capsys.readouterr().out.splitlines() if "WARNING" in line)

    assert (["only", "first"], ["own", "second"]) == (first.split("\t")[2:], second.split("\t")[2:])
    if keeps_lines_whole:
        assert first.startswith("[WARNING]")


def test_json_records_have_awss_members(capsys: pytest.CaptureFixture[str]) -> None:
    RuntimeLog.set_up({"AWS_LAMBDA_LOG_FORMAT": "json", "AWS_LAMBDA_LOG_LEVEL": "trace"}, keeps_lines_whole=False)

    def log() -> None:
        invocation.enter(Invocation("id", tenant_id="blue"))
        logging.getLogger("app").debug("hello %s", "you")
        logging.getLogger().info({"structured": [1]})
        try:
            raise ValueError("bad\nvalue")
        except ValueError:
            logging.getLogger().exception("failed")

    contextvars.Context().run(log)
    logging.getLogger().warning("outside")
    said, structured, failed, outside = (
        json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")
    )

    assert said["timestamp"].endswith("Z")
    assert ("DEBUG", "hello you", "app", "id", "blue") == tuple(
        said[name] for name in ("level", "message", "logger", "requestId", "tenantId")
    )
    assert {"structured": [1]} == structured["message"]
    assert ("ValueError", "bad\nvalue") == (failed["errorType"], failed["errorMessage"])
    assert "test_runtime_logs.py" in failed["location"]
    assert "requestId" not in outside


@pytest.mark.parametrize(
    ("name", "level"), [("fatal", logging.CRITICAL), ("Info", logging.INFO), ("nonsense", logging.WARNING)]
)
def test_the_level_is_awss(name: str, level: int) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    RuntimeLog.set_up({"AWS_LAMBDA_LOG_LEVEL": name}, keeps_lines_whole=False)
    assert level == logging.getLogger().level


def test_a_failure_in_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    failure = {"errorType": "E", "errorMessage": "half a pair: \ud800\n", "requestId": "id", "stackTrace": ["a\n"]}
    RuntimeLog(is_json=True).write_failure(failure)
    (line,) = capsys.readouterr().out.splitlines()
    assert failure.items() <= json.loads(line).items()
