"""An instance that serves many invocations at once, as on Lambda Managed Instances: one thread for each.

Each thread asks the Runtime API for an invocation, calls the handler, answers, and asks again. So the handler must be
thread-safe, as LambdaServer's is. Coroutines run on one event loop that all threads share.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any, TypeVar

from lambda_fn.invocation import Invocation
from lambda_fn.runtime_api import NextRefused, RuntimeApi, RuntimeApiError
from lambda_fn.runtime_logs import RuntimeLog
from lambda_fn.runtime_loop import TRACE_ID, Handler, Runtime
from lambda_fn.threads import run_until_stopped

_logger = logging.getLogger("lambda_fn")

T = TypeVar("T")

FIRST_PAUSE = 0.1
"""Seconds before a thread asks again for an invocation that it did not get; doubled from time to time."""
MAX_PAUSE = 1.0
MAX_FAILURES = 5
"""Attempts in a row that find no Runtime API, after which a thread ends."""


class ManyAtOnce:
    """The process serves many invocations at once: each is known by a context variable alone.

    `_X_AMZN_TRACE_ID` is one for the whole process, so it is not set: any value would be wrong for most calls. The
    trace id is `context.xray_trace_id`.
    """

    fails_alone: tuple[type[BaseException], ...] = (Exception, SystemExit)

    def __init__(self, log: RuntimeLog) -> None:
        self.log = log
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=run_until_stopped, args=(self._loop,), name="lambda_fn loop", daemon=True)
        self._thread.start()

    def begin(self, served: Invocation) -> None:
        """Nothing to do: the context variable is set."""

    def end(self, served: Invocation) -> None:
        self.log.finish(served)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Poller:
    """One of the threads: it has a connection of its own, and serves one invocation at a time."""

    def __init__(self, api: RuntimeApi, runtime: Runtime, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._api = api
        self._runtime = runtime
        self._pause = pause

    def run(self) -> None:
        """Serve until the Runtime API is gone. No answer of it to one invocation ends the others."""
        failures = 0
        seconds = FIRST_PAUSE
        while failures < MAX_FAILURES:
            try:
                delivered = self._api.next()
            except RuntimeApiError as error:
                # One that answers is there, and may have an invocation later.
                failures = 0 if isinstance(error, NextRefused) else failures + 1
                _logger.warning("no invocation: %s; asking again in %.1f s", error, seconds)
                self._pause(seconds)
                seconds = min(2 * seconds, MAX_PAUSE)
                continue
            failures = 0
            seconds = FIRST_PAUSE
            try:
                self._runtime.serve(delivered)
            except RuntimeApiError as error:
                _logger.warning("the reply is lost: %s", error)
            except Exception:  # the outermost frame of a thread, whose place must not be lost
                _logger.exception("the invocation has no answer")


def serve_many(address: str, handler: Handler, log: RuntimeLog, concurrency: int) -> None:
    """Serve up to `concurrency` invocations at once. Return when the Runtime API is gone."""
    os.environ.pop(TRACE_ID, None)
    surroundings = ManyAtOnce(log)
    threads = [_started(address, handler, surroundings, number) for number in range(concurrency)]
    for thread in threads:
        thread.join()
    surroundings.close()


def _started(address: str, handler: Handler, surroundings: ManyAtOnce, number: int) -> Thread:
    api = RuntimeApi(address)
    poller = Poller(api, Runtime(api, handler, surroundings))
    # Daemons: a signal ends the process although they wait.
    thread = Thread(target=poller.run, name=f"lambda_fn invocation {number}", daemon=True)
    thread.start()
    return thread
