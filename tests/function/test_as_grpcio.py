"""The same servicer under LambdaServer and under grpcio: callers see no difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

from lambda_fn import LambdaServer
from tests.support.behaviours import ASYNC, SYNC, add
from tests.support.lambda_channel import (
    LambdaChannel,
    Outcome,
    aio_server,
    grpcio_outcome,
    sync_server,
)


def seen(outcome: Outcome, kind: str) -> Outcome:
    """What reaches the caller's code: the message of a unary call that failed does not."""
    is_dropped = kind.endswith("_unary") and outcome.code is not grpc.StatusCode.OK
    return replace(outcome, messages=()) if is_dropped else outcome


METADATA = (("x-one", "1"), ("x-one", "2, 3"), ("x-data-bin", b"\x00\x01\xff"), ("x-empty", ""))


@pytest.fixture(scope="module")
def sync_address() -> Iterator[str]:
    with sync_server(lambda server: add(server, SYNC)) as address:
        yield address


@pytest.fixture(scope="module")
def aio_address() -> Iterator[str]:
    with aio_server(lambda server: add(server, ASYNC)) as address:
        yield address


@pytest.fixture(scope="module")
def sync_channel() -> Iterator[LambdaChannel]:
    server = LambdaServer()
    add(server, SYNC)
    yield LambdaChannel(server)
    server.close()


@pytest.fixture(scope="module")
def async_channel() -> Iterator[LambdaChannel]:
    server = LambdaServer()
    add(server, ASYNC)
    yield LambdaChannel(server)
    server.close()


@pytest.mark.parametrize("method", [*SYNC, "Unknown"])
def test_a_sync_method_ends_as_under_grpc_server(sync_channel: LambdaChannel, sync_address: str, method: str) -> None:
    """Status, message, metadata both ways and replies are those of `grpc.server`."""
    kind, _ = SYNC.get(method, ("unary_unary", None))
    expected = grpcio_outcome(sync_address, f"/test.Test/{method}", metadata=METADATA)
    outcome = sync_channel.call(f"/test.Test/{method}", metadata=METADATA)

    assert seen(expected, kind) == seen(outcome, kind)


@pytest.mark.parametrize("method", [*ASYNC, "Unknown"])
def test_an_async_method_ends_as_under_grpc_aio_server(
    async_channel: LambdaChannel, aio_address: str, method: str
) -> None:
    """Status, message, metadata both ways and replies are those of `grpc.aio.server`."""
    kind, _ = ASYNC.get(method, ("unary_unary", None))
    expected = grpcio_outcome(aio_address, f"/test.Test/{method}", metadata=METADATA)
    outcome = async_channel.call(f"/test.Test/{method}", metadata=METADATA)

    assert seen(expected, kind) == seen(outcome, kind)


REQUESTS = {
    "several": (b"1", b"", b"3"),
    "undecodable": (b"1", b"undecodable", b"3"),
    "none": (),
}


@pytest.mark.parametrize("messages", REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize("method", ["Gather", "GatherNone", "Each"])
def test_a_sync_request_stream_is_read_as_under_grpc_server(
    sync_channel: LambdaChannel, sync_address: str, method: str, messages: tuple[bytes, ...]
) -> None:
    """Request messages reach a stream method one by one, in order; one that does not decode ends the call."""
    expected = grpcio_outcome(sync_address, f"/test.Test/{method}", messages)

    assert expected == sync_channel.call(f"/test.Test/{method}", messages)


@pytest.mark.parametrize("messages", REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize("method", ["Gather", "GatherRead", "Each"])
def test_an_async_request_stream_is_read_as_under_grpc_aio_server(
    async_channel: LambdaChannel, aio_address: str, method: str, messages: tuple[bytes, ...]
) -> None:
    """Request messages reach an async stream method one by one, by iteration and by read()."""
    expected = grpcio_outcome(aio_address, f"/test.Test/{method}", messages)

    assert expected == async_channel.call(f"/test.Test/{method}", messages)


@pytest.mark.parametrize("messages", [(b"undecodable",), (b"x" * (5 << 20),)])
@pytest.mark.parametrize("method", ["Echo", "Stream"])
def test_a_sync_unary_request_is_taken_as_under_grpc_server(
    sync_channel: LambdaChannel, sync_address: str, method: str, messages: tuple[bytes, ...]
) -> None:
    """One that does not decode, one above the limit: as `grpc.server` treats them."""
    expected = grpcio_outcome(sync_address, f"/test.Test/{method}", messages)

    assert expected == sync_channel.call(f"/test.Test/{method}", messages)


@pytest.mark.parametrize("messages", [(b"undecodable",), (b"x" * (5 << 20),)])
def test_an_async_unary_request_is_taken_as_under_grpc_aio_server(
    async_channel: LambdaChannel, aio_address: str, messages: tuple[bytes, ...]
) -> None:
    """One that does not decode, one above the limit: as `grpc.aio.server` treats them."""
    expected = grpcio_outcome(aio_address, "/test.Test/Echo", messages)

    assert expected == async_channel.call("/test.Test/Echo", messages)


@pytest.mark.parametrize("flavour", ["sync_channel", "async_channel"])
def test_a_unary_method_without_a_request_is_unimplemented(request: pytest.FixtureRequest, flavour: str) -> None:
    """Both flavours say so (grpc.aio would leave the caller waiting, grpc.server writes the path as a bytes
    literal).
    """
    channel: LambdaChannel = request.getfixturevalue(flavour)

    assert Outcome(
        grpc.StatusCode.UNIMPLEMENTED,
        '"/test.Test/Echo" requires exactly one request message.',
    ) == channel.call("/test.Test/Echo", ())


@pytest.mark.parametrize("messages", [(b"1", b"2"), (b"1", b""), (b"1", b"2", b"3")])
@pytest.mark.parametrize(
    ("flavour", "method"),
    [("sync_channel", "Echo"), ("sync_channel", "Stream"), ("async_channel", "Echo")],
)
def test_a_unary_method_with_several_requests_is_unimplemented(
    request: pytest.FixtureRequest, flavour: str, method: str, messages: tuple[bytes, ...]
) -> None:
    """As gRPC's statuscodes.md has it. grpcio's servers take the first message and never read the others."""
    channel: LambdaChannel = request.getfixturevalue(flavour)

    assert Outcome(
        grpc.StatusCode.UNIMPLEMENTED,
        f'"/test.Test/{method}" requires exactly one request message.',
    ) == channel.call(f"/test.Test/{method}", messages)
