"""route: hands the call to its route's own handler. The built-in services branch off here; no function is woken for them."""

from __future__ import annotations

from collections.abc import Awaitable

from bridge.rpc.call import Call


def route(call: Call) -> Awaitable[None]:
    return call.route.handler(call)
