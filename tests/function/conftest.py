"""What the tests of the function side share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from lambda_fn import LambdaServer, invocation
from tests.support.behaviours import Method, add
from tests.support.lambda_channel import LambdaChannel, Serve


@pytest.fixture(autouse=True)
def _outside_of_invocations() -> None:
    """Begin each test outside of an invocation: a runtime that ran in this thread leaves its last one behind."""
    invocation.enter(invocation.NONE)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes a channel to a LambdaServer with these methods; its threads end with the test."""
    servers = []

    def make(methods: Mapping[str, Method], *, context: Any = None, **arguments: Any) -> LambdaChannel:
        server = LambdaServer(**arguments)
        servers.append(server)
        add(server, methods)
        return LambdaChannel(server, context)

    yield make
    for server in servers:
        server.close()
