"""The rows of the `routes` command: which key leads where, and under which limits. No header's value is among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from bridge.config.schema import Config, Service, TargetShare
from bridge.config.target import Can
from bridge.config.units import format_duration, format_percentage, format_size
from bridge.rpc.limits import Limits

NONE = "-"
NO_TARGET = "UNIMPLEMENTED"
"""What stands in place of the target where the configuration says null."""


@dataclass(frozen=True, slots=True)
class RouteRow:
    """Texts to print; the fields' names are the headings."""

    service: str
    """The key."""
    target: str
    share: str
    """Of the calls, if they are split."""
    speaks: str
    timeout: str
    limits: str


HEADINGS: tuple[str, ...] = tuple(field.name for field in fields(RouteRow))


def route_rows(config: Config) -> list[RouteRow]:
    """One row for each target, the keys in the order of the file."""
    return [row for service in config.services.values() for row in _rows(service)]


def _rows(service: Service) -> Iterator[RouteRow]:
    timeout = NONE if service.timeout is None else format_duration(service.timeout)
    limits = format_limits(service.limits, service.max_concurrency)
    if not service.legs:
        yield RouteRow(service.key, NO_TARGET, NONE, NONE, NONE, NONE)
        return
    whole = sum(service.weights)
    for leg in service.legs:
        share = NONE if len(service.legs) == 1 else format_share(leg.weight, whole)
        yield RouteRow(service.key, str(leg.target), share, _speaks(leg), timeout, limits)


def format_share(weight: float, whole: float) -> str:
    """Return the share of the calls that goes to a target of this weight, of `whole` for all of them."""
    return format_percentage(round(weight / whole, 3))


def _speaks(leg: TargetShare) -> str:
    """Say what goes to the target, in the words of the file."""
    can = leg.target.can
    if Can.TAKE_BODIES not in can:
        return "grpc"
    words = [f"{leg.payload} in {leg.event}" if Can.TAKE_EVENTS in can else leg.payload]
    if leg.invoke_mode == "response_stream":
        words.append("streamed")
    if leg.quirks is not None:
        words.append(leg.quirks)
    if leg.auth is not None:
        words.append(f"signed for {leg.auth.service} in {leg.auth.region}")
    return ", ".join(words)


def format_limits(limits: Limits, max_concurrency: int) -> str:
    """Return the limits of an entry in one line, for `routes` and /routes."""
    sizes = {
        "request": limits.max_request,
        "buffered": limits.max_buffered,
        "response": limits.max_response,
    }
    texts = [f"{name} {format_size(size)}" for name, size in sizes.items() if size is not None]
    return ", ".join([*texts, f"concurrency {max_concurrency}"])
