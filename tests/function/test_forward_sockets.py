"""Sockets of processes that were killed: removed when the next one starts, and nothing else with them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest

from lambda_fn import forward
from lambda_fn.forwarding.sockets import remove_leftovers
from lambda_fn.forwarding.target import Target


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder. The paths of sockets have at most 107 bytes (unix(7)), which pytest's own folders leave little of."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def leave(path: Path) -> Path:
    """Make the socket of a process that is killed: bound, and not served."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return path


@pytest.mark.parametrize("name", ["app.sock", "app.{pid}.sock", "{pid}-app", "{pid}.{pid}.sock"])
def test_a_socket_of_a_process_that_is_gone_is_removed(sockets: Path, ended: int, name: str) -> None:
    target = Target(f"unix:{sockets}/{name}")
    left = leave(Path(target.of_process(ended).socket))

    remove_leftovers(target)

    assert not left.exists()


def test_what_somebody_may_still_use_stays(sockets: Path, ended: int) -> None:
    """A process that runs, a socket that is served, a file, and names that only look alike."""
    served = sockets / f"app.{ended}.sock"
    running = leave(sockets / f"app.{os.getpid()}.sock")
    others = [leave(sockets / name) for name in (f"app.{ended}.sock.old", f"{ended}.sock", "app.x.sock", "app.sock")]
    huge = leave(sockets / f"app.{10**20}.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(served))
        listening.listen()
        remove_leftovers(Target(f"unix:{sockets}/app.sock"))
    file = sockets / f"file.{ended}.sock"
    file.write_text("")
    remove_leftovers(Target(f"unix:{sockets}/file.sock"))

    assert all(path.exists() for path in (served, running, huge, file, *others))


@pytest.mark.parametrize("address", ["localhost:50051", "unix:/no-such-folder/app.sock", "unix:/{pid}/app.sock"])
def test_nothing_to_remove_is_no_error(address: str) -> None:
    remove_leftovers(Target(address))


def test_forward_removes_the_socket_of_a_killed_process(sockets: Path, ended: int) -> None:
    """Before it listens at its own, for a server object and for a command."""
    for name in ("server", "command"):
        leave(sockets / f"{name}.{ended}.sock")
    server = grpc.server(ThreadPoolExecutor(1))

    forward(f"unix:{sockets}/server.sock", server=server).close()
    forward(f"unix:{sockets}/command.sock", command=["true", "{socket}"]).close()

    assert [] == list(sockets.glob(f"*.{ended}.sock"))
