"""The whole fleet: processes, the channels of the clients, and the account of what became of each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.fleet.clock import Clock
from benchmarks.fleet.process import FleetCall, Outcome, Process

AGE_JITTER = 0.1
"""The bridge spreads max_connection_age by a tenth."""
RETRY_AFTER = 1.0
"""Seconds before a client connects anew if it could not: gRPC's first backoff. After a break it connects at once."""


class EndedTwice(Exception):
    """A call ended a second time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened since the sample before."""

    at: float
    load: tuple[float, ...]
    """Seconds of the core that each process's new calls need, for each second. Above 1 calls queue up."""
    arrived: int
    ended: Counter[Outcome]
    waiting: int
    """Calls in the bridges' queues now."""
    instances: int


class Channel:
    """One client's channel: a connection to one process, or with round robin a connection to each."""

    def __init__(self, number: int, fleet: Fleet, *, is_round_robin: bool, max_age: float | None) -> None:
        self.number = number
        self._fleet = fleet
        self._is_round_robin = is_round_robin
        self._max_age = max_age
        self._next = number
        self._process: Process | None = None
        self._generation = 0
        self.connect()

    def connect(self) -> None:
        """Choose a process by chance, as a load balancer of connections does. Without one, try again later."""
        self._generation += 1
        clock = self._fleet.clock
        open_to = self._fleet.open_processes()
        self._process = clock.random.choice(open_to) if open_to else None
        if self._process is None:
            clock.after(RETRY_AFTER, self.connect)
        elif self._max_age is not None:
            age = self._max_age * clock.random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)
            clock.after(age, partial(self._aged, self._generation))

    def process(self) -> Process | None:
        """The process that takes the next call. None: there is no connection."""
        if not self._is_round_robin:
            if self._process is not None and self._process.is_draining:
                self.connect()  # GOAWAY: the next call needs a new connection
            return self._process if self._process is not None and self._process.is_alive else None
        open_to = self._fleet.open_processes()
        self._next += 1
        return open_to[self._next % len(open_to)] if open_to else None

    def lost(self, process: Process) -> None:
        """The process died: its connections broke."""
        if self._process is process:
            self.connect()

    def _aged(self, generation: int) -> None:
        if generation == self._generation:
            self.connect()


class Fleet:
    """Everything together. Times are seconds, rates are simulated calls a second."""

    def __init__(
        self,
        clock: Clock,
        new_process: Callable[[Callable[[FleetCall, Outcome], None]], Process],
        *,
        processes: int,
        channels: int,
        is_round_robin: bool = False,
        max_age: float | None = None,
    ) -> None:
        self.clock = clock
        self._new_process = new_process
        self.processes: list[Process] = [new_process(self._end) for _ in range(processes)]
        self._open: list[Process] | None = None
        self.channels = [
            Channel(number, self, is_round_robin=is_round_robin, max_age=max_age) for number in range(channels)
        ]
        self.arrived = 0
        self.unconnected = 0
        """Calls that no process took, because their channel had no connection."""
        self.ended: Counter[Outcome] = Counter()
        self.samples: list[Sample] = []
        self.instances: Callable[[], int] = lambda: 0

    def open_processes(self) -> list[Process]:
        """Those that take connections."""
        if self._open is None:
            self._open = [one for one in self.processes if one.takes_connections]
        return self._open

    # -- what is done to the fleet ------------------------------------------------------------------------------------

    def add(self) -> Process:
        """Start a process."""
        process = self._new_process(self._end)
        self.processes.append(process)
        self._open = None
        return process

    def kill(self, process: Process) -> None:
        """Let a process die without a word."""
        self._open = None
        process.die()
        for channel in self.channels:
            channel.lost(process)

    def restart(self, process: Process) -> None:
        """Start a process, and drain this one."""
        self.add()
        process.drain(lambda: None)
        self._open = None

    # -- calls --------------------------------------------------------------------------------------------------------

    def load(self, rate: float, *, until: float) -> None:
        """Let calls come as a Poisson process, each on a channel by chance."""
        if self.clock.now + (pause := self.clock.random.expovariate(rate)) <= until:
            self.clock.after(pause, partial(self._arrive, rate, until))

    def _arrive(self, rate: float, until: float) -> None:
        channel = self.clock.random.choice(self.channels)
        self.arrived += 1
        process = channel.process()
        if process is None:
            self.unconnected += 1
            self.ended[Outcome.LOST] += 1
        else:
            process.take(FleetCall(channel.number, self.clock.now))
        self.load(rate, until=until)

    def _end(self, call: FleetCall, outcome: Outcome) -> None:
        if call.outcome is not None:
            raise EndedTwice(f"{call.outcome.name}, then {outcome.name}")
        call.outcome = outcome
        self.ended[outcome] += 1

    # -- what is seen -------------------------------------------------------------------------------------------------

    @property
    def in_progress(self) -> int:
        """Calls that have not ended."""
        return sum(one.calls for one in self.processes)

    def watch(self, every: float, *, until: float) -> None:
        """Take samples. Processes that start later have 0 before."""
        used: dict[Process, float] = {}
        seen = [0, Counter[Outcome]()]

        def sample() -> None:
            load = tuple((one.cpu_used - used.get(one, 0.0)) / every for one in self.processes)
            arrived, ended = self.arrived, self.ended.copy()
            last_arrived, last_ended = seen
            assert isinstance(last_arrived, int)
            assert isinstance(last_ended, Counter)
            self.samples.append(
                Sample(
                    self.clock.now,
                    load,
                    arrived - last_arrived,
                    ended - last_ended,
                    sum(one.waiting for one in self.processes),
                    self.instances(),
                )
            )
            used.update({one: one.cpu_used for one in self.processes})
            seen[:] = [arrived, ended]
            if self.clock.now + every <= until + 1e-9:
                self.clock.after(every, sample)

        self.clock.after(every, sample)
