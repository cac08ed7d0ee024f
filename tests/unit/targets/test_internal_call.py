"""Calls of the bridge itself."""

import pytest

from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call
from bridge.rpc.events import OK_TRAILERS
from bridge.targets.internal_call import exchange


@pytest.mark.parametrize(("tenant", "headers"), [("house", (("x-amz-tenant-id", "house"),)), ("", ())])
async def test_a_call_of_the_bridge_may_have_a_tenant(tenant: str, headers: tuple[tuple[str, str], ...]) -> None:
    """That of a function whose tenant is a constant, so that reflection can ask it."""
    seen: list[Call] = []

    async def handler(call: Call) -> None:
        seen.append(call)
        call.send(OK_TRAILERS)

    await exchange(handler, "/s.S/M", [b"x"], seconds=1.0, clock=lambda: 0.0, buffers=Buffers(1 << 20), tenant=tenant)

    assert [(tenant, headers)] == [(call.tenant, call.invoke_headers) for call in seen]
