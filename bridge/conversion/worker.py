"""The bridge's side of one conversion process: started, asked one thing after another, ended. It does not know who
waits for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.conversion.jobs import (
    SIZES,
    Conversion,
    Describe,
    Forget,
    FromJson,
    JobAnswer,
    JobFailed,
    JobRefused,
    OutOfMemory,
    PrintDetails,
    PrintMessage,
    Question,
    ReadMessage,
    ToJson,
    decode_answer,
    frame_job,
)
from bridge.rpc import errors
from bridge.rpc.errors import ConversionFailed, RpcError
from bridge.services.descriptors import Descriptors
from bridge.services.message_json import UnusableMessage

COMMAND = (sys.executable, "-m", "bridge.conversion.process")
"""Run with the number of a socket behind it."""

START_SECONDS = 30.0
"""Seconds until a process has started and learnt its descriptors, on a machine that is busy."""

END_SECONDS = 2.0
"""Seconds in which a process ends by itself when its socket closes."""

_GIVES_BACK = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
"""mallopt(3): glibc gives freed memory back to the system. By default it keeps more with each large job."""

_READ_LIMIT = 256 << 10
"""Bytes that are read ahead."""

_REFUSALS: dict[str, type[RpcError]] = {
    error.__name__: error
    for error in (
        errors.BadReply,
        errors.MalformedRequest,
        errors.MessageTooLarge,
        errors.ReplyTooLarge,
        errors.UnknownMethod,
        UnusableMessage,
    )
}
"""What a Transcoder and MessageJson raise."""


class Died(Exception):
    """The process ended, or does not say what it should."""


class Worker:
    """One process. Belongs to the running loop; only one job at a time."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._known: set[int] = set()
        """Sets of descriptors that the process has learnt."""
        self._turn = asyncio.Lock()
        self.idle_since = 0.0
        """The loop's time."""

    @classmethod
    async def start(cls, command: Sequence[str] = COMMAND) -> Worker:
        """Start a process. Raises OSError if the command cannot be run."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    env={**os.environ, **_GIVES_BACK},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
        except BaseException:
            ours.close()
            raise
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_READ_LIMIT)
        except BaseException:
            ours.close()
            process.kill()
            await process.wait()
            raise
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and not self._reader.at_eof()

    @property
    def resident_bytes(self) -> int:
        """What it holds in memory; 0 without /proc."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def learn(self, set_id: int, descriptors: Descriptors) -> None:
        """Return when the process knows this set. Raises Died, TimeoutError."""
        async with asyncio.timeout(START_SECONDS), self._turn:
            if set_id not in self._known:
                files = descriptors.files
                question = Describe(set_id, descriptors.name, tuple(map(len, files)))
                answer, _ = await self._ask(question, b"".join(files))
                if isinstance(answer, OutOfMemory | JobFailed | JobRefused):
                    raise Died(f"it cannot use {descriptors.name}: {answer}")
                self._known.add(set_id)

    async def forget(self, set_id: int) -> None:
        """Tell the process to let go of this set when it comes to it. Raises Died, TimeoutError."""
        async with asyncio.timeout(START_SECONDS), self._turn:
            if set_id in self._known:
                self._known.discard(set_id)
                await self._ask(Forget(set_id), b"")

    async def convert(self, job: Conversion, payload: bytes, *, seconds: float) -> bytes:
        """Return the result. Raises RpcError for a message that is wrong, Died, TimeoutError after so many seconds."""
        async with self._turn:
            async with asyncio.timeout(seconds):
                answer, result = await self._ask(job, payload)
        match answer:
            case JobRefused(name, message, notes):
                refusal = _REFUSALS[name](message)
                for note in notes:
                    refusal.add_note(note)
                raise refusal
            case JobFailed(name):
                failure = ConversionFailed(
                    f"the conversion of {len(payload)} bytes between protobuf and JSON failed; "
                    "the bridge's log has the reason"
                )
                failure.add_note(name)
                raise failure
            case OutOfMemory():
                raise _too_large(job, payload)
        return result

    async def _ask(self, question: Question, payload: bytes) -> tuple[JobAnswer, bytes]:
        self._writer.write(frame_job(question, len(payload)))
        self._writer.write(payload)
        try:
            header, size = SIZES.unpack(await self._reader.readexactly(SIZES.size))
            answer = decode_answer(await self._reader.readexactly(header))
            return answer, await self._reader.readexactly(size)
        except (EOFError, OSError, ValueError) as error:
            raise Died("it ended") from error

    async def end(self) -> int:
        """Close the socket, and see the process end: by itself, or killed. Returns how, as `returncode` has it."""
        self._writer.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """End the process now. Returns how it ended, as `returncode` has it."""
        self._writer.close()
        try:
            self._process.kill()
        except ProcessLookupError:
            pass  # it has ended by itself
        return await self._process.wait()


def _too_large(job: Conversion, payload: bytes) -> RpcError:
    size, memory = len(payload), job.memory
    match job:
        case ToJson():
            return errors.MessageTooLarge(
                f"the request of {size} bytes needs more than {memory} bytes of memory to become "
                "JSON: send less in one call"
            )
        case ReadMessage():
            return UnusableMessage(
                f"the JSON of {size} bytes needs more than {memory} bytes of memory to become a message"
            )
        case FromJson():
            return errors.ReplyTooLarge(
                f"the function's JSON of {size} bytes needs more than {memory} bytes of memory to become a message"
            )
        case PrintMessage() | PrintDetails():
            return UnusableMessage(
                f"the message of {size} bytes needs more than {memory} bytes of memory to become JSON"
            )
