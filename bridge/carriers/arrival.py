"""Finds out which sent bytes have not reached the other side's system."""

from __future__ import annotations

import fcntl
import sys
import termios


def not_arrived(descriptor: int) -> int | None:
    """How many of the last bytes given to a TCP socket the other side's system has not acknowledged. None if that is
    unknown.

    The answer is exact once the end of the stream has been read. The segment that closes a connection acknowledges all
    bytes that arrived before it, and Linux has read that acknowledgement when it reports the close. (It ignores the one
    in a reset, so a reset proves nothing.)
    """
    if sys.platform != "linux":
        return None
    queued = bytearray(4)
    try:
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, queued)
    except OSError:
        return None
    return int.from_bytes(queued, sys.byteorder)
