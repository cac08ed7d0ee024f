"""`routes`: prints which service goes to which target, as a table."""

from __future__ import annotations

import argparse
from dataclasses import astuple

from bridge.commands.loading import load_config
from bridge.config.table import HEADINGS, route_rows


def routes(chosen: argparse.Namespace) -> int:
    """Print the routes. Returns 0. Raises ConfigErrors."""
    _, config = load_config(chosen)
    rows = [HEADINGS, *map(astuple, route_rows(config))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0
