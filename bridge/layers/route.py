"""route: passes the call to its route's handler. Built-in services are answered here, without a function."""

from __future__ import annotations

from collections.abc import Awaitable

from bridge.rpc.call import Call


def route(call: Call) -> Awaitable[None]:
    return call.route.handler(call)
