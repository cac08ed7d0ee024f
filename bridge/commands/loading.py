"""Loads the configuration for a command's arguments."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bridge.config.load import find_config, load
from bridge.config.schema import Config


def load_config(chosen: argparse.Namespace) -> tuple[Path, Config]:
    """Return the file and what it says, after flags and BRIDGE_ variables. Raises ConfigErrors."""
    path = find_config(chosen.config, os.environ, Path.cwd())
    return path, load(path, environ=os.environ, overrides=overrides_of(chosen))


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
