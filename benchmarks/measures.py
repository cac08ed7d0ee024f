"""What is measured: each measure loads one running peer and brings figures home."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Self

from benchmarks import caller, load, peers
from benchmarks.load import REPLY_BODY, Load, Shape
from benchmarks.machine import cpu_seconds, resident
from benchmarks.peers import Folder, Peer, Running

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    unit: str
    more_is_better: bool = False


Figures = dict[Figure, float]


@dataclass(frozen=True, slots=True)
class Subject:
    """A peer that runs."""

    peer: Peer
    running: Running
    folder: Folder
    effort: float
    """How many of the usual calls: 1 in a full run."""

    def calls(self, usual: int) -> int:
        return max(64, int(usual * self.effort))


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    """What `--only` chooses by."""
    take: Callable[[Subject], Figures]
    needs_grpc: bool = True
    """Only for peers that a gRPC client is content with."""


PLAIN, TLS, SLOW = "/bench.Plain/Say", "/bench.Tls/Say", "/bench.Slow/Say"


# -- on peers that run side by side ------------------------------------------------------------------------------------


def _saturated(path: str, name: str) -> Callable[[Subject], Figures]:
    def take(subject: Subject) -> Figures:
        sent, microseconds = _loaded(subject, path, Shape(subject.calls(20_000)))
        return {
            Figure(f"CPU a call, {name}", "us"): microseconds,
            Figure(f"calls a second, {name}", "1/s", more_is_better=True): sent.calls / sent.seconds,
        }

    return take


def _evenly(path: str, name: str) -> Callable[[Subject], Figures]:
    rate = 2000

    def take(subject: Subject) -> Figures:
        shape = Shape(subject.calls(6000), rate=rate)
        _, microseconds = _loaded(subject, path, shape)
        return {Figure(f"CPU a call at {rate} calls/s, {name}", "us"): microseconds}

    return take


def _differing_headers(subject: Subject) -> Figures:
    shape = Shape(subject.calls(8000))
    used = cpu_seconds(subject.running.pid)
    sent = caller.varied(subject.peer.port, PLAIN, shape)
    used = cpu_seconds(subject.running.pid) - used
    return {Figure("CPU a call, header blocks that differ", "us"): used / sent.calls * 1e6}


def _one_at_a_time(subject: Subject) -> Figures:
    sent, _ = _loaded(subject, PLAIN, Shape(subject.calls(3000), connections=1, streams=1))
    return {
        Figure("latency, one call at a time, mean", "us"): _mean(sent) * 1e6,
        Figure("latency, one call at a time, p99", "us"): _percentile(sent, 0.99) * 1e6,
    }


def _large(size: int, usual: int) -> Callable[[Subject], Figures]:
    def take(subject: Subject) -> Figures:
        shape = Shape(max(8, int(usual * subject.effort)), connections=2, streams=2)
        _, microseconds = _loaded(subject, f"/bench.Sized{size}/Say", shape, size=size)
        return {Figure(f"CPU a call, {_text_of(size)} each way", "us"): microseconds}

    return take


def _many_connections(subject: Subject) -> Figures:
    shape = Shape(subject.calls(10_000), connections=1000, streams=1)
    sent, microseconds = _loaded(subject, PLAIN, shape)
    return {
        Figure("CPU a call, 1,000 connections", "us"): microseconds,
        Figure("latency, 1,000 connections, p99", "us"): _percentile(sent, 0.99) * 1e6,
    }


def _many_in_flight(subject: Subject) -> Figures:
    shape = Shape(3000, connections=10, streams=100)
    sent, microseconds = _loaded(subject, SLOW, shape)
    return {
        Figure("CPU a call, 1,000 in flight for 1 s", "us"): microseconds,
        Figure("latency, 1,000 in flight for 1 s, p99", "us"): _percentile(sent, 0.99) * 1e6,
    }


def _memory(subject: Subject) -> Figures:
    return {Figure("memory after the run", "MiB"): resident(subject.running.pid) / MIB}


SIDE_BY_SIDE = (
    Measure("cpu", _saturated(PLAIN, "plain upstream"), needs_grpc=False),
    Measure("tls", _saturated(TLS, "TLS upstream")),
    Measure("even", _evenly(PLAIN, "plain upstream")),
    Measure("even-tls", _evenly(TLS, "TLS upstream")),
    Measure("headers", _differing_headers),
    Measure("latency", _one_at_a_time, needs_grpc=False),
    *(Measure("sizes", _large(size, usual)) for size, usual in zip(peers.SIZES, (1000, 80, 24), strict=True)),
    Measure("connections", _many_connections),
    Measure("in-flight", _many_in_flight),
    Measure("memory", _memory, needs_grpc=False),
)
"""In this order; the last one after all others."""


# -- on a peer that has just started -----------------------------------------------------------------------------------


def take_fresh(peer: Peer, folder: Folder, effort: float) -> Figures:
    """Time to the first answer, and what a further connection and a further call take, each from a start of its own."""
    figures: Figures = {}
    for grow in (_per_connection, _per_call):
        began = time.monotonic()
        running = peers.start(peer, folder)
        try:
            caller.wait_for_first_answer(peer.port, PLAIN)
            figures[Figure("start to first answer", "ms")] = (time.monotonic() - began) * 1e3
            subject = Subject(peer, running, folder, effort)
            _loaded(subject, PLAIN, Shape(2000))
            figures |= grow(subject)
        finally:
            running.stop()
    return figures


def _per_connection(subject: Subject) -> Figures:
    count = 1000
    before = resident(subject.running.pid)
    with caller.staying(subject.peer.port, PLAIN, count):
        grown = resident(subject.running.pid) - before
    return {Figure("memory of a further connection", "KiB"): grown / count / 1024}


def _per_call(subject: Subject) -> Figures:
    """Of calls in flight, ten connections of a hundred: theirs and the connections' upstream are counted in."""
    count = 1000
    before = resident(subject.running.pid)
    with _Peak(subject.running.pid) as peak:
        _loaded(subject, SLOW, Shape(count, connections=10, streams=100))
    return {Figure("memory of a further call in flight", "KiB"): (peak.seen - before) / count / 1024}


class _Peak:
    """The most memory that a process holds while the block runs, looked at every 20 ms."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ends = Event()
        self._thread = Thread(target=self._look)
        self.seen = 0

    def _look(self) -> None:
        while not self._ends.wait(0.02):
            self.seen = max(self.seen, resident(self._pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join()


# -- flatness: what must not cost more when there is more of it --------------------------------------------------------


def take_flatness(bridge: Peer, many: Peer, folder: Folder, effort: float) -> Figures:
    """Of the bridge alone. `many` is the same with 1,000 services more."""
    figures: Figures = {}
    with peers.serving(folder, bridge) as (running,):
        subject = Subject(bridge, running, folder, effort)
        caller.wait_for_first_answer(bridge.port, PLAIN)
        _loaded(subject, PLAIN, Shape(2000))
        for calls in (1000, subject.calls(100_000)):
            _, cost = _loaded(subject, PLAIN, Shape(calls, connections=1))
            figures[Figure(f"{calls:,} calls on one connection", "us")] = cost
        paths = tuple(f"/bench.Plain/Say{number}" for number in range(1000))
        _, cost = _loaded(subject, *_spread(subject, paths))
        figures[Figure("one service, calls to 1,000 methods of it", "us")] = cost
    with peers.serving(folder, many) as (running,):
        subject = Subject(many, running, folder, effort)
        caller.wait_for_first_answer(many.port, PLAIN)
        _loaded(subject, PLAIN, Shape(2000))
        _, cost = _loaded(subject, PLAIN, Shape(subject.calls(20_000)))
        figures[Figure("1,000 services, calls to one", "us")] = cost
        paths = tuple(f"/many.Service{number}/Say" for number in range(1000))
        _, cost = _loaded(subject, *_spread(subject, paths))
        figures[Figure("1,000 services, calls to all of them", "us")] = cost
    return figures


def _spread(subject: Subject, paths: tuple[str, ...]) -> tuple[tuple[str, ...], Shape]:
    return paths, Shape(subject.calls(20_000))


# -- on the way --------------------------------------------------------------------------------------------------------


def _loaded(
    subject: Subject, paths: str | tuple[str, ...], shape: Shape, *, size: int | None = None
) -> tuple[Load, float]:
    """The load, and the microseconds of CPU that each of its calls took."""
    reply_body = REPLY_BODY if size is None else 5 + size
    if isinstance(paths, str):
        paths = (paths,)
    used = cpu_seconds(subject.running.pid)
    sent = load.send(subject.peer.port, paths, shape, body=subject.folder.body(size), reply_body=reply_body)
    used = cpu_seconds(subject.running.pid) - used
    return sent, used / sent.calls * 1e6


def _mean(sent: Load) -> float:
    return sum(sent.latencies) / len(sent.latencies)


def _percentile(sent: Load, part: float) -> float:
    return sent.latencies[min(len(sent.latencies) - 1, int(len(sent.latencies) * part))]


def _text_of(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // 1024} KiB"
