"""What lambda_fn takes from grpcio without a promise is in the installed release.

This is the first test to fail after an update: then try the new release and change `library_internals`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.library_internals import (
    handlers_within,
    loop_of,
    tells_of_no_connection,
    tells_of_unreadable_headers,
)
from tests.support.byte_methods import unary_unary
from tests.support.odd_grpc_server import odd_server


def _status_of(address: str) -> tuple[grpc.StatusCode, str]:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        unary_unary(channel, "/a.B/M")(b"", timeout=20)
    return raised.value.code(), str(raised.value.details())


def test_a_generic_handler_shows_its_methods() -> None:
    method: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    generic = grpc.method_handlers_generic_handler("a.B", {"M": method})
    assert [method] == list(handlers_within(generic))


def test_another_handler_shows_none() -> None:
    class Everything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
            return None

    assert [] == list(handlers_within(Everything()))


def test_an_aio_server_knows_its_loop() -> None:
    async def make() -> None:
        server = grpc.aio.server()
        assert loop_of(server) is asyncio.get_running_loop()
        await server.stop(None)

    asyncio.run(make())


@pytest.mark.parametrize("address", ["unix:{folder}/nobody", "name-of-nobody.invalid:1"])
def test_a_status_for_want_of_a_connection(address: str, tmp_path: Path) -> None:
    code, details = _status_of(address.format(folder=tmp_path))
    assert tells_of_no_connection(code, details), details
    assert not tells_of_unreadable_headers(code, details)


def test_a_status_for_headers_that_are_not_grpcs() -> None:
    with odd_server(lambda _: ((), [("x-data-bin", "a_b-c")])) as server:
        code, details = _status_of(server.address)
    assert tells_of_unreadable_headers(code, details), details
    assert not tells_of_no_connection(code, details)
