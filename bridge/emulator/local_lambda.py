"""The local Lambda: named functions behind AWS's API and at URLs, on one address. The composition root of this package.

Configuration comes in; an endpoint for SDKs, the AWS CLI, HTTP clients and the bridge's own targets goes out.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.aws.invoke import MAX_STREAMED_REPLY
from bridge.config.schema import FunctionConfig
from bridge.emulator.api import naming
from bridge.emulator.api.function_urls import URL_PATH_PREFIX, FunctionUrls
from bridge.emulator.api.invoke_api import InvokeApi
from bridge.emulator.api.url_signature import known_keys
from bridge.emulator.api.web_functions import WEB_PATH_PREFIX, WebFunctions
from bridge.emulator.instances.busy_times import WrittenFiles
from bridge.emulator.instances.console import LogConsole
from bridge.emulator.instances.debugging import FREE_SECONDS, DebugPorts
from bridge.emulator.instances.environment import Interpreters
from bridge.emulator.instances.file_watch import FileWatch, Followed
from bridge.emulator.instances.function import Function
from bridge.emulator.instances.logs import advice_on
from bridge.emulator.instances.quotas import AccountQuota
from bridge.emulator.instances.reaper import Reaper
from bridge.emulator.instances.shared_state import SharedEmulatorState
from bridge.emulator.instances.source_tree import FileChange
from bridge.emulator.instances.terminal import Terminal
from bridge.emulator.instances.web_function import WebFunction
from bridge.server.hosts import Hosts
from bridge.server.http_port import HttpServerLog, IdleGiveWay

MAX_HEADER = 16 * 1024
"""Bytes of one header or request line."""
MAX_API_CONNECTIONS = 1000
"""Connections. At this number the oldest idle one is closed for a new one. If none is idle, a new one is refused."""
_KEPT_DESCRIPTORS = 64
"""File descriptors that connections to the local Lambda leave free, because functions need pipes and sockets."""
IDLE_TIMEOUT = 75.0
"""Seconds without a whole request after which a connection ends."""
SHUTDOWN_TIMEOUT = 1.0
"""Seconds for the last responses to leave once every process is killed."""
_NAMED = 3
"""Changed files that a line names."""
_LAST_LINES = 100
_LONGEST_LAST_LINE = 500
"""What is kept of a function's output for the status page: lines, and characters of each."""
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with, not bound to

AnyFunction = TypeVar("AnyFunction", Function, WebFunction)
MakeFunction = Callable[[FunctionConfig, SharedEmulatorState, Callable[[str], None]], AnyFunction]


class LocalLambda:
    """Starts processes when functions are invoked; `close` leaves none."""

    def __init__(  # noqa: PLR0913 - the settings of the local Lambda, and limits that tests lower
        self,
        functions: Mapping[str, FunctionConfig],
        *,
        log: Callable[[str, str], None] | None = None,
        logs_json: bool = False,
        shows_reports: bool = True,
        terminal: str | None = None,
        changed: Callable[[str], None] | None = None,
        hosts: Sequence[str] = (),
        concurrency: int | None = None,
        init_timeout: float = 10.0,
        idle_timeout: float = 300.0,
        max_connections: int = MAX_API_CONNECTIONS,
        max_streamed_reply: int = MAX_STREAMED_REPLY,
        debug_patience: float = FREE_SECONDS,
    ) -> None:
        """`log` gets a function's name and a line of its output; by default they are written to stderr, as
        JSON with `logs_json`. `shows_reports`: also AWS's lines about each invocation (START, END, REPORT).

        `terminal` is the path of the terminal that functions at a breakpoint() may use.

        `changed` gets the name of a function whose files have changed (`reload`). `hosts` are more
        host names that it answers to. IP addresses, localhost and names without a dot always work. `concurrency` bounds
        the invocations of all functions at a time.
        """
        self._console = LogConsole(sys.stderr, as_json=logs_json)
        self._write = log or self._console
        self._last_lines: dict[str, deque[tuple[float, str]]] = {}
        """By function: its last lines, each with the time."""
        self._changed = changed
        self._configured = dict(functions)
        self._max_connections = max_connections
        self._hosts = Hosts.of_this_machine("emulator.hosts", hosts)
        self._shared_state = SharedEmulatorState(
            Reaper(),
            Interpreters(),
            init_timeout,
            idle_timeout,
            self._hosts,
            max_streamed_reply,
            AccountQuota(concurrency),
            None if terminal is None else Terminal(terminal, self._console),
            DebugPorts(patience=debug_patience),
            shows_reports,
        )
        self._functions: dict[str, Function] = {}
        self._web_functions: dict[str, WebFunction] = {}
        self._leaving: dict[asyncio.Task[None], Function | WebFunction] = {}
        """Functions that the configuration no longer has, by the task that sees their last invocations end."""
        self._watch = FileWatch(self._reload)
        self._written = WrittenFiles()
        self._runner: web.AppRunner | None = None
        self._connections: IdleGiveWay | None = None
        self._listening: asyncio.Server | None = None
        self._endpoint_url = ""
        self._port = 0

    @property
    def endpoint_url(self) -> str:
        """The URL for SDKs (`endpoint_url`) and the CLI (`--endpoint-url`). Empty before `start`."""
        return self._endpoint_url

    @property
    def urls(self) -> Mapping[str, str]:
        """The functions' URLs by name, for clients that find *.localhost on this machine, such as curl and browsers.
        `path_url` is for the others.
        """
        domains = {name: naming.url_domain(name) for name, each in self._configured.items() if each.url is not None}
        domains |= {name: naming.web_domain(name) for name, each in self._configured.items() if each.web is not None}
        return {name: f"http://{domain}:{self._port}/" for name, domain in domains.items()}

    def path_url(self, name: str) -> str:
        """Return a function's URL below the endpoint. Every client can use it."""
        config = self._configured.get(name)
        is_web = config is not None and config.web is not None
        return f"{self._endpoint_url}{WEB_PATH_PREFIX if is_web else URL_PATH_PREFIX}{name}/"

    async def start(self, host: str, port: int) -> int:
        """Serve, and return the port: the one chosen if 0 was asked for. Raises OSError if it cannot be bound."""
        urls = FunctionUrls(self._functions, known_keys(os.environ), self._hosts)
        web_functions = WebFunctions(self._web_functions, self._hosts)
        self._runner = runner = web.AppRunner(
            InvokeApi(self._functions, urls, web_functions).application(self._serving),
            access_log=None,
            logger=HttpServerLog(),
            auto_decompress=False,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            keepalive_timeout=IDLE_TIMEOUT,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        await runner.setup()
        assert runner.server is not None
        self._connections = IdleGiveWay(runner.server, most=self._max_connections, kept_descriptors=_KEPT_DESCRIPTORS)
        await self.update(self._configured)
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(self._connections, host, port)
        except OSError:
            await self.close()
            raise
        self._port = actual = int(self._listening.sockets[0].getsockname()[1])
        shown = WILDCARDS.get(host, host)
        self._endpoint_url = f"http://[{shown}]:{actual}" if ":" in shown else f"http://{shown}:{actual}"
        return actual

    def report(self) -> list[tuple[str, int, int, int, list[tuple[float, str]]]]:
        """Return for each function: its name, the invocations that run, how many may, its instances, and its last
        lines, each with its Unix time.
        """
        functions: list[tuple[str, Function | WebFunction]] = [*self._functions.items(), *self._web_functions.items()]
        return [
            (name, function.running, function.most_running, function.instances, list(self._last_lines.get(name, ())))
            for name, function in functions
        ]

    def _log(self, name: str, line: str) -> None:
        kept = self._last_lines.get(name)
        if kept is None:
            kept = self._last_lines[name] = deque(maxlen=_LAST_LINES)
        kept.append((datetime.now(UTC).timestamp(), line[:_LONGEST_LAST_LINE]))
        self._write(name, line)

    @web.middleware
    async def _serving(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keep the connection while its request is served."""
        assert self._connections is not None
        with self._connections.serving(request):
            return await handler(request)

    async def update(self, functions: Mapping[str, FunctionConfig]) -> None:
        """Serve these functions from now on. Invocations in flight go on. Unchanged functions keep their instances."""
        self._configured = dict(functions)
        web_functions = {name: config for name, config in functions.items() if config.web is not None}
        self._update(self._web_functions, web_functions, WebFunction)
        others = {name: config for name, config in functions.items() if config.web is None}
        self._update(self._functions, others, Function)
        followed = {Followed(config.code, config.reload) for config in functions.values() if config.reload is not None}
        await self._watch.follow(followed)

    def _update(
        self, known: dict[str, AnyFunction], functions: Mapping[str, FunctionConfig], make: MakeFunction[AnyFunction]
    ) -> None:
        """Let `known` have these functions, all of one kind."""
        for name in known.keys() - functions.keys():
            self._retire(known.pop(name))
            self._last_lines.pop(name, None)
        for name, config in functions.items():
            function = known.get(name)
            if function is None:
                known[name] = make(config, self._shared_state, partial(self._write_line, name))
            elif function.config != config:
                function.renew(config)

    def _write_line(self, name: str, line: str) -> None:
        self._log(name, line)
        advice = advice_on(line)
        if advice is not None:
            self._log(name, advice)

    async def close(self) -> None:
        """Stop serving and kill every process, within a few seconds. It may be called again."""
        await self._watch.close()
        # The functions go first: invocations in flight fail, and their callers learn it before the server stops.
        functions = [*self._all(), *self._leaving.values()]
        await asyncio.gather(*(function.close() for function in functions))
        await asyncio.gather(*self._leaving)
        if self._listening is not None:
            self._listening.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        self._functions.clear()
        self._web_functions.clear()
        await self._shared_state.reaper.close()
        self._console.close()

    def _all(self) -> list[Function | WebFunction]:
        return [*self._functions.values(), *self._web_functions.values()]

    def _retire(self, function: Function | WebFunction) -> None:
        task = asyncio.get_running_loop().create_task(function.drain())
        self._leaving[task] = function
        task.add_done_callback(self._leaving.pop)

    def _reload(self, followed: Followed, changes: list[FileChange]) -> None:
        functions = self._all()
        by_authors = changes
        if not followed.rules.include:  # what is named there counts, whoever writes it
            running = [(function.config.code, function.busy) for function in functions]
            by_authors = self._written.without(changes, followed.folder, running)
        if changes and not by_authors:
            return
        line = f"{_named(by_authors)}: the next invocation starts anew"
        for function in functions:
            config = function.config
            if (config.code, config.reload) == (followed.folder, followed.rules):
                self._log(config.name, line)
                function.renew(config)
                if self._changed is not None:
                    self._changed(config.name)


def _named(changes: Sequence[FileChange]) -> str:
    """Say which files have changed, by their paths in the function's folder."""
    names = [change.name for change in changes]
    match names:
        case []:
            return "the folder was made anew"
        case [only]:
            return f"{only} changed"
        case _ if len(names) <= _NAMED:
            return f"{', '.join(names[:-1])} and {names[-1]} changed"
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more files changed"
