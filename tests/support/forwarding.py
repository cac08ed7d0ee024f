"""A forward() to call as a LambdaServer is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from lambda_fn.forwarding import forward
from tests.support.lambda_channel import LambdaChannel, LambdaContextDouble


@contextmanager
def forwarding(target: str, *, context: LambdaContextDouble | None = None, **arguments: Any) -> Iterator[LambdaChannel]:
    """A channel to `forward(target, …)`, closed with the block."""
    handler = forward(target, **arguments)
    shown: Any = SimpleNamespace(handler=handler)
    try:
        yield LambdaChannel(shown, context)
    finally:
        handler.close()
