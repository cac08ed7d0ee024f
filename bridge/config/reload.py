"""What a reload changes: the sections that apply to the calls that begin after it, and those that need a restart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.config.reading import Plan
from bridge.config.schema import Config, OnReload

_SECTIONS = {name.partition(".")[0]: slot.traits for name, slot in Plan.of(Config).slots.items()}

NEEDS_RESTART = tuple(name for name, traits in _SECTIONS.items() if OnReload.NEEDS_RESTART in traits)
APPLIED = tuple(name for name in _SECTIONS if name not in NEEDS_RESTART)


@dataclass(frozen=True, slots=True)
class Changes:
    """The names of the sections that differ, in the order of the file."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


def changed_sections(old: Config, new: Config) -> Changes:
    """Return the sections that differ, those that a reload applies apart from those that need a restart."""

    def changed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if getattr(old, name) != getattr(new, name))

    return Changes(changed(APPLIED), changed(NEEDS_RESTART))


def after_reload(old: Config, new: Config) -> Config:
    """Return what holds after a reload: the new configuration, with the old one's sections that need a restart."""
    return replace(new, **{name: getattr(old, name) for name in NEEDS_RESTART})
