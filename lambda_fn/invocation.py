"""The invocation that the running code serves. An instance may serve many at once, so it stands in a context variable.

`lambda_fn.runtime` sets it. AWS's managed runtime does not, so there `current()` returns NONE.
"""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import NamedTuple


class Invocation(NamedTuple):
    """What log lines and traces need to know of an invocation."""

    request_id: str
    trace_id: str | None = None
    """X-Ray's, as the header `X-Amzn-Trace-Id` carries it."""
    tenant_id: str | None = None


NONE = Invocation("")
"""No invocation: the code runs outside of one, or its thread was started without the context variables."""

_current: ContextVar[Invocation] = ContextVar("lambda_fn.invocation", default=NONE)


def current() -> Invocation:
    """Return the invocation that this code serves."""
    return _current.get()


def enter(invocation: Invocation) -> None:
    """Serve this invocation in the current context from now on."""
    _current.set(invocation)


def fresh_context() -> Context:
    """Make an empty context in which only the current invocation is known."""
    context = Context()
    if (invocation := _current.get()) is not NONE:
        context.run(_current.set, invocation)
    return context
