"""A bridge in several processes (`workers: N`): sockets bound once, workers that inherit them, the shared_services
here.

One gRPC channel is one connection and so one worker: more workers help many channels, not one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.config.console import console_off
from bridge.config.problems import ConfigErrors
from bridge.config.reload import after_reload
from bridge.config.schema import Config
from bridge.server.control import Begin, Changed, ReloadWorker
from bridge.server.server import BACKLOG, BoundSocket
from bridge.server.workers import WorkerFailed, Workers, this_python
from bridge.shared_services import SharedServices

if TYPE_CHECKING:
    from bridge.admin.snapshot import Snapshot

_SLACK = 5.0
"""Seconds beyond its drain that a worker may take to end."""


class Supervisor:
    """Belongs to the running loop."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[BoundSocket],
        *,
        file: Path,
        overrides: Mapping[str, str],
    ) -> None:
        """Take the sockets of `listen`. `file` and `overrides` are what `config` was read from: workers read it for
        themselves.
        """
        self.config = config
        self._sockets = sockets
        self.addresses = [bound.address for bound in sockets]
        self._file = file
        self._overrides = dict(overrides)
        self._shared_services = SharedServices(config, changed=self._changed)
        self._workers: Workers | None = None
        self._departed = b""
        """The encoded counts of workers that have ended, added up: a counter never goes backwards."""
        self._is_draining = False

    async def start(self) -> None:
        """Start the workers. Raises ConfigErrors if their configuration keeps them from serving, and OSError for an
        address in use or what else does.
        """
        endpoint = await self._shared_services.start_local_lambda(self.config)
        for bound in self._sockets:
            bound.sock.listen(BACKLOG)  # connections queue while workers start, or start again
        count = self.config.workers or usable_cores()
        self._workers = Workers(
            count,
            this_python("bridge.commands.worker"),
            self._begin(endpoint),
            has_console=not console_off(self.config),
        )
        try:
            await self._workers.start()
        except WorkerFailed as error:
            raise (ConfigErrors(error.problems) if error.problems else OSError(str(error))) from error
        except TimeoutError as error:
            raise OSError("the workers did not start in time") from error
        await self._shared_services.start_admin(
            listeners=lambda: self.addresses,
            unready=self._unready,
            snapshot=self._snapshot,
            open_console=self._open_console,
        )

    def _begin(self, endpoint: str) -> Begin:
        descriptors = tuple(bound.sock.fileno() for bound in self._sockets)
        return Begin(str(self._file), self._overrides, descriptors, endpoint)

    def _unready(self) -> list[str]:
        workers = [] if self._workers is None else self._workers.unready
        return ["draining", *workers] if self._is_draining else workers

    async def _snapshot(self, *, recent: bool = False) -> Snapshot:
        from msgspec.json import decode, encode

        from bridge.admin.process import process_snapshot
        from bridge.admin.snapshot import Snapshot

        whole = Snapshot(process=process_snapshot())
        if self._workers is None:
            return whole
        serving = await self._workers.report(recent=recent)
        departed = decode(self._departed, type=Snapshot) if self._departed else Snapshot()
        for encoded in self._workers.take_last_words():
            departed.add(decode(encoded, type=Snapshot).counts())
        self._departed = encode(departed)
        whole.add(departed)
        for encoded in serving:
            whole.add(decode(encoded, type=Snapshot))
        return whole

    def _open_console(self) -> socket.socket:
        """Return one end of a pair of sockets. A worker's console has the other. Raises OSError."""
        ours, theirs = socket.socketpair()
        if self._workers is None or not self._workers.hand_over(theirs):
            ours.close()
            raise OSError(errno.EAGAIN, "no worker takes calls of the console now")
        return ours

    def _changed(self, function: str) -> None:
        if self._workers is not None:
            self._workers.tell(Changed(function))

    async def reload(self, config: Config) -> None:
        """Each worker reads the configuration for itself; one that cannot use it says so in the log and keeps the old
        one.
        """
        endpoint = await self._shared_services.start_local_lambda(config)
        self.config = after_reload(self.config, config)
        await self._shared_services.reload(self.config)
        if self._workers is not None:
            self._workers.begin_with(self._begin(endpoint))
            self._workers.tell(ReloadWorker(endpoint))

    async def drain(self) -> None:
        """Stop accepting, and wait until the workers have ended their calls."""
        self._is_draining = True
        self._stop_listening()
        if self._workers is not None:
            allowed = self.config.drain_delay + self.config.drain + _SLACK
            await self._workers.drain(allowed=allowed)

    def _stop_listening(self) -> None:
        """Our copies; the workers have theirs, and accept for `drain_delay`."""
        for bound in self._sockets:
            bound.close()

    async def close(self) -> None:
        """Fine at any time, and twice."""
        self._stop_listening()
        if self._workers is not None:
            await self._workers.close()
        await self._shared_services.close()


def usable_cores(
    affinity: Mapping[int, object] | None = None, quota_file: Path = Path("/sys/fs/cgroup/cpu.max")
) -> int:
    """Return the cores that this process may use: its affinity, or its cgroup's quota (v2, cpu.max), rounded up."""
    cores = len(affinity) if affinity is not None else len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return cores  # no quota, or not Linux
