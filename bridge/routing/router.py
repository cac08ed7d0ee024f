"""Router: from a call's path to the entry whose key matches it most specifically; `pick`: one leg of a split by weight.

Keys are those of `services`: `pkg.Service/Method`, `pkg.Service`, `pkg.*`, `*`. The router is told neither what an
entry means nor where it leads, and trusts its keys: the configuration has checked them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")

# Visible ASCII. A service's name is dotted; the two slashes are the only ones (gRPC PROTOCOL-HTTP2, "Path").
_PART = r"[!-\-0-~]+"
_SERVICE = re.compile(rf"{_PART}(?:\.{_PART})*")
_PATH = re.compile(rf"/({_PART}(?:\.{_PART})*)/([!-.0-~]+)")


class Router(Generic[T]):
    """Looks up paths in time bounded by the depth of the longest prefix, whatever the number of entries.

    An entry of None hides the less specific ones: what it matches has no route.
    """

    __slots__ = ("_any", "_depth", "_methods", "_prefixes", "_services", "_with_methods")

    def __init__(self, entries: Mapping[str, T | None]) -> None:
        self._any = entries.get("*")
        self._prefixes: dict[str, T | None] = {}
        self._services: dict[str, T | None] = {}
        self._methods: dict[str, T | None] = {}
        for key, entry in entries.items():
            if key == "*":
                continue
            if key.endswith(".*"):
                self._prefixes[key.removesuffix(".*")] = entry
            elif "/" in key:
                self._methods[f"/{key}"] = entry
            else:
                self._services[key] = entry
        self._depth = max((prefix.count(".") + 1 for prefix in self._prefixes), default=0)
        self._with_methods = {path[1:].partition("/")[0] for path, entry in self._methods.items() if entry is not None}

    def match(self, path: str) -> T | None:
        """Return the entry for `/package.Service/Method`, or None if there is no route, or not such a path."""
        parsed = _PATH.fullmatch(path)
        if parsed is None:
            return None
        if path in self._methods:
            return self._methods[path]
        return self._of_service(parsed[1])

    def match_service(self, service: str) -> T | None:
        """Return the entry that the service's methods share, or None without an entry."""
        return self._of_service(service) if _SERVICE.fullmatch(service) else None

    def serves(self, service: str) -> bool:
        """Whether any method of this service may have a route."""
        return service in self._with_methods or self.match_service(service) is not None

    def names(self, path: str) -> bool:
        """Whether the path's method or service has a key of its own, be its entry None."""
        parsed = _PATH.fullmatch(path)
        return parsed is not None and (path in self._methods or parsed[1] in self._services)

    @property
    def services(self) -> tuple[str, ...]:
        """The services that keys name in full and that have a route, sorted."""
        whole = {service for service, entry in self._services.items() if entry is not None}
        return tuple(sorted(whole | self._with_methods))

    def _of_service(self, service: str) -> T | None:
        if service in self._services:
            return self._services[service]
        # From the shortest prefix to the longest that any key has: a long name cannot make the look-up long.
        found, dot = self._any, -1
        for _ in range(self._depth):
            dot = service.find(".", dot + 1)
            if dot < 0:
                break
            found = self._prefixes.get(service[:dot], found)
        return found


def pick(weights: Sequence[float], point: float) -> int:
    """Return the index that `point`, from 0 to just under 1, falls on when [0, 1) is divided by the weights."""
    if len(weights) == 1:
        return 0
    sums = list(accumulate(weights))
    mark = point * sums[-1]
    # Rounding may put the mark on the very end; that is still the last leg's.
    return next((index for index, end in enumerate(sums) if mark < end), len(sums) - 1)
