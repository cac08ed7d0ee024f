"""The messages to and from a conversion process. A frame is two sizes, a header, and a payload that is not parsed.

The sizes are 4 bytes each, big-endian. The header is MessagePack.
"""

from __future__ import annotations

from struct import Struct as Layout

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

JOB_SECONDS = 5.0
"""Seconds that one conversion may take."""

SIZES = Layout(">LL")
"""Of the header and of the payload."""


class Describe(Struct, frozen=True, tag=True, array_like=True):
    """Learn a set of descriptors. The payload: its serialized FileDescriptorProto messages, one behind the other."""

    set_id: int
    name: str
    """Where they come from, for messages."""
    sizes: tuple[int, ...]
    """Bytes of each."""


class Forget(Struct, frozen=True, tag=True, array_like=True):
    """Forget a set of descriptors."""

    set_id: int


class ToJson(Struct, frozen=True, tag=True, array_like=True):
    """The payload is the request of the method at this path: make JSON of it."""

    set_id: int
    path: str
    max_size: int
    """Bytes of the result."""
    memory: int
    """Bytes that the conversion may take."""
    proto_names: bool
    defaults: bool


class FromJson(Struct, frozen=True, tag=True, array_like=True):
    """The payload is JSON: make the response of the method at this path of it."""

    set_id: int
    path: str
    max_size: int
    """Bytes of the result."""
    memory: int
    """Bytes that the conversion may take."""


class ReadMessage(Struct, frozen=True, tag=True, array_like=True):
    """The payload is JSON that a person has written: make the message of this type of it."""

    set_id: int
    name: str
    """The type's full name."""
    max_size: int
    """Bytes of the result."""
    memory: int
    """Bytes that the conversion may take."""


class PrintMessage(Struct, frozen=True, tag=True, array_like=True):
    """The payload is a message of this type: make JSON of it for a person."""

    set_id: int
    name: str
    """The type's full name."""
    max_size: int
    """Bytes of the result."""
    memory: int
    """Bytes that the conversion may take."""


class PrintDetails(Struct, frozen=True, tag=True, array_like=True):
    """The payload is a google.rpc.Status: make a JSON list of its details."""

    set_id: int
    """Describes details that are not Google's own."""
    memory: int
    """Bytes that the conversion may take."""


class Done(Struct, frozen=True, tag=True, array_like=True):
    """The payload is the result."""


class JobRefused(Struct, frozen=True, tag=True, array_like=True):
    """The conversion raised an RpcError."""

    error: str
    """The name of its class."""
    message: str
    notes: tuple[str, ...] = ()
    """For the log."""


class OutOfMemory(Struct, frozen=True, tag=True, array_like=True):
    """The conversion would take more memory than the job allows."""


class JobFailed(Struct, frozen=True, tag=True, array_like=True):
    """The conversion raised an unexpected exception."""

    error: str
    """The name of its class."""


Conversion = ToJson | FromJson | ReadMessage | PrintMessage | PrintDetails
Question = Describe | Forget | Conversion
JobAnswer = Done | JobRefused | OutOfMemory | JobFailed

encode_header = Encoder().encode
decode_question = Decoder(Question).decode
decode_answer = Decoder(JobAnswer).decode


def frame_job(header: Question | JobAnswer, payload_size: int) -> bytes:
    """Return a frame up to its payload."""
    encoded = encode_header(header)
    return SIZES.pack(len(encoded), payload_size) + encoded
