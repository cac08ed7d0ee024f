"""What full duplex costs: the time of a message there and back, the processor time of a unary call, and how soon a
servicer sees a cancellation.

    python -m benchmarks.duplex

Server, local Lambda and bridge are processes of their own on this machine. Over `grpc://` and in full duplex (behind
`forward`) calls reach the same server. With TLS the bridge talks to `grpcs://`, and functions connect by TLS, which
needs an address of this machine that is not loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import grpc
import trustme

SERVER = """
import asyncio, json, sys, time
import grpc

begun, cancelled = [], []

async def chat(requests, context):
    async for request in requests:
        yield request

async def wait(request, context):
    begun.append(time.monotonic())
    try:
        await asyncio.sleep(60)
    finally:
        cancelled.append(time.monotonic())

async def seen(request, context):
    return json.dumps({"begun": begun, "cancelled": cancelled}).encode()

async def main(plain, encrypted, certificate):
    server = grpc.aio.server()
    server.add_registered_method_handlers("bench.Duplex", {
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Seen": grpc.unary_unary_rpc_method_handler(seen),
    })
    pem = open(certificate, "rb").read()
    server.add_insecure_port(plain)
    server.add_secure_port(encrypted, grpc.ssl_server_credentials([(pem, pem)]))
    await server.start()
    print("serving", flush=True)
    await server.wait_for_termination()

asyncio.run(main(*sys.argv[1:]))
"""

FUNCTION = """
import os
import grpc
from lambda_fn import LambdaServer, forward

async def echo(request, context):
    return request

server = LambdaServer()
server.add_registered_method_handlers("bench.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
echo_handler = server.handler
chat_handler = forward(os.environ["SERVER"])
"""

_START_SECONDS = 60.0
_WARM_UP = 200
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=1000, help="there and back, in a round")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--calls", type=int, default=2000, help="unary calls of each way, one after the other")
    arguments.add_argument("--cancellations", type=int, default=50)
    chosen = arguments.parse_args()
    with TemporaryDirectory() as name, ExitStack() as running:
        asyncio.run(_measure(Path(name), running, chosen))


async def _measure(folder: Path, running: ExitStack, chosen: argparse.Namespace) -> None:
    plain, encrypted = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    authority = trustme.CA()
    certificate = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    running.enter_context(
        _program([sys.executable, "-c", SERVER, plain, encrypted, str(certificate)], folder, "serving", environ={})
    )
    (folder / "functions.py").write_text(FUNCTION)
    functions = {
        "functions": {
            name: {"handler": f"functions.{name}_handler", "timeout": "10m", "env": {"SERVER": plain}}
            for name in ("echo", "chat")
        }
    }
    lambda_process, lambda_url = running.enter_context(
        _bridge(folder, "lambda", "emulate", functions, r"local Lambda on (http://\S+):", "--emulator", "127.0.0.1:0")
    )
    reached = {"plaintext": "127.0.0.1", "TLS": _own_address()}
    natively: dict[str, Any] = {
        "plaintext": f"grpc://{plain}",
        "TLS": {"target": f"grpcs://{encrypted}", "tls": {"ca": str(folder / "ca.pem")}},
    }
    attached = {"target": "local:chat", "duplex": {"use": "always"}}
    addresses: dict[tuple[str, str], str] = {}
    for how, host in reached.items():
        listener = {"listen": f"0.0.0.0:{(port := _free_port())}", "advertise": f"{host}:{port}"}
        for way, target in (("grpc://", natively[how]), ("full duplex", attached)):
            config = {"emulator": lambda_url, "duplex": listener, "services": {"bench.Duplex": target}}
            if way == "grpc://":
                del config["duplex"]
            _, addresses[how, way] = running.enter_context(_bridge(folder, f"{how} {way[:4]}", "serve", config))
    await _times(addresses, reached, chosen)
    await _cancellations(addresses["plaintext", "full duplex"], chosen.cancellations)
    await _processor(folder, running, lambda_process, lambda_url, chosen.calls)


# -- a message there and back ------------------------------------------------------------------------------------------


async def _times(
    addresses: Mapping[tuple[str, str], str], reached: Mapping[str, str], chosen: argparse.Namespace
) -> None:
    print("| a message there and back, median of the rounds' medians | `grpc://` | full duplex | times |")
    print("|---|--:|--:|--:|")
    for how in reached:
        calls = {}
        async with _Channels() as channels:
            for way in ("grpc://", "full duplex"):
                calls[way] = channels.open(addresses[how, way]).stream_stream("/bench.Duplex/Chat")()
                await _round(calls[way], _WARM_UP)
            medians: dict[str, list[float]] = {way: [] for way in calls}
            for _ in range(chosen.rounds):
                for way, call in calls.items():
                    medians[way].append(await _round(call, chosen.messages))
            natively, duplex = (statistics.median(medians[way]) for way in calls)
            print(f"| {how} | {natively * 1e6:.0f} us | {duplex * 1e6:.0f} us | {duplex / natively:.2f} |", flush=True)
            for call in calls.values():
                call.cancel()


async def _round(call: Any, messages: int) -> float:
    """The median of the seconds that a message takes."""
    taken = []
    for _ in range(messages):
        begun = time.perf_counter()
        await call.write(b"a message of a few bytes")
        await call.read()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


class _Channels:
    async def __aenter__(self) -> Self:
        self._opened: list[grpc.aio.Channel] = []
        return self

    def open(self, address: str) -> Any:
        """Return a channel. Its methods take and give bytes."""
        channel = grpc.aio.insecure_channel(address)
        self._opened.append(channel)
        return channel

    async def __aexit__(self, *_: object) -> None:
        for channel in self._opened:
            await channel.close()


# -- cancellation ------------------------------------------------------------------------------------------------------


async def _cancellations(address: str, count: int) -> None:
    async with _Channels() as channels:
        channel = channels.open(address)
        seen = channel.unary_unary("/bench.Duplex/Seen")
        sent: list[float] = []
        for number in range(1, count + 1):
            call = channel.unary_unary("/bench.Duplex/Wait")(b"")
            await _wait_until_seen(seen, "begun", number)
            sent.append(time.monotonic())
            call.cancel()
            cancelled = await _wait_until_seen(seen, "cancelled", number)
    late = sorted(1000 * (after - before) for before, after in zip(sent, cancelled, strict=True))
    print(f"\nA servicer sees a cancellation after {statistics.median(late):.1f} ms, at most {late[-1]:.1f} ms.")


async def _wait_until_seen(ask: Any, what: str, number: int) -> list[float]:
    """Return when so many calls have begun in the servicer, or were cancelled there (monotonic seconds)."""
    for _ in range(3000):
        times: list[float] = json.loads(await ask(b""))[what]
        if len(times) == number:
            return times
        await asyncio.sleep(0.01)
    raise RuntimeError(f"the servicer does not see {number} calls {what}")


# -- processor time ----------------------------------------------------------------------------------------------------


async def _processor(folder: Path, running: ExitStack, lambda_process: int, lambda_url: str, calls: int) -> None:
    print("\n| processor time of a unary call | bridge | function |\n|---|--:|--:|")
    for way, use in (("Invoke", "never"), ("full duplex", "always")):
        port = _free_port()
        config = {
            "emulator": lambda_url,
            "duplex": {"listen": f"127.0.0.1:{port}"},
            "services": {"bench.Echo": {"target": "local:echo", "duplex": {"use": use}}},
        }
        bridge, address = running.enter_context(_bridge(folder, use, "serve", config))
        async with _Channels() as channels:
            echo = channels.open(address).unary_unary("/bench.Echo/Echo")
            for _ in range(_WARM_UP):
                await echo(b"a message of a few bytes")
            function = _function(lambda_process)
            before = _seconds(bridge), _seconds(function)
            for _ in range(calls):
                await echo(b"a message of a few bytes")
            spent = _seconds(bridge) - before[0], _seconds(function) - before[1]
        print(f"| {way} | {spent[0] / calls * 1e6:.0f} us | {spent[1] / calls * 1e6:.0f} us |", flush=True)


def _seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _function(lambda_process: int) -> int:
    """The process of the function `echo`: the only one whose handler is that."""
    for entry in Path("/proc").iterdir():
        try:
            is_child = f"\nPPid:\t{lambda_process}\n" in (entry / "status").read_text()
            environ = (entry / "environ").read_bytes() if is_child else b""
        except OSError:
            continue
        if b"_HANDLER=functions.echo_handler" in environ:
            return int(entry.name)
    raise RuntimeError("the function runs nowhere")


# -- programs ----------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _own_address() -> str:
    """An address of this machine that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.connect(("192.0.2.1", 9))
        address: str = found.getsockname()[0]
        return address


@contextmanager
def _bridge(
    folder: Path,
    name: str,
    command: str,
    config: Mapping[str, Any],
    tells: str = r"serving gRPC on ([0-9.:]+)",
    *more: str,
) -> Iterator[tuple[int, str]]:
    """A bridge, or the local Lambda: its process, and what it tells of itself."""
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(config if command == "emulate" else {"listen": "127.0.0.1:0", "admin": None, **config}))
    arguments = [sys.executable, "-m", "bridge", command, "-c", str(file), *more]
    with _program(arguments, folder, tells, environ={"PYTHONPATH": str(Path.cwd())}) as found:
        yield found


@contextmanager
def _program(command: list[str], folder: Path, tells: str, *, environ: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    log = folder / f"{_free_port()}.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env={**os.environ, **environ})
    try:
        found = _wait_for(lambda: re.search(tells, log.read_text()), process, log)
        yield process.pid, found[1] if found.groups() else ""
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(find: Callable[[], re.Match[str] | None], process: subprocess.Popen[bytes], log: Path) -> re.Match[str]:
    until = time.monotonic() + _START_SECONDS
    while (found := find()) is None:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(log.read_text())
        time.sleep(0.05)
    return found


if __name__ == "__main__":
    main()
