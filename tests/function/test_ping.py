"""The example that answers gRPC and REST alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from lambda_fn.examples import ping, ping_pb2, ping_pb2_grpc
from lambda_fn.testing.pytest import LambdaChannel
from tests.support.http_events import FRONT_ENDS, HttpCaller

pb: Any = ping_pb2


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    ping.server.close()


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
@pytest.mark.parametrize(
    ("verb", "path", "body", "expected"),
    [
        ("GET", "/v1/ping", b"", "pong"),
        ("GET", "/v1/ping?message=a%20b", b"", "a b"),
        ("GET", "/v1/ping/hello", b"", "hello"),
        ("POST", "/v1/ping", b'{"message": "hello"}', "hello"),
    ],
)
def test_ping_by_rest(front_end: Any, verb: str, path: str, body: bytes, expected: str) -> None:
    """As curl calls it, through every front end."""
    answer = HttpCaller(ping.handler, front_end).send(verb, path, body)

    assert (200, {"message": expected}) == (answer.status, answer.json)
    assert "application/json" == answer.headers["content-type"]


def test_ping_by_grpc(lambda_channel: LambdaChannel) -> None:
    """As the bridge calls it."""
    stub: Any = ping_pb2_grpc.PingStub(lambda_channel(ping.server))

    assert "pong" == stub.Send(pb.PingRequest()).message


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_the_interceptor_logs_both(lambda_channel: LambdaChannel) -> None:
    """A REST call passes the same interceptors as a gRPC one."""
    log = Lines()
    ping._logger.addHandler(log)
    HttpCaller(ping.handler).send("GET", "/v1/ping", headers={"user-agent": "curl/8"})
    ch = lambda_channel(ping.server, options=[("grpc.primary_user_agent", "mine/1")])
    stub: Any = ping_pb2_grpc.PingStub(ch)
    stub.Send(pb.PingRequest())
    ping._logger.removeHandler(log)

    by_rest, by_grpc = log.lines
    assert "call of /dev.Ping/Send by curl/8" == by_rest
    assert by_grpc.startswith("call of /dev.Ping/Send by mine/1 ")
