"""The fixtures of `lambda_fn.testing`. Where grpc-lambda-fn is installed, pytest finds them by itself.

    def test_hello(lambda_channel: LambdaChannel) -> None:
        stub = GreeterStub(lambda_channel(app.server))

Elsewhere `pytest -p lambda_fn.testing.pytest` loads them. grpc is imported only when a test asks for a channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    import grpc

    from lambda_fn.server import LambdaServer
    from lambda_fn.testing import LambdaHandler


class LambdaChannel(Protocol):
    """What the fixture `lambda_channel` is."""

    def __call__(self, server: LambdaServer | LambdaHandler, **options: Any) -> grpc.Channel:
        """Open a channel, which is closed when the test ends. `options` are those of `lambda_fn.testing.channel`."""
        ...


class LambdaAioChannel(Protocol):
    """What the fixture `lambda_aio_channel` is."""

    def __call__(self, server: LambdaServer | LambdaHandler, **options: Any) -> grpc.aio.Channel:
        """Open a channel on the running event loop. Its calls end with the test. `options` are those of
        `lambda_fn.testing.aio_channel`.
        """
        ...


@pytest.fixture
def lambda_channel() -> Iterator[LambdaChannel]:
    """Give a function that opens channels to servers, such as `lambda_channel(server, event="alb")`."""
    from lambda_fn.testing.channels import channel

    with ExitStack() as opened:

        def open_channel(server: LambdaServer | LambdaHandler, **options: Any) -> grpc.Channel:
            return opened.enter_context(channel(server, **options))

        yield open_channel


@pytest.fixture
def lambda_aio_channel() -> Iterator[LambdaAioChannel]:
    """Give a function that opens channels of grpc.aio to servers. Any plugin that runs async tests will do."""
    from lambda_fn.testing.channels import unclosed_aio_channel

    with ExitStack() as opened:

        def open_channel(server: LambdaServer | LambdaHandler, **options: Any) -> grpc.aio.Channel:
            return opened.enter_context(unclosed_aio_channel(server, **options))

        yield open_channel
