"""Orders to connect that callers forge. They pass through a front door, and no front door lets a caller write a key at
the top of the event.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from lambda_fn import LambdaServer
from lambda_fn.duplex.order import KEY
from lambda_fn.forwarding import forward
from tests.support.behaviours import SYNC, add
from tests.support.http_events import FRONT_ENDS, Event, Request
from tests.support.lambda_channel import LambdaContextDouble, sync_server

ORDERED = "/grpc-lambda-bridge.duplex.v1/attach"
"""The path of honest orders."""
JSON = {"content-type": "application/json"}
GRPC_WEB = {"content-type": "application/grpc-web+proto"}

REQUESTS: dict[str, Callable[[str], Request]] = {
    "the path of orders": lambda order: Request("POST", ORDERED, order.encode(), JSON),
    "the path": lambda order: Request("POST", f"/{KEY}/{quote(order, safe='')}", b"", JSON),
    "the query": lambda order: Request("POST", f"/test.Test/Echo?{KEY}={quote(order)}", b"\0\0\0\0\0", GRPC_WEB),
    "headers": lambda order: Request(
        "POST", "/test.Test/Echo", b"\0\0\0\0\0", GRPC_WEB | {KEY: order, KEY.lower(): order}
    ),
    "a cookie": lambda order: Request("POST", "/test.Test/Echo", b"", JSON | {"cookie": f"{KEY}={quote(order)}"}),
    "the body": lambda order: Request("POST", "/test.Test/Echo", json.dumps({KEY: json.loads(order)}).encode(), JSON),
    "a body that is an event": lambda order: Request(
        "POST", ORDERED, json.dumps({"body": {KEY: order}, KEY: json.loads(order)}).encode(), JSON | {KEY: order}
    ),
}


@pytest.fixture
def forger() -> Iterator[socket.socket]:
    """Where a forged order leads."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


@pytest.fixture(params=["LambdaServer", "forward"])
def handler(request: pytest.FixtureRequest) -> Iterator[Callable[[Any, Any], Any]]:
    if request.param == "forward":
        with sync_server(lambda server: add(server, SYNC)) as address:
            forwarding = forward(address)
            yield forwarding
            forwarding.close()
    else:
        server = LambdaServer()
        add(server, SYNC)
        yield server.handler
        server.close()


def _order(forger: socket.socket) -> dict[str, Any]:
    return {
        "version": 1,
        "address": "{}:{}".format(*forger.getsockname()),
        "token": "x" * 43,
        "tls": None,
        "attachSeconds": 5.0,
        "calls": 10,
    }


def _connects(handler: Callable[[Any, Any], Any], event: Mapping[str, Any], forger: socket.socket) -> bool:
    """Whether the function has followed an order in this event, or has answered one."""
    reply = handler(json.loads(json.dumps(event)), LambdaContextDouble(remaining=5_000))
    try:
        accepted, _ = forger.accept()
    except BlockingIOError:
        headers = reply.get("multiValueHeaders") or reply["headers"]
        return "grpc-lambda-bridge-duplex" in headers
    accepted.close()
    return True


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("where", REQUESTS)
def test_a_caller_orders_nothing_through_a_front_door(
    handler: Callable[[Any, Any], Any], forger: socket.socket, front_end: str, where: str
) -> None:
    event = FRONT_ENDS[front_end](REQUESTS[where](json.dumps(_order(forger))))

    assert not _connects(handler, event, forger)


def _below_the_top(order: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What front doors write into an event of what callers send, or of what others say of them."""
    text = json.dumps(order)
    return {
        "path parameters": {"pathParameters": {"proxy": text, KEY: text}},
        "stage variables": {"stageVariables": {KEY: text}},
        "cookies": {"cookies": [f"{KEY}={text}"]},
        "an authorizer's context": {"requestContext": {"authorizer": {KEY: text, "principalId": text}}},
        "an authorizer's objects": {"requestContext": {"authorizer": {"lambda": {KEY: dict(order)}}}},
        "claims of a token": {"requestContext": {"authorizer": {"jwt": {"claims": {KEY: text}}}}},
        "the request context": {"requestContext": {KEY: dict(order), "resourcePath": text}},
    }


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("where", _below_the_top({}))
def test_nothing_below_the_top_of_an_event_is_an_order(
    handler: Callable[[Any, Any], Any], forger: socket.socket, front_end: str, where: str
) -> None:
    event: Event = FRONT_ENDS[front_end](Request("POST", "/test.Test/Echo", b"\0\0\0\0\0", GRPC_WEB))
    for name, value in _below_the_top(_order(forger))[where].items():
        found = event.get(name)
        event[name] = found | value if isinstance(found, dict) else value

    assert not _connects(handler, event, forger)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_the_same_order_at_the_top_is_followed(
    handler: Callable[[Any, Any], Any], forger: socket.socket, front_end: str
) -> None:
    """Only who may invoke the function can write it there. So the tests above would see a connection."""
    event: Event = FRONT_ENDS[front_end](Request("POST", ORDERED, b"", JSON))
    order = _order(forger) | {"address": "127.0.0.1:1"}
    reply = handler(event | {KEY: order}, LambdaContextDouble(remaining=5_000))

    assert reply["headers"]["grpc-lambda-bridge-duplex"].startswith("refused: nothing listens")
