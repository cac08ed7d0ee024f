"""What an instance writes: its process's output and AWS's own lines, split into the logs of its invocations."""

from __future__ import annotations

from collections.abc import Callable

from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import failures, logs
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation
from bridge.emulator.instances.logs import InvocationReport, LineSplitter, LogTail
from bridge.emulator.instances.memory_watch import MemoryWatch


class InstanceOutput:
    """`log` gets each line. An instance that serves one invocation at a time gives all output to it. Among many
    invocations, a line belongs to those whose request ids it names.
    """

    def __init__(
        self, config: FunctionConfig, memory: MemoryWatch, log: Callable[[str], None], *, shows_reports: bool = True
    ) -> None:
        self.init_duration: float | None = None
        """Seconds. The first invocation reports it."""
        self._memory_size = config.memory
        self._memory = memory
        self._log = log
        self._shows_reports = shows_reports
        self._lines = LineSplitter()
        self._only_tail = LogTail() if config.instance_concurrency == 1 else None
        """The one tail of an instance that serves one invocation at a time. It holds the output of init, too."""
        self._tails: dict[str, LogTail] = {}
        """By request id, of the invocations that the runtime has got."""

    def write(self, output: bytes) -> None:
        """Take what the process wrote to stdout and stderr."""
        if self._only_tail is not None:
            self._only_tail.add(output)
        for line in self._lines.feed(output):
            self.write_line(line)

    def write_line(self, line: str) -> None:
        """Take a whole line, of the process or of its log socket."""
        self._log(line)
        if self._only_tail is None:
            for request_id in logs.request_ids_in(line):
                if (tail := self._tails.get(request_id)) is not None:
                    tail.add_line(line)

    def finish(self) -> None:
        """Write the last line, if it has no end."""
        for line in self._lines.finish():
            self.write_line(line)

    def begin(self, request_id: str) -> LogTail:
        """Return the tail for an invocation that the runtime gets now. It collects until `end`."""
        tail = self._tails[request_id] = self._tail()
        self._write(logs.start_line(request_id), tail)
        return tail

    def end(self, request_id: str) -> None:
        """Collect no more for this invocation."""
        del self._tails[request_id]

    def begin_failed(self, request_id: str, init_duration: float, failure: Failure) -> LogTail:
        """Return the tail for an invocation whose instance failed before it got that far. Duration in seconds."""
        tail = self._tail()
        self._write(logs.failed_init_line(init_duration, _outcome(failure)), tail)
        self._write(logs.start_line(request_id), tail)
        return tail

    def report(self, invocation: Invocation, tail: LogTail, failure: Failure | None, duration: float) -> bytes:
        """Write the end of the invocation's log, with AWS's report. Return the tail, empty unless the invoker wants it.

        The duration is in seconds.
        """
        init_duration, self.init_duration = self.init_duration, None
        if failure is not None and failure.notice:
            self._log(failure.notice)
            tail.add_line(failure.notice)
        self._memory.look()
        report = InvocationReport(
            request_id=invocation.request_id,
            duration=duration,
            memory_size=self._memory_size,
            memory_used=self._memory.peak,
            init_duration=init_duration,
            outcome=_outcome(failure) if failure is not None and failure.notice else "",
        )
        self._write(logs.end_line(invocation.request_id), tail)
        self._write(report.line, tail)
        if (trace := logs.trace_line(invocation.trace_id)) is not None:
            self._write(trace, tail)
        kept = tail.take()
        return kept if invocation.wants_log else b""

    def _tail(self) -> LogTail:
        return LogTail() if self._only_tail is None else self._only_tail

    def _write(self, line: str, tail: LogTail) -> None:
        """Write a line of AWS's own into the log and into an invocation's tail."""
        if self._shows_reports:
            self._log(line)
        tail.add_line(line)


def _outcome(failure: Failure) -> str:
    if failure.error_type == failures.TIMED_OUT:
        return "Status: timeout"
    return f"Status: error\tError Type: {failure.error_type}"
