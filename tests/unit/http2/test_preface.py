from __future__ import annotations

import pytest

from bridge.http2.preface import PREFACE, Verdict, judge


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"", Verdict.UNDECIDED),
        (PREFACE[:23], Verdict.UNDECIDED),
        (PREFACE, Verdict.HTTP2),
        (PREFACE + b"more", Verdict.HTTP2),
        (b"P", Verdict.UNDECIDED),
        (b"OPTIONS", Verdict.UNDECIDED),
        (b"OPTIONS ", Verdict.HTTP1),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Verdict.HTTP1),
        (b"PRI * HTTP/1.1\r\n", Verdict.UNKNOWN),
        (b"GETTING", Verdict.UNKNOWN),
        (b"INVALID CONNECTION PREFACE", Verdict.UNKNOWN),
        (b"get / http/1.1", Verdict.UNKNOWN),
        (b"\x16", Verdict.UNDECIDED),
        (b"\x16\x03\x01\x02", Verdict.TLS),
        (b"\x16\x03\x03\x02", Verdict.TLS),
        (b"\x16\x02", Verdict.UNKNOWN),
        (bytes(24), Verdict.UNKNOWN),
    ],
)
def test_verdicts(data: bytes, verdict: Verdict) -> None:
    assert verdict is judge(data)


@pytest.mark.parametrize(
    "data",
    [
        PREFACE,
        b"\x16\x03\x01\x02\x00",
        b"\x16\x04",
        b"POST /a HTTP/1.1\r\n",
        b"PRIVATE",
        b"\0",
        b"DELETED files",
        b"HEAD",
    ],
)
def test_verdict_never_changes_with_more_bytes(data: bytes) -> None:
    """The first byte that decides, decides: cutting differently changes nothing."""
    verdicts = [judge(data[:size]) for size in range(len(data) + 1)]
    decided = [verdict for verdict in verdicts if verdict is not Verdict.UNDECIDED]

    assert len(set(decided)) <= 1
    assert verdicts == [Verdict.UNDECIDED] * (len(verdicts) - len(decided)) + decided


def test_undecided_is_bounded() -> None:
    """No beginning is held that is longer than the preface."""
    assert Verdict.UNDECIDED is not judge(b"P" * 24)
