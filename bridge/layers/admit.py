"""admit: accepts a call only while its target and the process have room. Excess calls are refused before they cost
anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Overloaded
from bridge.rpc.figures import TargetFigures

BUILTIN_CALLS = 10_000
"""Calls of one built-in service that a process may have open. Most are a client's health Watch."""

BUILTIN_CALLS_OF_ONE = 100
"""The same for one connection: a client library opens one Watch for each."""


def admit(
    inner: Handler,
    *,
    target: TargetFigures,
    max_concurrency: int,
    buffers: Buffers,
    gathers: bool,
    clock: Callable[[], float],
) -> Handler:
    """`buffers` are those of the process. `gathers` says that the target takes requests whole. Then a call takes its
    place once its request is complete, so that requests which never arrive block no other call. `clock` reads the
    monotonic time.
    """
    places = target.places
    calls = places.calls

    async def admitted(call: Call) -> None:
        if gathers and not call.has_ended:
            await call.read_all()
        if buffers.held >= buffers.limit and buffers.is_full:
            raise buffers.full(0)
        if (len(calls) >= max_concurrency or places.is_short) and not places.ask(
            call.connection, max_concurrency, now=clock()
        ):
            raise Overloaded(
                f"{target.name} has {len(calls)} calls in flight, "
                f"at most {max_concurrency} (max_concurrency); try again later",
                kind="max_concurrency",
            )
        calls.add(call)
        try:
            await inner(call)
        finally:
            calls.discard(call)
            if places.is_short:
                places.freed(call.connection, max_concurrency)

    return admitted


def admit_builtin(
    inner: Handler,
    *,
    name: str,
    calls: int = BUILTIN_CALLS,
    calls_of_one: int = BUILTIN_CALLS_OF_ONE,
) -> Handler:
    """Admit calls of a built-in service. `name` is the service's. `calls` bounds the calls open at a time, in all and
    on one connection.
    """
    by_connection: Counter[Hashable] = Counter()

    async def admitted(call: Call) -> None:
        connection = call.connection
        if by_connection[connection] >= calls_of_one or by_connection.total() >= calls:
            raise Overloaded(
                f"too many calls of {name} are open: at most {calls_of_one} on a connection and {calls} in the process",
                kind="builtin_calls",
            )
        by_connection[connection] += 1
        try:
            await inner(call)
        finally:
            by_connection[connection] -= 1
            if not by_connection[connection]:
                del by_connection[connection]

    return admitted
