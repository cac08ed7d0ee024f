"""The bridge's own log lines: for people and for machines, and never more than one event a line."""

import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from bridge import logs

_NASTY = "a\nfake\r line\x1b[2J \x9b31m \u2028 \u202e \x00 \udce9"


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("bridge")
    before = (list(root.handlers), root.level, own.level)
    yield
    root.handlers[:], root.level = before[0], before[1]
    own.setLevel(before[2])
    logging.captureWarnings(capture=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_auto_is_console_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON elsewhere; a format that was asked for is taken anywhere."""
    piped = [logs.is_console("auto"), logs.is_console("console"), logs.is_console("json")]
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = [logs.is_console("auto"), logs.is_console("console"), logs.is_console("json")]

    assert [False, True, False] == piped
    assert [True, True, False] == shown


def test_json_line_has_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Time in UTC, level, logger, message."""
    logs.set_up(level="info", log_format="json")
    logging.getLogger("bridge.server").info("listening on %s", "127.0.0.1:50051")
    line = json.loads(capsys.readouterr().err)

    assert {
        "level": "info",
        "logger": "bridge.server",
        "message": "listening on 127.0.0.1:50051",
    } == {key: value for key, value in line.items() if key != "time"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", line["time"])


def test_json_line_holds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """One line still."""
    logs.set_up(level="info", log_format="json")
    _log_an_exception(_NASTY)
    text = capsys.readouterr().err

    assert 1 == text.count("\n")
    assert "ZeroDivisionError" in json.loads(text)["traceback"]


def test_level_is_the_bridges_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What libraries say matters from WARNING up, whatever our level."""
    logs.set_up(level="debug", log_format="json")
    logging.getLogger("bridge.server").debug("ours")
    logging.getLogger("botocore").info("theirs")
    logging.getLogger("botocore").warning("theirs, and it matters")

    assert ["ours", "theirs, and it matters"] == [
        json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()
    ]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_message_cannot_start_another_line(log_format: logs.Format, capsys: pytest.CaptureFixture[str]) -> None:
    """Clients and functions choose part of a message; they choose no line."""
    logs.set_up(level="info", log_format=log_format)
    logging.getLogger("bridge").info("the function said: %s", _NASTY)
    text = capsys.readouterr().err

    assert 1 == text.count("\n")
    assert not {"\x1b", "\r", "\x00", "\udce9"} & set(text)


def test_warnings_of_python_are_lines_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library says to `warnings` would stand among JSON lines as plain text."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.set_up(level="info", log_format="json")
        warnings.warn("odd but harmless", FutureWarning, stacklevel=1)

    line = json.loads(capsys.readouterr().err)
    assert ("warning", "py.warnings") == (line["level"], line["logger"])
    assert "FutureWarning: odd but harmless" in line["message"]


def test_console_traceback_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """No line of it, the exception's own text among them, looks like an event."""
    logs.set_up(level="info", log_format="console")
    _log_an_exception("harmless\n12:00:00 fake event\x1b[2J")
    first, *rest = capsys.readouterr().err.splitlines()

    assert first.endswith(" error   bridge: it broke")
    assert "  ZeroDivisionError: harmless" in rest
    assert all(line.startswith("  ") for line in rest)
    assert not any("\x1b" in line for line in rest)


def test_warnings_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only there."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logs.set_up(level="info", log_format="auto")
    logging.getLogger("bridge").info("plain")
    logging.getLogger("bridge").warning("look here")
    plain, warning = terminal.getvalue().splitlines()

    assert "\x1b" not in plain
    assert warning.startswith("\x1b[33m")
    assert warning.endswith(" warning bridge: look here\x1b[0m")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("grüße 😀", "grüße 😀"),
        ("a\tb", "a\\tb"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202e", "\\u202e"),
    ],
)
def test_one_line_shows_what_it_does_not_obey(text: str, line: str) -> None:
    """Letters of any language stay; control characters are escaped."""
    assert line == logs.one_line(text)


@pytest.mark.parametrize(("text", "line"), [("plain", "plain"), ("grüße", "grüße"), ("caf\udce9", "caf\\udce9")])
def test_encodable_escapes_only_what_utf_8_cannot_hold(text: str, line: str) -> None:
    """Lone surrogates: bytes that were no UTF-8."""
    assert line == logs.encodable(text)


def _log_an_exception(text: str) -> None:
    try:
        raise ZeroDivisionError(text)
    except ZeroDivisionError:
        logging.getLogger("bridge").exception("it broke")


def test_what_is_no_http_is_not_our_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever knocks at the admin port with garbage leaves no traceback; our own errors do."""
    logs.set_up(level="info", log_format="json")
    for error in (BadHttpMessage("garbage"), ValueError("ours")):
        try:
            raise error
        except (BadHttpMessage, ValueError):
            logging.getLogger("aiohttp.server").exception("Error handling request")

    [line] = capsys.readouterr().err.splitlines()
    assert "ours" in json.loads(line)["traceback"]


def test_lines_that_nobody_takes_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pipe is not waited for, or the log's reader would decide whether calls are served; afterwards lines come
    again.
    """
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as log, open(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up(level="info", log_format="json", patience=0.001)
        for number in range(2000):
            logging.getLogger("bridge.server").info("%04d %s", number, "x" * 200)
        taken = log.read(1 << 20).count(b"\n")
        logging.getLogger("bridge.server").info("again")
        last = log.read(1 << 20)

    assert 0 < taken < 2000
    assert b"again" in last


def test_a_long_line_does_not_wait_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback is longer than what a pipe takes at once when it says that it has room: the rest comes with the next
    line.
    """
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as log, open(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up(level="info", log_format="json", patience=0.001)
        logging.getLogger("bridge").info("a" * 100_000)
        first = log.read(1 << 20)
        logging.getLogger("bridge").info("b")
        whole = first + log.read(1 << 20)

    assert len(first) < 100_000
    assert ["a" * 100_000, "b"] == [json.loads(line)["message"] for line in whole.splitlines()]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_in_no_line(log_format: logs.Format, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in messages nor in tracebacks."""
    logs.set_up(level="info", log_format=log_format, redact=lambda text: text.replace("hunter2", "…"))
    log = logging.getLogger("bridge.x")
    log.warning("a server says: %s", "bad key hunter2")
    try:
        raise ValueError("hunter2")
    except ValueError:
        log.exception("it broke")
    said = capsys.readouterr().err

    assert "hunter2" not in said
    assert said.count("…") >= 2
