"""Configurations from text, and the problems they are refused for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bridge.config.load import parse
from bridge.config.problems import ConfigErrors
from bridge.config.schema import Config, Service, TargetShare

FILE = "bridge.yaml"


def configured(
    text: str,
    *,
    folder: Path = Path("/nowhere"),
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Config:
    return parse(
        text,
        file=FILE,
        folder=folder,
        environ=environ or {},
        overrides=overrides,
    )


def problems(
    text: str,
    *,
    folder: Path = Path("/nowhere"),
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> list[str]:
    """What the text is refused for, a line each; none if it is not."""
    try:
        configured(text, folder=folder, environ=environ, overrides=overrides)
    except ConfigErrors as errors:
        return [str(problem) for problem in errors.problems]
    return []


def service(text: str, key: str, *, folder: Path = Path("/nowhere")) -> Service:
    return configured(text, folder=folder).services[key]


def leg(text: str, key: str = "a.B", *, folder: Path = Path("/nowhere")) -> TargetShare:
    """The only leg of an entry."""
    (only,) = service(text, key, folder=folder).legs
    return only
