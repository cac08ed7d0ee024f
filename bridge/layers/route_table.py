"""Finds the Route for a call's path: a built-in service, a configured entry, or the one route for all unknown paths.

A path is looked up once and remembered, so that the cost of a call does not depend on how many services are configured.
Clients choose paths, so the number of remembered paths and of metric labels is bounded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from bridge.routing.router import Router, pick
from bridge.rpc.call import Call, Handler, Route
from bridge.rpc.errors import NoRoute
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from bridge.rpc.remembered import BoundedDict

_MAX_PATHS = 10_000
_MAX_METHODS = 1_000
"""Methods that get their own metrics. All further ones share the label `other`."""
_MAX_PATH_LENGTH = 512


class WeightedTarget:
    """One target of an entry, and its share of the calls."""

    __slots__ = ("handler", "max_call_seconds", "name", "streams", "weight")

    def __init__(
        self,
        handler: Handler,
        weight: float = 1,
        *,
        max_call_seconds: float | None = None,
        streams: bool = False,
        name: str = "",
    ) -> None:
        self.name = name
        """As the configuration writes it."""
        self.streams = streams
        """Whether the target takes messages as they come."""
        self.handler = handler
        self.weight = weight
        self.max_call_seconds = max_call_seconds
        """Seconds that the target itself can take at most."""


class RouteEntry:
    """One line of `services:`, ready to serve."""

    __slots__ = ("legs", "limits", "name", "timeout")

    def __init__(self, name: str, legs: Sequence[WeightedTarget], *, limits: Limits, timeout: float | None) -> None:
        self.name = name
        self.legs = tuple(legs)
        """Empty if the configuration says null. Calls then get UNIMPLEMENTED."""
        self.limits = limits
        self.timeout = timeout


class Builtin:
    """A service that the bridge itself answers."""

    __slots__ = ("handler", "methods")

    def __init__(self, handler: Handler, methods: Collection[str]) -> None:
        self.handler = handler
        self.methods = methods


class MethodRegistry:
    """The figures of each method and target, kept over reloads. Snapshots add up those of a method."""

    def __init__(self, kind_of: Callable[[str], str]) -> None:
        self._kind_of = kind_of
        self._methods: dict[tuple[str, str], dict[str, MethodFigures]] = {}
        """By service and method, then by the target's name."""
        self.unknown = MethodFigures("unknown", "unknown")
        """The figures of calls without a route."""
        self.other = MethodFigures("other", "other")
        """The shared figures of methods beyond the bound."""

    def of(self, service: str, method: str, target: str = "") -> MethodFigures:
        """Return the figures of the calls of a method that this target answers. Methods beyond the bound share one
        entry.
        """
        by_target = self._methods.get((service, method))
        if by_target is None:
            if len(self._methods) >= _MAX_METHODS:
                return self.other
            by_target = self._methods[service, method] = {}
        found = by_target.get(target)
        if found is None:
            kind = self._kind_of(f"/{service}/{method}")
            found = by_target[target] = MethodFigures(service, method, kind, target=target)
        return found

    def all(self) -> list[MethodFigures]:
        """Return those of all methods and targets."""
        rare = [figures for figures in (self.unknown, self.other) if figures.started]
        return [*chain.from_iterable(each.values() for each in self._methods.values()), *rare]


class RouteTable:
    """Resolves paths. Replaced as a whole when the configuration is reloaded."""

    def __init__(
        self,
        router: Router[RouteEntry],
        *,
        builtin: Mapping[str, Builtin],
        methods: MethodRegistry,
        unlogged: Collection[str] = (),
        point: Callable[[], float] = random.random,
    ) -> None:
        """`builtin` is keyed by service name. Calls to the services `unlogged` have no line in the
        access log. `point` gives a number from 0 to just under 1.
        """
        self._router = router
        self._builtin = builtin
        self._methods = methods
        self._unlogged = frozenset(unlogged)
        self._point = point
        self._known: BoundedDict[str, _Choice] = BoundedDict(most=_MAX_PATHS, largest=_MAX_PATH_LENGTH)
        self._unknown = _Choice((Route("unknown", _no_route, methods.unknown, Limits()),), (1,))

    def resolve(self, path: str) -> Route:
        choice = self._known.get(path)
        if choice is None:
            choice = self._find(path)
        return choice.only or choice.at(self._point())

    def _find(self, path: str) -> _Choice:
        service, _, method = path[1:].rpartition("/")
        is_logged = service not in self._unlogged
        builtin = self._builtin.get(service)
        if builtin is not None and not self._router.names(path):
            # Clients choose paths, so only methods that exist get their own figures.
            is_known = method in builtin.methods
            figures = self._methods.of(service, method) if is_known else self._methods.unknown
            own = Route(service, builtin.handler, figures, Limits(), is_logged=is_logged)
            return self._known.remember(path, _Choice((own,), (1,)))
        entry = self._router.match(path)
        if entry is None or not entry.legs:
            return self._unknown
        routes = [
            Route(
                entry.name,
                leg.handler,
                self._methods.of(service, method, leg.name),
                entry.limits,
                entry.timeout,
                leg.max_call_seconds,
                streams=leg.streams,
                target=leg.name,
                is_logged=is_logged,
            )
            for leg in entry.legs
        ]
        return self._known.remember(path, _Choice(routes, [leg.weight for leg in entry.legs]))


class _Choice:
    """The routes of one path: either one, or the legs of a weighted split."""

    __slots__ = ("_routes", "_weights", "only")

    def __init__(self, routes: Sequence[Route], weights: Sequence[float]) -> None:
        self._routes = routes
        self._weights = weights
        self.only = routes[0] if len(routes) == 1 else None

    def at(self, point: float) -> Route:
        return self._routes[pick(self._weights, point)]


async def _no_route(call: Call) -> None:
    raise NoRoute(f"no service is configured for {call.path[:200]}; see `services` in the configuration")
