"""The conversion process's part: what is answered, what it may take, and when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.conversion.jobs import (
    SIZES,
    Describe,
    Done,
    Forget,
    FromJson,
    JobAnswer,
    JobFailed,
    JobRefused,
    OutOfMemory,
    Question,
    ToJson,
    decode_answer,
    frame_job,
)
from bridge.conversion.process import JobConverter
from bridge.services.descriptors import load_descriptors

ORDERS = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")
ECHO = "/orders.v1.Orders/Echo"
FILES = list(ORDERS.files)
LEARN = Describe(1, "orders", tuple(map(len, FILES)))
MEMORY = 64 << 20
BOMB = b"\x42\x00" * 1_500_000
"""Empty orders in an order: three megabytes that need a gigabyte."""


def to_json(*, max_size: int = 1 << 20, memory: int = MEMORY) -> ToJson:
    return ToJson(1, ECHO, max_size, memory, proto_names=False, defaults=False)


def from_json(path: str = ECHO, *, max_size: int = 1 << 20) -> FromJson:
    return FromJson(1, path, max_size, MEMORY)


# -- the answers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def converter() -> JobConverter:
    converter = JobConverter()
    assert (Done(), b"") == converter.answer(LEARN, b"".join(FILES))
    return converter


def test_both_directions(converter: JobConverter) -> None:
    assert (Done(), b'{"id":"7"}') == converter.answer(to_json(), b"\x0a\x017")
    assert (Done(), b"\x0a\x017") == converter.answer(from_json(), b'{"id":"7"}')


@pytest.mark.parametrize(
    ("question", "payload", "error", "told"),
    [
        (to_json(), b"\xff", "MalformedRequest", "the request is not a orders.v1.Order"),
        (to_json(max_size=5), b"\x0a\x017", "MessageTooLarge", "more than 5 bytes of JSON"),
        (from_json(), b"{", "BadReply", "the function's JSON is no orders.v1.Order"),
        (from_json(), b"[" * 100_000, "BadReply", "the function's JSON is no object"),
        (from_json(), b'{"a":' * 100_000, "BadReply", "the function's JSON is no orders.v1.Order"),
        (from_json(), b'{"totalCents":' + b"9" * 1_000_000 + b"}", "BadReply", "is no orders.v1"),
        (
            from_json(max_size=2),
            b'{"id":"7"}',
            "ReplyTooLarge",
            "3 bytes is above max_response (2 bytes)",
        ),
        (from_json("/orders.v1.Orders/No"), b"{}", "UnknownMethod", "is not in orders"),
    ],
)
def test_what_is_wrong_with_a_message(
    converter: JobConverter, question: Question, payload: bytes, error: str, told: str
) -> None:
    answer, result = converter.answer(question, payload)

    assert isinstance(answer, JobRefused)
    assert error == answer.error
    assert told in answer.message
    assert not result


def test_what_nobody_expects_is_told_by_its_class(converter: JobConverter) -> None:
    """Not by its text, which may quote a message."""
    converter.answer(Forget(1), b"")

    assert (JobFailed("KeyError"), b"") == converter.answer(to_json(), b"")


# -- the process -------------------------------------------------------------------------------------------------------


class Process:
    """A process on the other end of a socket."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge.conversion.process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
            )
        self.socket.settimeout(60)
        self._stream = self.socket.makefile("rb")

    def send(self, question: Question, payload: bytes) -> None:
        self.socket.sendall(frame_job(question, len(payload)) + payload)

    def receive(self) -> tuple[JobAnswer, bytes]:
        header, size = SIZES.unpack(self._stream.read(SIZES.size))
        return decode_answer(self._stream.read(header)), self._stream.read(size)

    def ask(self, question: Question, payload: bytes) -> tuple[JobAnswer, bytes]:
        self.send(question, payload)
        return self.receive()

    def hang_up(self) -> None:
        self._stream.close()
        self.socket.close()


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.hang_up()
    process.process.kill()
    process.process.wait()


def test_a_process_answers_in_order(process: Process) -> None:
    process.send(LEARN, b"".join(FILES))
    process.send(to_json(), b"\x0a\x017")
    process.send(from_json(), b'{"id":"7"}')

    assert [(Done(), b""), (Done(), b'{"id":"7"}'), (Done(), b"\x0a\x017")] == [process.receive() for _ in range(3)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds memory")
def test_a_bomb_ends_at_its_memory_and_the_process_goes_on(process: Process) -> None:
    process.ask(LEARN, b"".join(FILES))

    assert (OutOfMemory(), b"") == process.ask(to_json(memory=16 << 20), BOMB)
    assert (OutOfMemory(), b"") == process.ask(
        FromJson(1, ECHO, 1 << 20, 16 << 20), b'{"no":[' + b"{}," * 500_000 + b"{}]}"
    )
    assert (Done(), b'{"id":"7"}') == process.ask(to_json(), b"\x0a\x017")
    assert _peak(process.process.pid) < 80 << 20


def _peak(pid: int) -> int:
    """The most memory that a process has had (bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def test_it_ends_with_its_socket(process: Process) -> None:
    process.ask(LEARN, b"".join(FILES))

    process.hang_up()

    assert process.process.wait(timeout=60) == 0


def test_it_ends_with_its_socket_in_the_middle_of_a_job(process: Process) -> None:
    process.ask(LEARN, b"".join(FILES))
    # A key is repeated in what json_format notes for each element: this takes minutes.
    slow = b'{"extra":{"%b":[%b1]}}' % (b"k" * 1_000_000, b"1," * 400_000)
    process.send(FromJson(1, ECHO, 64 << 20, 1 << 30), slow)

    process.hang_up()

    assert process.process.wait(timeout=60) == 0


def test_it_ends_when_nobody_reads_its_answer(process: Process) -> None:
    """The bridge has gone between a question and its answer."""
    process.ask(LEARN, b"".join(FILES))
    process.socket.shutdown(socket.SHUT_RD)
    process.send(to_json(), b"\x0a\x017")

    assert process.process.wait(timeout=60) == 0


def test_signals_to_the_group_do_not_reach_it(process: Process) -> None:
    """Ctrl-C, and a service manager's SIGTERM to all processes: calls in flight may finish."""
    process.ask(LEARN, b"".join(FILES))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.process.pid, number)

    assert (Done(), b'{"id":"7"}') == process.ask(to_json(), b"\x0a\x017")


def test_it_ends_when_its_bridge_is_killed() -> None:
    """Nobody closes the socket but the kernel."""
    bridge = subprocess.Popen([sys.executable, "-c", _BRIDGE], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert bridge.stdout is not None
    pid = int(bridge.stdout.readline())

    bridge.kill()
    bridge.wait()
    bridge.stdout.close()

    asyncio.run(asyncio.wait_for(_until_gone(pid), 60))  # noqa: TID251 - a test may wait so


_BRIDGE = """
import asyncio
from bridge.conversion.worker import Worker
async def main():
    worker = await Worker.start()
    print(worker.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def _until_gone(pid: int) -> None:
    while _is_running(pid):
        await asyncio.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # whoever takes in orphans has not looked yet
