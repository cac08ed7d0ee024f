"""grpcio's own server, sync or aio, started at a target inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import grpc

from lambda_fn.forwarding.target import Target
from lambda_fn.library_internals import loop_of

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0


def start(server: Any, target: Target) -> tuple[Target, Callable[[], None]]:
    """Start it; where it listens, and how to stop it. Raises RuntimeError if it cannot listen there, TypeError for what
    is no server.
    """
    if isinstance(server, grpc.aio.Server):
        return _start_async(server, target)
    if isinstance(server, grpc.Server):
        return _start_sync(server, target)
    raise TypeError(f"server is a {type(server).__name__}; forward takes what grpc.server() and grpc.aio.server() make")


def _start_sync(server: grpc.Server, target: Target) -> tuple[Target, Callable[[], None]]:
    found = _listen(server, target)
    server.start()
    return found, lambda: _wait(server.stop(None))


def _wait(stopped: Any) -> None:
    stopped.wait(_STOP_SECONDS)


def _start_async(server: grpc.aio.Server, target: Target) -> tuple[Target, Callable[[], None]]:
    # An aio server belongs to the loop that was current when it was made. Nobody runs that loop inside Lambda: this
    # thread does.
    loop = loop_of(server)
    if loop.is_running():
        raise RuntimeError("the aio server's loop runs already: call forward outside of it")

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    thread = Thread(target=run, name="lambda_fn grpc.aio", daemon=True)
    thread.start()

    async def listen() -> Target:
        found = _listen(server, target)
        await server.start()
        return found

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(_STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_SECONDS)

    try:
        found = asyncio.run_coroutine_threadsafe(listen(), loop).result(_START_SECONDS)
    except BaseException:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_SECONDS)
        raise
    return found, stop


def _listen(server: Any, target: Target) -> Target:
    if target.credentials is not None:
        raise ValueError("a server in this process is reached in plaintext: unix:PATH or localhost:PORT")
    if target.socket:
        Path(target.socket).unlink(missing_ok=True)  # of an earlier process with our number
    port = server.add_insecure_port(target.address)
    return target if target.socket else target.at_port(port)
