"""grpc.health.v1.Health, answered from the routes: a service is SERVING if a route leads to a target. No function is
started to find out. `set_serving` reports what is known about targets. This module asks no target.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from bridge.routing.router import Router
from bridge.rpc.call import Call
from bridge.rpc.errors import Draining, NoRoute
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Trailers
from bridge.rpc.status import Status, StatusCode
from bridge.services import exchange
from bridge.services.builtin import HEALTH, message_class

# HealthCheckResponse.ServingStatus
_SERVING = 1
_NOT_SERVING = 2
_SERVICE_UNKNOWN = 3

_WHOLE_SERVER = ""


class HealthService:
    """The Handler of the health service, and the state behind it."""

    def __init__(self, *, matches: Callable[[str], bool], names: Callable[[], Iterable[str]]) -> None:
        """Take `matches`, which says whether a route leads from this service to a target, and `names`, the services
        that List tells.
        """
        self._matches = matches
        self._names = names
        self._told: dict[str, bool] = {}
        """By services entry: whether its target answers."""
        self._router: Router[bool] = Router(self._told)
        self._watchers: set[asyncio.Event] = set()
        self._is_draining = False
        self._is_closed = False
        self._methods = {"Check": self._check, "List": self._list, "Watch": self._watch}

    # -- what is known -------------------------------------------------------------------------------------------------

    def set_serving(self, name: str, is_serving: bool) -> None:  # noqa: FBT001 - the state itself
        """Whether the target of a services entry answers. It is named by its key: `a.B`, `a.*`, `*`."""
        self._told[name] = is_serving
        self.routes_changed(self._told)

    def routes_changed(self, entries: Iterable[str]) -> None:
        """Take the entries that hold from now on. What is known of others is forgotten, and watchers look again."""
        kept = frozenset(entries)
        self._told = {name: told for name, told in self._told.items() if name in kept}
        self._router = Router(self._told)
        self._wake_watchers()

    def drain(self) -> None:
        """Nothing is SERVING from now on; watchers are told."""
        self._is_draining = True
        self._wake_watchers()

    def close(self) -> None:
        """End every Watch after its last state is sent, so that none of them keeps a draining bridge waiting."""
        self._is_closed = True
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        for changed in self._watchers:
            changed.set()

    # -- what is answered ----------------------------------------------------------------------------------------------

    async def handler(self, call: Call) -> None:
        """Answers a call to grpc.health.v1.Health. Raises NoRoute, Draining and what reading the request raises."""
        answer = self._methods.get(call.path.rpartition("/")[2])
        if answer is None:
            raise NoRoute(f"{HEALTH} has no method {call.path.rpartition('/')[2][:80]}")
        await answer(call)

    async def _check(self, call: Call) -> None:
        asked = await exchange.receive_only(call, message_class("grpc.health.v1.HealthCheckRequest"))
        state = self._state_of(asked.service)
        if state == _SERVICE_UNKNOWN:
            call.send(Trailers(Status(StatusCode.NOT_FOUND, "no route leads to this service")))
            return
        await _reply(call, _response(state))

    async def _list(self, call: Call) -> None:
        await exchange.receive_only(call, message_class("grpc.health.v1.HealthListRequest"))
        listed = message_class("grpc.health.v1.HealthListResponse")()
        for name in (_WHOLE_SERVER, *self._names()):
            listed.statuses[name].status = self._state_of(name)
        await _reply(call, listed)

    async def _watch(self, call: Call) -> None:
        asked = await exchange.receive_only(call, message_class("grpc.health.v1.HealthCheckRequest"))
        call.send(EMPTY_HEADERS)
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            await self._tell_changes(call, asked.service, changed)
        finally:
            self._watchers.discard(changed)

    async def _tell_changes(self, call: Call, name: str, changed: asyncio.Event) -> None:
        """Send the state now and each time it has changed. If it changes faster than the client reads, only the last
        one is sent.
        """
        told: int | None = None
        while True:
            changed.clear()
            state = self._state_of(name)
            if state != told:
                await exchange.send(call, _response(state))
                told = state
            if changed.is_set():
                continue
            if self._is_closed:
                raise Draining("the bridge is stopping: watch another one")
            await changed.wait()

    def _state_of(self, name: str) -> int:
        if name != _WHOLE_SERVER and not self._matches(name):
            return _SERVICE_UNKNOWN
        if self._is_draining:
            return _NOT_SERVING
        # A target we know nothing about counts as SERVING.
        return _NOT_SERVING if self._router.match_service(name) is False else _SERVING


def _response(state: int) -> Any:
    return message_class("grpc.health.v1.HealthCheckResponse")(status=state)


async def _reply(call: Call, message: Any) -> None:
    call.send(EMPTY_HEADERS)
    await exchange.send(call, message)
    call.send(OK_TRAILERS)
