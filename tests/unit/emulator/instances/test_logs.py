"""Functions' output, and AWS's lines about an invocation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emulator.instances.logs import (
    MAX_LOG_LINE,
    MAX_TAIL,
    InvocationReport,
    LineSplitter,
    LogTail,
    advice_on,
    trace_line,
)
from bridge.rpc.limits import MIB


def split(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + splitter.finish()


def test_lines_end_at_newlines_and_carriage_returns() -> None:
    """AWS's Python runtime joins the lines of a traceback with carriage returns."""
    assert split(b"a\r\nb\n\nc\rd") == ["a", "b", "", "c", "d"]


def test_a_line_is_whole_before_it_is_shown() -> None:
    splitter = LineSplitter()

    assert splitter.feed(b"he") == []
    assert splitter.feed(b"llo\nwor") == ["hello"]
    assert splitter.finish() == ["wor"]


def test_a_line_without_end_is_shown_in_pieces() -> None:
    """No more than MAX_LINE is ever held."""
    splitter = LineSplitter()
    lines = [line for _ in range(40) for line in splitter.feed(b"x" * 1000)]

    assert lines == ["x" * MAX_LOG_LINE] * 2
    assert splitter.finish() == ["x" * (40_000 - 2 * MAX_LOG_LINE)]


def test_what_is_no_utf8_is_shown_all_the_same() -> None:
    assert split(b"\xff!\n") == ["\ufffd!"]


@given(st.binary(max_size=60).map(lambda b: bytes(b"\r\nab"[x % 4] for x in b)), st.data())
def test_chunking_does_not_matter(text: bytes, data: st.DataObject) -> None:
    """The same lines, however the bytes arrive."""
    cut = data.draw(st.integers(0, len(text)))

    assert split(text) == split(text[:cut], text[cut:])
    assert split(text) == split(*(text[n : n + 1] for n in range(len(text))))


def test_the_tail_keeps_the_end() -> None:
    tail = LogTail()
    tail.add(b"a" * MAX_TAIL)
    tail.add_line("end")

    kept = tail.take()
    assert (len(kept), kept[-5:]) == (MAX_TAIL, b"aend\n")
    assert tail.take() == b""


def test_a_report_is_written_as_aws_writes_it() -> None:
    """Milliseconds, rounded up for the bill, which has the init; megabytes; what is not known left out."""
    report = InvocationReport("id", 0.01234, 128 * MIB, 30 * MIB + 1, 0.2, "Status: timeout")

    assert report.line == (
        "REPORT RequestId: id\tDuration: 12.34 ms\tBilled Duration: 213 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 31 MB\tInit Duration: 200.00 ms\tStatus: timeout\t"
    )
    warm = InvocationReport("id", 0.01234, 1, 1).line
    assert "Billed Duration: 13 ms" in warm
    assert "Init Duration" not in warm


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("Root=1-5d-ab;Parent=3d752;Sampled=1", "XRAY TraceId: 1-5d-ab\tSegmentId: 3d752\tSampled: true\t"),
        ("Root=1-5d-ab; Sampled=1; Parent=3d752;Self=x", "XRAY TraceId: 1-5d-ab\tSegmentId: 3d752\tSampled: true\t"),
        ("Root=1-5d-ab;Parent=3d752;Sampled=0", None),
        ("Root=1-5d-ab;Sampled=1", None),
        ("", None),
    ],
)
def test_only_a_sampled_invocation_has_a_line_of_xray(header: str, line: str | None) -> None:
    assert line == trace_line(header)


@pytest.mark.parametrize(
    "line",
    [
        "ModuleNotFoundError: No module named 'lambda_fn'",
        "ModuleNotFoundError: No module named 'lambda_fn.server'",
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'lambda_fn'",
        "/usr/bin/python3: No module named lambda_fn",
    ],
)
def test_a_program_without_lambda_fn_is_told_what_to_install(line: str) -> None:
    assert "pip install grpc-lambda-fn" in (advice_on(line) or "")


@pytest.mark.parametrize("line", ["ModuleNotFoundError: No module named 'lambda_fns'", "lambda_fn", ""])
def test_other_lines_need_no_advice(line: str) -> None:
    assert advice_on(line) is None
