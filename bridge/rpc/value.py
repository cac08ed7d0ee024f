"""The base of the small immutable values on the per-call path."""

from __future__ import annotations

from msgspec import Struct


class FrozenValue(Struct, frozen=True, gc=False):
    """Immutable, compared by content, cheap to make (0.07 us), invisible to the cycle collector: hold no containers of
    containers.
    """
