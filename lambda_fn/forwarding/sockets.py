"""Removes Unix sockets that nobody serves any more. A process that is killed leaves its sockets behind."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from lambda_fn.forwarding.target import PID, Target

_PROBE_SECONDS = 1.0


def remove_socket(target: Target) -> None:
    """Remove the target's socket, if there is one: most servers refuse to bind where another one has been."""
    path = Path(target.socket)
    with suppress(OSError):
        if path.is_socket():
            path.unlink()


def remove_leftovers(target: Target) -> None:
    """Remove the sockets of this name that have the number of a process that is gone. `target`: before `of_process`."""
    path = Path(target.socket_of_each_process)
    if PID not in path.name:
        return  # TCP, or the number names a folder: nobody knows what else is in it
    named = re.compile(re.escape(path.name).replace(re.escape(PID), "([0-9]+)", 1).replace(re.escape(PID), r"\1"))
    with suppress(OSError):
        for each in path.parent.iterdir():
            found = named.fullmatch(each.name)
            if found and _has_ended(int(found[1])) and _is_abandoned(each):
                with suppress(OSError):
                    each.unlink()


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _is_abandoned(path: Path) -> bool:
    """Whether it is a socket on which nobody listens. Containers may share a folder, but number their own processes."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_SECONDS)
            probe.connect(str(path))
    except ConnectionRefusedError:
        return path.is_socket()  # a file that is no socket refuses, too
    except OSError:
        return False
    return False
