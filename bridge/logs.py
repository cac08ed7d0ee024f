"""The log's lines: one event per line to stderr, for people on a terminal, as JSON elsewhere.

All lines begin alike, those of calls too: time, level, logger. In JSON the time is RFC 3339 in UTC.

Clients and functions choose part of what is logged, so nothing in it may begin a line or steer a terminal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TextIO

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Encoder

from bridge.lossy_writer import LossyWriter

Format = Literal["auto", "console", "json"]


class LogLine(Struct, frozen=True, gc=False, omit_defaults=True):
    """A line in JSON. Its first fields are those of all lines."""

    time: datetime
    level: str
    logger: str
    message: str
    traceback: str | UnsetType = UNSET


_encode = Encoder().encode

_LEVEL_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m"}
_RESET = "\x1b[0m"
LINE_WAIT = 0.1
"""Seconds that a line may wait."""


def is_console(log_format: Format) -> bool:
    """Whether lines are for people: asked for, or by `auto` because stderr is a terminal."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def set_up(*, level: str, log_format: Format, redact: Callable[[str], str] = str, patience: float = LINE_WAIT) -> None:
    """Send the bridge's log to stderr; what libraries say matters from WARNING up. `redact`: takes out what no line may
    show. `patience`: seconds that a line may wait for a slow reader.
    """
    stream = _NonBlockingHandler(sys.stderr, patience)
    shape = _ConsoleFormatter if is_console(log_format) else _JsonFormatter
    stream.setFormatter(shape(redact))
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)  # Python's own are lines as well
    logging.getLogger("bridge").setLevel(level.upper())
    logging.getLogger("aiohttp.server").addFilter(_is_no_mistake_of_a_client)
    # Tracebacks of failed searches, which quote what was read: the bridge tells each in one line, and without secrets.
    for name in ("botocore.credentials", "botocore.tokens", "botocore.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A warning for each odd tracestate that a client sends: strangers would fill the log.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)


def _is_no_mistake_of_a_client(record: logging.LogRecord) -> bool:
    """Return False for requests that are not HTTP. The server answers them with 400 and logs a traceback, so strangers
    could fill the log.
    """
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__module__ != "aiohttp.http_exceptions"


def console_line(time: datetime, level: str, logger: str, text: str) -> str:
    """Return a line for people, without its end: the local time of day, level, logger and text."""
    return f"{time.astimezone():%H:%M:%S} {level:<7} {logger}: {one_line(text)}"


def one_line(text: str) -> str:
    """Return the text on one line for a terminal: control characters and lone surrogates as Python escapes."""
    if text.isprintable():
        return text
    return "".join(
        [letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text]
    )


def encodable(text: str) -> str:
    """Return the text with what UTF-8 cannot hold (lone surrogates: bytes that were no UTF-8) escaped."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _NonBlockingHandler(logging.StreamHandler[TextIO]):
    """Waits a moment for a slow reader, and only once for one that has stopped. A full pipe, or a terminal held by
    Ctrl-S, loses lines and delays no call.
    """

    def __init__(self, stream: TextIO, patience: float) -> None:
        super().__init__(stream)
        self._patience = patience
        self._has_stopped = False
        try:
            self._outlet: LossyWriter | None = LossyWriter(stream.fileno())
        except OSError:  # no file
            self._outlet = None

    def emit(self, record: logging.LogRecord) -> None:
        if self._outlet is None:
            super().emit(record)
            return
        try:
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - as every logging.Handler: a line that cannot be made ends no call
            self.handleError(record)
            return
        patience = 0.0 if self._has_stopped else self._patience
        self._outlet.write_out()  # the end of a line that was cut
        if self._outlet.is_empty:
            self._outlet.add(line)
            self._outlet.write_out(patience=patience)
        self._has_stopped = not self._outlet.is_empty


class _Formatter(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        traceback = self.formatException(record.exc_info) if record.exc_info else ""
        line = LogLine(
            datetime.fromtimestamp(record.created, UTC),
            record.levelname.lower(),
            record.name,
            encodable(self._redact(record.getMessage())),
            encodable(self._redact(traceback)) or UNSET,
        )
        return _encode(line).decode()


class _ConsoleFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time, level = datetime.fromtimestamp(record.created, UTC), record.levelname.lower()
        line = console_line(time, level, record.name, self._redact(record.getMessage()))
        if record.exc_info:
            # Indented: no line of a traceback, its exception's text among them, can pass for an event.
            traceback = self._redact(self.formatException(record.exc_info)).split("\n")
            line = "\n".join([line, *(f"  {one_line(part)}" for part in traceback)])
        colour = _LEVEL_COLOURS.get(record.levelno) if sys.stderr.isatty() else None
        return f"{colour}{line}{_RESET}" if colour else line
