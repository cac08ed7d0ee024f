"""What callers see when a function takes fewer calls than they send: `python -m benchmarks.queueing`.

The bridge runs with default settings in front of its local Lambda. The function sleeps for 100 ms and each instance is
a process. Callers call again as soon as they are answered, spread evenly over connections. docs/queue.md has the
figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
import yaml

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 0.1
"""How long the function takes."""
CONNECTIONS = 8
NEVER = float("inf")
PAUSE_AFTER_FAILURE = 0.1
"""Seconds that a caller waits after a call that failed."""
_PATIENCE = 60.0
"""Seconds for a process to start."""

FUNCTION = f"""
import time
from base64 import b64encode

REPLY = b64encode(b"\\0\\0\\0\\0\\0" + b"\\x80\\0\\0\\0\\x0fgrpc-status:0\\r\\n").decode()
HEADERS = {{"content-type": "application/grpc-web+proto"}}

def handler(event, context):
    time.sleep({SECONDS})
    return {{"statusCode": 200, "headers": HEADERS, "isBase64Encoded": True, "body": REPLY}}
"""


@dataclass
class Calls:
    """What the callers of one service saw."""

    waits: list[float] = field(default_factory=list)
    """Seconds of each call that was answered OK."""
    ended: list[float] = field(default_factory=list)
    """When they ended (monotonic)."""
    failures: Counter[str] = field(default_factory=Counter)
    """By code."""

    @property
    def mean(self) -> float:
        return sum(self.waits) / len(self.waits)

    def per_second(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.ended) / (until - since)


class Bridge:
    """A bridge that runs, and its figures."""

    def __init__(
        self, address: str, admin: str, local: str, *, process: subprocess.Popen[bytes], config: Path, log: Path
    ) -> None:
        self.address = address
        self.admin = admin
        self.local = local
        """The URL of the local Lambda."""
        self._process = process
        self._config = config
        self._log = log

    async def figures(self) -> dict[str, float]:
        """Return all samples, summed over their labels."""
        text = await _get(self.admin, "/metrics")
        found: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? ([\d.e+-]+)$", text, re.MULTILINE):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    def reload(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the configuration, and let the bridge read it."""
        config = yaml.safe_load(self._config.read_text())
        change(config)
        self._config.write_text(yaml.safe_dump(config))
        self._process.send_signal(signal.SIGHUP)

    def drain(self) -> None:
        """Let the bridge finish its calls and end."""
        self._process.send_signal(signal.SIGTERM)

    def log(self) -> str:
        return self._log.read_text()

    async def reserve(self, function: str, concurrency: int) -> None:
        """Change how many calls at a time the function takes, while it runs."""
        body = json.dumps({"ReservedConcurrentExecutions": concurrency})
        credential = "Credential=a/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
        head = f"Authorization: AWS4-HMAC-SHA256 {credential}\r\nX-Amz-Date: 20260101T000000Z\r\n"
        path = f"/2017-10-31/functions/{function}/concurrency"
        await _get(self.local, path, method="PUT", head=head, body=body)


async def _get(address: str, path: str, *, method: str = "GET", head: str = "", body: str = "") -> str:
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write((request + body).encode())
    text = (await reader.read()).decode()
    writer.close()
    assert " 200 " in text.partition("\r\n")[0], text
    return text


class Gateway:
    """Passes bytes to the local Lambda, unless it is shut. Then nobody listens."""

    def __init__(self, port: int) -> None:
        self.port = _free_port()
        self._behind = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Close all connections, and the listener."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, behind = await asyncio.open_connection("127.0.0.1", self._behind)
        self._writers |= {writer, behind}
        with suppress(asyncio.CancelledError):  # the end of the program
            await asyncio.gather(_pass(reader, behind), _pass(answers, writer))
        self._writers -= {writer, behind}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()


@contextmanager
def bridge(
    functions: Mapping[str, Any], *, account: int | None = None, behind: Gateway | None = None, **more: Any
) -> Iterator[Bridge]:
    """Run a bridge with these local functions. Service `q.NAME` leads to the function NAME.

    `account` is how many calls at a time all functions take together. `behind` leads to the functions, if they run
    elsewhere. `more` are other keys of the configuration.
    """
    with tempfile.TemporaryDirectory(prefix="bridge-queue-") as path:
        folder = Path(path)
        (folder / "app.py").write_text(FUNCTION)
        local = f"127.0.0.1:{_free_port()}"
        config = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "emulator": _emulator(local, account) if behind is None else f"http://127.0.0.1:{behind.port}",
            "services": {f"q.{name}": f"local:{name}" for name in functions},
            "functions": {name: {"handler": "app.handler", **keys} for name, keys in functions.items()},
            "log": {"format": "json", "access": False},
            **more,
        }
        (folder / "bridge.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "bridge", "serve", "-c", str(folder / "bridge.yaml")]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        log = (folder / "log").open("w+")
        process = subprocess.Popen(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stderr=log)
        try:
            yield _started(process, folder, f"http://{local}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE)
            log.close()


def _emulator(address: str, concurrency: int | None) -> dict[str, Any]:
    return {"address": address, "concurrency": concurrency}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _started(process: subprocess.Popen[bytes], folder: Path, local: str) -> Bridge:
    log = folder / "log"
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        text = log.read_text()
        served = re.search(r"serving gRPC on ([^\s\",]+)", text)
        admin = re.search(r"admin on http://([^\s\",/]+)", text)
        if served and admin:
            return Bridge(served[1], admin[1], local, process=process, config=folder / "bridge.yaml", log=log)
        time.sleep(0.05)
    raise RuntimeError(f"the bridge did not start:\n{log.read_text()}")


class Load:
    """Callers in a closed loop. They begin when they are entered, and end with the last call after they are left."""

    def __init__(self, address: str, service: str, callers: int, *, connections: int = CONNECTIONS) -> None:
        self.calls = Calls()
        self._address = address
        self._path = f"/{service}/Call"
        self._callers = callers
        self._connections = connections
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []
        self._channels: list[grpc.aio.Channel] = []

    async def __aenter__(self) -> Self:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channels = [grpc.aio.insecure_channel(self._address, options) for _ in range(self._connections)]
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        for number in range(self._callers):
            channel = self._channels[number % self._connections]
            self._tasks.append(asyncio.get_running_loop().create_task(self._call(channel.unary_unary(self._path))))
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)
        for channel in self._channels:
            await channel.close()

    async def _call(self, call: Callable[..., Awaitable[bytes]]) -> None:
        while not self._is_over:
            began = time.monotonic()
            try:
                await call(b"", timeout=30.0)
            except grpc.RpcError as error:
                self.calls.failures[error.code().name] += 1
                await asyncio.sleep(PAUSE_AFTER_FAILURE)
            else:
                now = time.monotonic()
                self.calls.waits.append(now - began)
                self.calls.ended.append(now)


@dataclass(frozen=True)
class Invocations:
    """How often functions were invoked for the calls of a while."""

    calls: float
    invocations: float

    @property
    def per_call(self) -> float:
        return self.invocations / self.calls


async def invocations(running: Bridge, before: Mapping[str, float]) -> Invocations:
    """Count since these figures were taken."""
    now = await running.figures()
    calls = now["grpc_server_started_total"] - before.get("grpc_server_started_total", 0)
    return Invocations(calls, calls + now["bridge_retries_total"] - before.get("bridge_retries_total", 0))


async def warm(running: Bridge, service: str, callers: int, *, seconds: float = 3.0) -> None:
    """Start so many instances, and wait until they are quiet."""
    async with Load(running.address, service, callers):
        await asyncio.sleep(seconds)


# -- what docs/queue.md shows ------------------------------------------------------------------------------------------


async def overload(seconds: float) -> str:
    """8 instances and 64 callers, compared with 8 callers that never wait."""
    with bridge({"f": {"concurrency": 8}}) as running:
        await warm(running, "q.f", 8)
        async with Load(running.address, "q.f", 8) as alone:
            began = time.monotonic()
            await asyncio.sleep(10)
            whole = alone.calls.per_second(began, time.monotonic())
        before = await running.figures()
        began = time.monotonic()
        async with Load(running.address, "q.f", 64) as load:
            await asyncio.sleep(seconds)
            ended = time.monotonic()
        sent = await invocations(running, before)
    calls = load.calls
    return (
        f"8 instances, 64 callers, {seconds:g} s: {len(calls.waits)} answered, {calls.failures.total()} failed; "
        f"{calls.per_second(began, ended):.1f} answered a second ({whole:.1f} with 8 callers, which never wait); "
        f"{sent.per_call:.3f} invocations a call; mean {calls.mean * 1e3:.0f} ms, the longest "
        f"{max(calls.waits) / calls.mean:.2f} times that"
    )


async def moved_limit(seconds: float) -> str:
    """The limit is lowered and raised while it runs."""
    found: list[str] = []
    with bridge({"f": {"concurrency": 16}}) as running:
        await warm(running, "q.f", 16)
        await running.reserve("f", 8)
        async with Load(running.address, "q.f", 64) as load:
            await asyncio.sleep(seconds)
            for limit in (4, 8, 2, 16):
                await running.reserve("f", limit)
                took = await seconds_until_found(running, limit)
                found.append(f"{limit} after {took:.1f} s")
                await asyncio.sleep(seconds)
    return (
        f"the limit becomes {', '.join(found)}; {load.calls.failures.total()} of {len(load.calls.waits)} calls failed"
    )


async def seconds_until_found(running: Bridge, limit: int, *, patience: float = 30.0) -> float:
    """Return how long it takes until the learned limit is this one, or one more that is being tried."""
    began = time.monotonic()
    while (await running.figures()).get("bridge_concurrency_limit") not in (limit, limit + 1):
        if time.monotonic() - began > patience:
            raise RuntimeError(f"the limit {limit} was not found within {patience:g} s")
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def shared_account(seconds: float) -> str:
    """Two functions share an account's limit of 8. One is busy before the other comes."""
    with bridge({"f": {"concurrency": 50}, "g": {"concurrency": 50}}, account=8) as running:
        await warm(running, "q.f", 8)
        await warm(running, "q.g", 8)
        before = await running.figures()
        async with Load(running.address, "q.f", 32) as one:
            await asyncio.sleep(2)
            async with Load(running.address, "q.g", 32) as other:
                began = time.monotonic()
                await asyncio.sleep(seconds)
                ended = time.monotonic()
        sent = await invocations(running, before)
    answered = [calls.per_second(began, ended) for calls in (one.calls, other.calls)]
    failed = one.calls.failures.total() + other.calls.failures.total()
    return (
        f"two functions of an account that takes 8, 32 callers each, {seconds:g} s: {answered[0]:.1f} and "
        f"{answered[1]:.1f} answered a second, {failed} failed; {sent.per_call:.3f} invocations a call"
    )


async def rate_limit(seconds: float) -> str:
    """50 invocations a second, and many instances."""
    with bridge({"f": {"concurrency": 40, "rate": 50}}) as running:
        await warm(running, "q.f", 4)
        before = await running.figures()
        began = time.monotonic()
        async with Load(running.address, "q.f", 32) as load:
            await asyncio.sleep(seconds)
            ended = time.monotonic()
        sent = await invocations(running, before)
        limit = (await running.figures()).get("bridge_concurrency_limit", "none")
    return (
        f"50 invocations a second, 32 callers, {seconds:g} s: {load.calls.per_second(began, ended):.1f} answered a "
        f"second, {load.calls.failures.total()} failed; {sent.per_call:.3f} invocations a call; limit of concurrency: "
        f"{limit}"
    )


async def outage(seconds: float) -> str:
    """Everything is throttled for a while, with 200 callers."""
    with bridge({"f": {"concurrency": 20}}) as running:
        await warm(running, "q.f", 20)
        async with Load(running.address, "q.f", 200) as load:
            began = time.monotonic()
            before = await running.figures()
            await asyncio.sleep(5)
            usual = load.calls.per_second(began + 1, time.monotonic())
            at_start = await running.figures()
            await running.reserve("f", 0)
            await asyncio.sleep(seconds)
            at_end = await running.figures()
            await running.reserve("f", 20)
            over = time.monotonic()
            await asyncio.sleep(5)
        sent = await invocations(running, before)
    during = at_end["bridge_retries_total"] - at_start["bridge_retries_total"]
    return (
        f"{seconds:g} s without any instance, 200 callers: {during:.0f} retries meanwhile; over all "
        f"{sent.per_call - 1:.1%} more invocations than calls; {load.calls.failures.total()} calls failed, which had "
        f"waited for 10 s (queue.wait); {_recovery(load.calls, over, usual)}"
    )


async def unreachable(seconds: float) -> str:
    """Nobody listens for a while, with 200 callers."""
    with bridge({"f": {"concurrency": 20}}) as local:
        gateway = Gateway(int(local.local.rpartition(":")[2]))
        await gateway.open()
        with bridge({"f": {}}, behind=gateway) as running:
            await warm(running, "q.f", 20)
            at_start = await running.figures()
            async with Load(running.address, "q.f", 200) as load:
                began = time.monotonic()
                await asyncio.sleep(5)
                usual = load.calls.per_second(began + 1, time.monotonic())
                before = await running.figures()
                await gateway.shut()
                await asyncio.sleep(seconds)
                meanwhile = await invocations(running, before)
                await gateway.open()
                over = time.monotonic()
                await asyncio.sleep(5)
            sent = await invocations(running, at_start)
    retries = meanwhile.invocations - meanwhile.calls
    return (
        f"{seconds:g} s in which nobody listens, 200 callers: {meanwhile.calls:.0f} calls and {retries:.0f} retries "
        f"meanwhile; over all {sent.per_call - 1:.1%} more attempts than calls; {_recovery(load.calls, over, usual)}"
    )


def _recovery(calls: Calls, since: float, usual: float) -> str:
    """Say when calls were answered again, and when as many as before."""
    first = next(at for at in calls.ended if at > since) - since
    steps = (0.1 * step for step in range(5, 51))
    full = next((at for at in steps if calls.per_second(since + at - 0.5, since + at) > 0.9 * usual), NEVER)
    return f"first answer after {first:.1f} s, 90 % of the usual throughput after {full:.1f} s"


SCENES: Mapping[str, tuple[Callable[[float], Coroutine[Any, Any, str]], float]] = {
    "overload": (overload, 30.0),
    "moved_limit": (moved_limit, 3.0),
    "shared_account": (shared_account, 30.0),
    "rate_limit": (rate_limit, 30.0),
    "outage": (outage, 10.0),
    "unreachable": (unreachable, 10.0),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queueing", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCENES, default=list(SCENES))
    chosen = parser.parse_args(arguments)
    for name in chosen.only:
        run, seconds = SCENES[name]
        print(f"- {asyncio.run(run(seconds))}", flush=True)


if __name__ == "__main__":
    main()
