"""What a function's log gets: whole lines, with the id of the request that they belong to.

Log records are written as the managed runtimes write them, in text or, with AWS_LAMBDA_LOG_FORMAT=JSON, in JSON.
Printed text is never changed, but a line is held until it is complete, so that lines of calls that run at the same time
do not mix.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Mapping
from threading import Lock, get_ident
from typing import Any, TextIO

from lambda_fn import invocation

_MAX_HELD = 64 * 1024
"""Characters of a line that has no end yet. A longer line is written in pieces."""
_MAX_LINES = 4096
"""Lines without an end that are held at the same time. Above it the oldest is written."""

_LEVELS = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}
"""AWS's names of levels that Python lacks."""

_JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"


class WholeLines(io.TextIOBase):
    """A text stream that many threads write to: each line goes out at once, when its end has come."""

    def __init__(self, stream: TextIO, lock: Lock) -> None:
        """`lock`: shared with the other streams that lead to the same place."""
        self._stream = stream
        self._lock = lock
        self._held: dict[tuple[str, int], str] = {}
        """The beginnings of lines. Those of one invocation are together, whatever thread writes them."""

    def write(self, text: str) -> int:
        request_id = invocation.current().request_id
        key = (request_id, 0 if request_id else get_ident())
        with self._lock:
            lines, end, rest = (self._held.pop(key, "") + text).rpartition("\n")
            if len(rest) > _MAX_HELD:
                lines, end, rest = lines + end + rest, "\n", ""
            if rest:
                self._held[key] = rest
            if len(self._held) > _MAX_LINES:
                lines, end = lines + end + self._held.pop(next(iter(self._held))), "\n"
            if end:
                self._put(lines + end)
        return len(text)

    def finish(self, request_id: str) -> None:
        """Write the line that an invocation, now over, has not ended."""
        with self._lock:
            if rest := self._held.pop((request_id, 0), ""):
                self._put(rest + "\n")

    def put(self, line: str) -> None:
        """Write a line that is whole, whatever is held."""
        with self._lock:
            self._put(line)

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def flush(self) -> None:
        """Nothing to do: whole lines have gone out, and others wait for their end."""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # TextIO has plain attributes
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        return self._stream.buffer


class _Records:
    """Where log records go: they do not wait for the ends of lines that are held."""

    def __init__(self, lines: WholeLines) -> None:
        self.write = lines.put


class _TextFormat(logging.Formatter):
    """The line that the managed runtimes write."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, log: RuntimeLog) -> None:
        super().__init__("[%(levelname)s]\t%(asctime)s\t%(aws_request_id)s\t%(message)s")
        self.converter = time.gmtime
        self._log = log

    def format(self, record: logging.LogRecord) -> str:
        record.aws_request_id = self._log.serves().request_id
        return super().format(record)


class _JsonFormat(logging.Formatter):
    """One JSON object a line, with the members that the managed Python runtimes write."""

    def __init__(self, log: RuntimeLog) -> None:
        super().__init__(datefmt=_JSON_TIME)
        self.converter = time.gmtime
        self._log = log

    def format(self, record: logging.LogRecord) -> str:
        serves = self._log.serves()
        members: dict[str, Any] = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[0] is not None:
            from traceback import format_tb

            members |= {
                "stackTrace": format_tb(record.exc_info[2]),
                "errorType": record.exc_info[0].__name__,
                "errorMessage": str(record.exc_info[1]),
                "location": f"{record.pathname}:{record.funcName}:{record.lineno}",
            }
        if serves.request_id:
            members["requestId"] = serves.request_id
        if serves.tenant_id is not None:
            members["tenantId"] = serves.tenant_id
        return json.dumps(members, default=str)


class RuntimeLog:
    """The log of one instance."""

    def __init__(self, *, is_json: bool = False) -> None:
        self._is_json = is_json
        self._streams: tuple[WholeLines, ...] = ()
        self.only = invocation.NONE
        """The invocation of an instance that serves one at a time. Threads that the function started log under its id,
        too.
        """

    @classmethod
    def set_up(cls, environment: Mapping[str, str], *, keeps_lines_whole: bool) -> RuntimeLog:
        """Let log records and prints go out line by line, as on AWS: whoever captures our output sees them when they
        happen. `keeps_lines_whole`: also if many threads print.
        """
        log = cls(is_json=environment.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON")
        if keeps_lines_whole:
            log.keep_lines_whole()
        writer = logging.StreamHandler(_Records(log._streams[0]) if log._streams else sys.stdout)
        writer.setFormatter(_JsonFormat(log) if log._is_json else _TextFormat(log))
        root = logging.getLogger()
        root.addHandler(writer)
        root.setLevel(_level_of(environment.get("AWS_LAMBDA_LOG_LEVEL", ""), root.level))
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        return log

    def keep_lines_whole(self) -> None:
        lock = Lock()
        sys.stdout, sys.stderr = self._streams = WholeLines(sys.stdout, lock), WholeLines(sys.stderr, lock)

    def finish(self, served: invocation.Invocation) -> None:
        """Write what an invocation, now over, has printed and not ended."""
        for stream in self._streams:
            stream.finish(served.request_id)

    def serves(self) -> invocation.Invocation:
        """Return the invocation that the running code serves, as far as can be known."""
        found = invocation.current()
        return self.only if found is invocation.NONE else found

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Write the error of an invocation, or of the init, as one line."""
        if self._is_json:
            at = time.strftime(_JSON_TIME, time.gmtime())
            sys.stdout.write(json.dumps({"timestamp": at, "level": "ERROR", **failure}) + "\n")
            return
        lines = [f"[ERROR] {failure['errorType']}: {failure['errorMessage']}"]
        if failure["stackTrace"]:
            lines += ["Traceback (most recent call last):", *failure["stackTrace"]]
        # AWS's convention: a carriage return keeps the lines of one event together.
        text = "\r".join(line.rstrip("\n").replace("\n", "\r") for line in lines)
        # An error may quote its event, and JSON may hold half a surrogate pair: no text that can be written.
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def _level_of(name: str, default: int) -> int:
    level = logging.getLevelName(_LEVELS.get(name.upper(), name.upper()))
    return level if isinstance(level, int) else default
