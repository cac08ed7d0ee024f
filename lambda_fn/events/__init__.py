"""Which shape an event has: the table that `LambdaServer` chooses from.

A shape is one module: it knows how AWS spells an HTTP request and its reply, and nothing of gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambda_fn.events import alb, http_v1, http_v2
from lambda_fn.events.shape import Shape, UnknownEvent

SHAPES: tuple[Shape, ...] = (http_v2.SHAPE, alb.SHAPE, http_v1.SHAPE)


def shape_of(event: Mapping[str, Any]) -> Shape:
    """Return the shape of this event. Raises UnknownEvent for what is not an HTTP request."""
    if isinstance(event, Mapping):
        for shape in SHAPES:
            if shape.matches(event):
                return shape
    raise UnknownEvent(event)
