"""Counts cold starts: lambda_fn marks the first reply of an instance. The mark is counted and removed here."""

from __future__ import annotations

from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import Metadata, value_of

COLD_START = "x-lambda-fn-cold-start"
"""The header that carries the mark."""


def strip_cold_start_mark(headers: Metadata, figures: TargetFigures) -> Metadata:
    """Return a reply's headers without the mark. Counts a cold start if the mark was there."""
    if len(headers) < 2 or value_of(headers, COLD_START) is None:
        return headers
    figures.cold_starts += 1
    return tuple([field for field in headers if field[0] != COLD_START])
