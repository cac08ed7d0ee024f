"""`python -m bridge.conversion.process FD`: converts messages for one bridge, a job at a time, as the socket FD asks
for them.

It ends when the socket closes, even in the middle of a job: the bridge has gone, or no longer needs it. A job that uses
up its memory or time ends itself, at worst this process, and never the bridge.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from queue import SimpleQueue

# Ctrl-C and a service manager's SIGTERM reach all processes of a bridge. Calls in flight may finish: the bridge
# decides. Whoever only imports this module keeps its signals.
if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)

from bridge.conversion.jobs import (
    JOB_SECONDS,
    SIZES,
    Conversion,
    Describe,
    Done,
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
    decode_question,
    frame_job,
)
from bridge.rpc.errors import RpcError, forget_frames
from bridge.services.descriptors import Descriptors
from bridge.services.message_json import MessageJson
from bridge.services.transcode import Transcoder

_ALARM_BEYOND = 2.0
"""Seconds after a job's time in which the bridge ends this process; then it ends itself, in case the bridge stands
still.
"""

_NICENESS = 5
"""Serving calls comes first."""

_STACK = 256 << 10
"""Bytes for the thread that reads: the default's 8 MiB count as memory."""

_Job = tuple[Question, bytes]


class JobConverter:
    """Does the jobs."""

    def __init__(self) -> None:
        self._sets: dict[int, Descriptors] = {}
        self._transcoders: dict[tuple[int, bool, bool], Transcoder] = {}
        self._messages: dict[int, MessageJson] = {}

    def answer(self, question: Question, payload: bytes) -> tuple[JobAnswer, bytes]:
        """Return the answer and its payload. Never raises an Exception."""
        try:
            return Done(), self._do(question, payload)
        except RpcError as error:
            notes = tuple(getattr(error, "__notes__", ()))
            forget_frames(error)
            return JobRefused(type(error).__name__, str(error), notes), b""
        except MemoryError as error:
            forget_frames(error)
            return OutOfMemory(), b""
        except Exception as error:  # noqa: BLE001 - the outermost frame: the bridge tells it
            forget_frames(error)
            # Not its text, which may quote a message.
            return JobFailed(type(error).__name__), b""

    def _do(self, question: Question, payload: bytes) -> bytes:
        match question:
            case ToJson():
                transcoder = self._transcoder(
                    question.set_id, proto_names=question.proto_names, defaults=question.defaults
                )
                return transcoder.to_json(question.path, payload, max_size=question.max_size)
            case FromJson():
                transcoder = self._transcoder(question.set_id, proto_names=False, defaults=True)
                return transcoder.from_json(question.path, payload, max_size=question.max_size)
            case ReadMessage():
                return self._json(question.set_id).read(question.name, payload, max_size=question.max_size)
            case PrintMessage():
                return self._json(question.set_id).print(question.name, payload, max_size=question.max_size)
            case PrintDetails():
                return self._json(question.set_id).print_details(payload)
            case Describe():
                self._learn(question, payload)
            case Forget():
                self._sets.pop(question.set_id, None)
                self._messages.pop(question.set_id, None)
                for key in [key for key in self._transcoders if key[0] == question.set_id]:
                    del self._transcoders[key]
        return b""

    def _learn(self, question: Describe, payload: bytes) -> None:
        files, at = [], 0
        for size in question.sizes:
            files.append(payload[at : at + size])
            at += size
        self._sets[question.set_id] = Descriptors(files, name=question.name)

    def _json(self, set_id: int) -> MessageJson:
        found = self._messages.get(set_id)
        if found is None:
            found = self._messages[set_id] = MessageJson(self._sets[set_id])
        return found

    def _transcoder(self, set_id: int, *, proto_names: bool, defaults: bool) -> Transcoder:
        key = (set_id, proto_names, defaults)
        found = self._transcoders.get(key)
        if found is None:
            found = self._transcoders[key] = Transcoder(self._sets[set_id], proto_names=proto_names, defaults=defaults)
        return found


def main() -> None:
    """Convert messages until the bridge closes the socket. This is the process's whole life."""
    bridge = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.nice(_NICENESS)
    jobs: SimpleQueue[_Job] = SimpleQueue()
    threading.stack_size(_STACK)
    threading.Thread(target=_read, args=(bridge, jobs), daemon=True).start()
    converter, memory = JobConverter(), Memory()
    while True:
        question, payload = jobs.get()
        if isinstance(question, Conversion):
            signal.setitimer(signal.ITIMER_REAL, JOB_SECONDS + _ALARM_BEYOND)
            memory.limit(question.memory)
            header, result = converter.answer(question, payload)
            memory.limit(None)
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            before = data_size()
            header, result = converter.answer(question, payload)
            memory.grown(data_size() - before)
        del payload
        try:
            bridge.sendall(frame_job(header, len(result)))
            bridge.sendall(result)
        except OSError:
            return  # nobody waits for it any more
        del result


def _read(bridge: socket.socket, jobs: SimpleQueue[_Job]) -> None:
    """Read ahead, so that the end of the socket is seen in the middle of a job."""
    stream = bridge.makefile("rb")
    try:
        while sizes := stream.read(SIZES.size):
            header, payload = SIZES.unpack(sizes)
            jobs.put((decode_question(stream.read(header)), stream.read(payload)))
    finally:
        os._exit(0)


class Memory:
    """Bounds what this process takes, where the system has such a bound: on Linux."""

    def __init__(self) -> None:
        self._base = data_size()
        """Bytes that it takes without a job. What a former job left behind is there for the next one to use."""

    def grown(self, size: int) -> None:
        """So many bytes more stay."""
        self._base += max(0, size)

    def limit(self, extra: int | None) -> None:
        """Let the process take so many bytes for a job; None: any number."""
        if not self._base:
            return
        import resource

        limit = resource.RLIM_INFINITY if extra is None else self._base + extra
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY and (limit == resource.RLIM_INFINITY or limit > hard):
            limit = hard
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def data_size() -> int:
    """Bytes that RLIMIT_DATA counts (proc(5), the sixth field of statm). 0 without /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib is not worth its import here
            return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
