"""Renders the routes for /routes, as JSON or text."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field, json

from bridge.config.table import NO_TARGET, format_share


class RouteTarget(Struct, frozen=True):
    """One target of a route; several share its calls by weight."""

    target: str
    """As the configuration writes it."""
    weight: float = 1.0


class RouteLine(Struct, frozen=True):
    """One entry of `services`."""

    service: str
    """Its key."""
    targets: tuple[RouteTarget, ...] = ()
    """None: the methods are UNIMPLEMENTED."""
    settings: dict[str, str] = field(default_factory=dict)
    """What differs from the defaults, as the configuration writes it; never a secret."""


def routes_as_json(routes: Sequence[RouteLine]) -> bytes:
    return json.format(json.encode({"routes": routes}), indent=2) + b"\n"


def routes_as_text(routes: Sequence[RouteLine]) -> str:
    """One line for each target, in columns."""
    width = max((len(route.service) for route in routes), default=0)
    lines: list[str] = []
    for route in routes:
        name, settings = route.service, _settings_of(route)
        for target in _targets_of(route):
            lines.append(f"{name:<{width}}  {target}  {settings}".rstrip())
            name = settings = ""
    return "".join(f"{line}\n" for line in lines)


def _targets_of(route: RouteLine) -> list[str]:
    if not route.targets:
        return [NO_TARGET]
    if len(route.targets) == 1:
        return [route.targets[0].target]
    whole = sum(target.weight for target in route.targets)
    return [f"{format_share(target.weight, whole)}  {target.target}" for target in route.targets]


def _settings_of(route: RouteLine) -> str:
    return " ".join(f"{key}={value}" for key, value in route.settings.items())
