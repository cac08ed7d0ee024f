"""What the suite and the programs that it starts say to each other: messages behind their length, four bytes,
big-endian.
"""

from __future__ import annotations

from typing import IO, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


def read_message(stream: IO[bytes], kind: type[M]) -> M | None:
    """The next message; None at the end."""
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    return kind.FromString(stream.read(int.from_bytes(prefix, "big")))


def write_message(stream: IO[bytes], message: Message) -> None:
    serialized = message.SerializeToString()
    stream.write(len(serialized).to_bytes(4, "big") + serialized)
    stream.flush()
