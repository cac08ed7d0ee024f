"""The entries of `services` that lead to one target: how `call --target` speaks to it, which is as `serve` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridge.commands.failure import CommandFailed
from bridge.config.problems import did_you_mean
from bridge.config.schema import Match, MatchKind, Service
from bridge.config.target import TargetKind
from bridge.routing.router import Router
from bridge.services import builtin

_ANY = "*"


def entries_for(
    plain: Service, configured: Mapping[str, Service], called: tuple[str, str] | None = None
) -> Mapping[str, Service]:
    """Return entries which lead nowhere but to the target of `plain`, the entry for a target that is not configured.

    They are the configured entries that lead there. A called service that none of them matches is spoken to as they
    say, if they all say the same. Raises CommandFailed if they differ. None is called: the services are listed.
    """
    target = plain.legs[0].target
    entries = {key: narrowed for key, entry in configured.items() if (narrowed := _narrowed(entry, target)).legs}
    if not entries:
        return {_ANY: plain}
    if _ANY in entries or (called is not None and _has_route(entries, *called)):
        return entries
    first, *others = entries.values()
    if all(other.legs == first.legs for other in others):
        return {**entries, _ANY: replace(first, key=_ANY, match=Match(MatchKind.ANY))}
    if called is not None:
        raise CommandFailed(
            f"{'/'.join(called)} matches none of the entries of `services` that lead to {target}"
            f"{did_you_mean(called[0], entries, listed=True)}",
            exit_code=2,
        )
    return entries


def _narrowed(entry: Service, target: TargetKind) -> Service:
    """Return the entry without its other targets."""
    legs = tuple(leg for leg in entry.legs if leg.target == target)
    return replace(entry, legs=tuple(replace(leg, weight=1.0) for leg in legs) if len(legs) == 1 else legs)


def _has_route(entries: Mapping[str, Service], service: str, method: str) -> bool:
    router = Router(entries)
    if service in builtin.METHODS or router.match(f"/{service}/{method}") is not None:
        return True
    # `a.B` was read as method B of service a. If it is a service, its method is missing, which is said elsewhere.
    return router.serves(f"{service}.{method}")
