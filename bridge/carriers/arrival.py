"""What has not reached the other side's system."""

from __future__ import annotations

import fcntl
import sys
import termios


def not_arrived(descriptor: int) -> int | None:
    """How many of the last bytes given to a TCP socket the other side's system has not acknowledged; None: that cannot be known.

    When the end of the stream has been read, this says what had arrived before it: the segment that closes a connection acknowledges all that had arrived before it, and
    Linux has read the one when it tells of the other. (It reads none of a reset's, so a reset proves nothing.)
    """
    if sys.platform != "linux":
        return None
    queued = bytearray(4)
    try:
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, queued)
    except OSError:
        return None
    return int.from_bytes(queued, sys.byteorder)
