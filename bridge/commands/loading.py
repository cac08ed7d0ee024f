"""Loads the configuration for a command's arguments."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bridge.commands.aws_region import region_of
from bridge.config.load import find_config, load
from bridge.config.problems import ConfigErrors, Problem
from bridge.config.schema import Config
from bridge.config.target import LambdaTargetSpec


def load_config(chosen: argparse.Namespace) -> tuple[Path, Config]:
    """Return the file and what it says, after flags and BRIDGE_ variables. Raises ConfigErrors."""
    path = find_config(chosen.config, os.environ, Path.cwd())
    return path, load(path, environ=os.environ, overrides=overrides_of(chosen))


def load_to_serve(chosen: argparse.Namespace) -> tuple[Path, Config]:
    """As `load_config`, for a configuration that calls will be made with. Raises ConfigErrors for more: functions whose
    region nothing names.
    """
    path, config = load_config(chosen)
    refuse_missing_regions(config)
    return path, config


def refuse_missing_regions(config: Config) -> None:
    """Raise ConfigErrors for each target `function:NAME` without a region. AWS's local emulator needs none."""
    named = [
        leg.place
        for service in config.services.values()
        for leg in service.legs
        if isinstance(leg.target, LambdaTargetSpec) and leg.target.region is None and leg.place is not None
        if leg.quirks is None
    ]
    if named and config.aws.region is None and region_of(config.aws.profile, os.environ) is None:
        message = "no region is known: set aws.region or AWS_REGION, or write the function's ARN"
        raise ConfigErrors(Problem.at(place, message) for place in named)


def overrides_of(chosen: argparse.Namespace) -> dict[str, str]:
    """Return the flags that stand for configuration keys, by key path."""
    flags = {
        "listen": getattr(chosen, "listen", None),
        "admin": getattr(chosen, "admin", None),
        "workers": getattr(chosen, "workers", None),
        "emulator": getattr(chosen, "emulator", None),
        "log.level": getattr(chosen, "log_level", None),
        "log.format": getattr(chosen, "log_format", None),
    }
    return {key: value for key, value in flags.items() if value is not None}
