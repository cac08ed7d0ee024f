"""LambdaServer behind the bridge beside grpcio's servers: docs/lambda-server.md, row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.bridge_process import running_bridge
from tests.support.comparison import (
    ASYNC,
    ASYNC_INTERCEPTORS,
    ROWS,
    SYNC,
    SYNC_INTERCEPTORS,
    Row,
    Sent,
    add_async,
    add_sync,
    page,
)
from tests.support.lambda_channel import Outcome, aio_server, grpcio_outcome, sync_server
from tests.support.programs import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Pair:
    """Two servers with the same servicers: their addresses."""

    grpcio: str
    bridge: str
    duplex: str
    """Of the bridge that sends all calls in full duplex."""


@contextmanager
def behind_the_bridge(folder: Path, handler: str, grpcio: AbstractContextManager[str]) -> Iterator[Pair]:
    function = {"handler": f"tests.support.comparison.{handler}", "code": str(ROOT), "timeout": "30s"}

    def config(**keys: Any) -> dict[str, Any]:
        services = {key: {"target": "local:compared", **keys} for key in ("test.Test", "generic.Any")}
        return {"services": services, "functions": {"compared": function}}

    duplex = {**config(duplex={"use": "always"}), "duplex": {"listen": f"127.0.0.1:{free_port()}"}}
    plain_folder, duplex_folder = folder / "plain", folder / "duplex"
    plain_folder.mkdir()
    duplex_folder.mkdir()
    with (
        running_bridge(plain_folder, config()) as bridge,
        running_bridge(duplex_folder, duplex) as second,
        grpcio as address,
    ):
        yield Pair(address, bridge.address, second.address)


@pytest.fixture(scope="module")
def sync_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    server = sync_server(add_sync, interceptors=SYNC_INTERCEPTORS)
    with behind_the_bridge(tmp_path_factory.mktemp("sync"), "sync_handler", server) as pair:
        yield pair


@pytest.fixture(scope="module")
def async_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    server = aio_server(add_async, interceptors=ASYNC_INTERCEPTORS)
    with behind_the_bridge(tmp_path_factory.mktemp("async"), "async_handler", server) as pair:
        yield pair


def seen(address: str, sent: Sent) -> Outcome:
    """What reaches the caller's code: a unary caller gets no message from a failed call. Lambda's request id stands in
    the page's row.
    """
    outcome = grpcio_outcome(address, sent.path, sent.messages, metadata=sent.metadata, timeout=sent.timeout)
    trailing = tuple(pair for pair in outcome.trailing if pair[0] != "x-amzn-requestid")
    kind, _ = (SYNC | ASYNC).get(sent.method, ("unary_unary", None))
    is_dropped = kind.endswith("_unary") and outcome.code is not grpc.StatusCode.OK
    messages = () if is_dropped else outcome.messages
    # Whether the client or a server is first to notice that a deadline has passed is a matter of chance.
    details = "" if outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED else outcome.details
    # grpc.server names the method as a bytes literal. Sometimes it has forgotten the method by then.
    details = re.sub(r'^"b\'[^\']*\'" requires', f'"{sent.path}" requires', details)
    return replace(outcome, trailing=trailing, messages=messages, details=details)


def compare(row: Row, calls: tuple[Sent, ...], pair: Pair) -> None:
    by_grpcio = [seen(pair.grpcio, sent) for sent in calls]

    assert [row.expected(each) for each in by_grpcio] == [seen(pair.bridge, sent) for sent in calls]
    assert [row.expected_in_duplex(each) for each in by_grpcio] == [seen(pair.duplex, sent) for sent in calls]


@pytest.mark.parametrize("row", [row for row in ROWS if row.sync], ids=lambda row: row.feature)
def test_a_sync_servicer_behaves_as_under_grpc_server(row: Row, sync_pair: Pair) -> None:
    """Up to the row's difference."""
    compare(row, row.sync, sync_pair)


@pytest.mark.parametrize("row", [row for row in ROWS if row.asynchronous], ids=lambda row: row.feature)
def test_an_async_servicer_behaves_as_under_grpc_aio_server(row: Row, async_pair: Pair) -> None:
    """Up to the row's difference."""
    compare(row, row.asynchronous, async_pair)


def test_every_call_tells_lambdas_request_id(sync_pair: Pair) -> None:
    """The one thing that each outcome has beyond grpcio's."""
    for address in (sync_pair.bridge, sync_pair.duplex):
        outcome = grpcio_outcome(address, "/test.Test/Echo")
        assert ["x-amzn-requestid"] == [name for name, _ in outcome.trailing]


def test_every_method_is_in_the_table() -> None:
    """A behaviour that nobody compares would be a hole in the page."""
    assert set(SYNC) == {s.method for row in ROWS for s in row.sync} & set(SYNC)
    assert set(ASYNC) == {s.method for row in ROWS for s in row.asynchronous} & set(ASYNC)


def test_the_page_says_what_was_found() -> None:
    """docs/lambda-server.md is this table: write it anew with `python -m tests.support.comparison`."""
    assert page() == (ROOT / "docs/lambda-server.md").read_text()
