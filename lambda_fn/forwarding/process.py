"""ServerProcess: a program that serves gRPC next to the function, started, waited for, and started again when it has
ended.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from lambda_fn.forwarding.sockets import remove_leftovers, remove_socket
from lambda_fn.forwarding.target import PID, Target

_logger = logging.getLogger("lambda_fn")

_FIRST_WAIT, _LONGEST_WAIT = 0.005, 0.05
"""Seconds between two attempts to connect to a program that starts."""

_STOP_SECONDS = 5.0
_PLACEHOLDERS = ("{socket}", "{address}")


class NotServing(Exception):
    """The program does not accept connections; the text says why."""


class EndedEarly(NotServing):
    """The program ended before it accepted a connection."""


class ServerProcess:
    """Starts at once: Lambda gives the most processor time while a function loads. May be used from any thread."""

    def __init__(self, command: Sequence[str], target: Target, *, start_timeout: float) -> None:
        """Start the command. Raises ValueError for what is no command, OSError if it cannot be run."""
        if isinstance(command, str) or not command:
            raise ValueError("command is a list: the program and its arguments")
        is_told = any(name in argument for argument in command for name in _PLACEHOLDERS)
        if is_told or PID in target.address:
            remove_leftovers(target)
            target = target.of_process(os.getpid())
        if not target.is_here or target.credentials is not None:
            raise ValueError(
                f"a command serves plaintext in this function: unix:PATH or localhost:PORT, not {target.address}"
            )
        self.target = target
        """Where the program serves. After another start it may have another port."""
        self._chooses_port = not target.socket and target.port == 0
        self._command = tuple(command)
        self._start_timeout = start_timeout
        self._lock = Lock()
        self._is_closed = False
        self._process = self._start()
        self._is_ready = False
        atexit.register(self.close)

    def ensure(self, timeout: float | None) -> bool:
        """Return when the program accepts connections; whether it had to be started again. Raises NotServing.

        `timeout` is what the call has left, in seconds.
        """
        with self._lock:
            is_new = self._revive()
            if self._is_ready:
                return is_new
            try:
                self._await_accepting(timeout)
            except EndedEarly:
                # The port was free when it was chosen. Another program may have taken it since.
                if not self._chooses_port:
                    raise
                is_new = self._revive()
                self._await_accepting(timeout)
            self._is_ready = True
            return is_new

    def close(self) -> None:
        """Stop the program: SIGTERM, and SIGKILL after five seconds."""
        atexit.unregister(self.close)
        with self._lock:
            self._is_closed = True
            self._stop()
            remove_socket(self.target)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _revive(self) -> bool:
        if self._is_closed:
            raise NotServing("the server has been stopped")
        if (code := self._process.poll()) is None:
            return False
        _logger.warning("the server %s ended with exit code %s; starting it again", self.name, code)
        self._is_ready = False
        try:
            self._process = self._start()
        except OSError as error:
            raise NotServing(f"the server {self.name} cannot be started: {error.strerror}") from error
        return True

    @property
    def name(self) -> str:
        return Path(self._command[0]).name

    def _start(self) -> subprocess.Popen[bytes]:
        if self._chooses_port:  # anew each time: somebody may have taken the port before the program did
            self.target = self.target.at_port(_free_port())
        command = [_filled(argument, self.target) for argument in self._command]
        remove_socket(self.target)  # of a program that was killed
        environment = dict(os.environ, GRPC_SERVER_ADDRESS=self.target.address)
        if self.target.socket:
            environment["GRPC_SERVER_SOCKET"] = self.target.socket
        else:
            environment["PORT"] = str(self.target.port)
        # It writes where we do: on Lambda both streams are the function's log.
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603 - the author's own command

    def _await_accepting(self, timeout: float | None) -> None:
        allowed = self._start_timeout if timeout is None else min(timeout, self._start_timeout)
        until = time.monotonic() + allowed
        wait = _FIRST_WAIT
        while not _accepts(self.target):
            if (code := self._process.poll()) is not None:
                raise EndedEarly(f"the server {self.name} ended with exit code {code} before it accepted a connection")
            if time.monotonic() > until:
                raise NotServing(
                    f"the server {self.name} accepts no connection on {self.target.address} after {allowed:.1f} s"
                )
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)


def _filled(argument: str, target: Target) -> str:
    """Return the argument with what it asks for. Braces of any other kind are the program's own."""
    filled = argument.replace("{address}", target.address).replace(PID, str(os.getpid()))
    if target.socket:
        return filled.replace("{socket}", target.socket)
    return filled.replace("{port}", str(target.port))


def _accepts(target: Target) -> bool:
    try:
        if target.socket:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                probe.connect(target.socket)
        else:
            socket.create_connection((target.host, target.port), 1.0).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
