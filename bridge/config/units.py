"""Durations, sizes and percentages: the text of a configuration in, seconds, bytes and fractions out, and back.

It knows no bounds: what a value may be is the business of the key that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

SECONDS: Mapping[str, Decimal] = MappingProxyType(
    {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
)
"""Of a duration's units, the largest first."""

BYTES: Mapping[str, int] = MappingProxyType({"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1})

# Enough digits for any value that makes sense, and few enough to cost nothing.
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,10})?"
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h)){{1,4}}")
_SIZE = re.compile(rf"({_NUMBER}) ?(B|[KMGT]iB)")
_PERCENTAGE = re.compile(rf"({_NUMBER}) ?%")
_BARE = re.compile(_NUMBER)
_DECIMAL_SIZE = re.compile(rf"({_NUMBER}) ?([kKMGT])[bB]?")


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `5s`, `1h30m`. Raises ValueError, whose text says what is wrong."""
    if _DURATION.fullmatch(text):
        return float(sum(Decimal(number) * SECONDS[unit] for number, unit in _DURATION_PART.findall(text)))
    if _BARE.fullmatch(text):
        raise ValueError(f"a duration needs a unit: {text}s, {text}ms")
    raise ValueError("expected a duration such as 250ms, 5s, 2m or 1h")


def format_duration(seconds: float) -> str:
    """Return the shortest exact text: one number, in the largest unit that leaves it whole."""
    exact = Decimal(repr(seconds))
    if not exact:
        return "0s"
    for unit, size in SECONDS.items():
        if exact % size == 0:
            return f"{int(exact / size)}{unit}"
    return f"{(exact * 1000).normalize():f}ms"


def parse_size(text: str) -> int:
    """Bytes of `512B`, `64KiB`, `1.5MiB`. Raises ValueError, whose text says what is wrong."""
    if match := _SIZE.fullmatch(text):
        size = Decimal(match[1]) * BYTES[match[2]]
        if size % 1:
            raise ValueError("a size is a whole number of bytes")
        return int(size)
    if _BARE.fullmatch(text):
        raise ValueError(f"a size needs a unit: {text}B, {text}KiB, {text}MiB")
    if match := _DECIMAL_SIZE.fullmatch(text):
        raise ValueError(f"sizes count in powers of 1024: {match[1]}{match[2].upper()}iB")
    raise ValueError("expected a size such as 512B, 64KiB or 4MiB")


def format_size(size: int) -> str:
    """Return the shortest exact text: one whole number, in the largest unit that leaves it whole."""
    for unit, factor in BYTES.items():
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def parse_percentage(text: str) -> float:
    """Return the fraction of `20%`: 0.2. Raises ValueError, whose text says what is wrong."""
    if match := _PERCENTAGE.fullmatch(text):
        return float(Decimal(match[1]) / 100)
    raise ValueError("expected a percentage such as 20%")


def format_percentage(fraction: float) -> str:
    percent = (Decimal(repr(fraction)) * 100).normalize()
    return f"{percent:f}%"
