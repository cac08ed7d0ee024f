"""The order to connect, as the functions see it: those that follow it, and those that never heard of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.aws.events.duplex_order import KEY, PATH, NamedCertificate, Order, PinnedCertificate, encode_order
from lambda_fn import LambdaServer
from lambda_fn.duplex import order as in_function

TOKEN = "t" * 43
NAMED, PINNED = NamedCertificate("bridge.internal"), PinnedCertificate("PEM")


def _event(tls: NamedCertificate | PinnedCertificate | None = None, address: str = "10.0.0.7:50052") -> Any:
    order = Order(address=address, token=TOKEN, tls=tls, attach_seconds=30.0, calls=10)
    return json.loads(encode_order(order, request_id="b0-1", now=1773341838.25))


def test_both_sides_name_the_order_alike() -> None:
    assert (KEY, 1) == (in_function.KEY, in_function.VERSION)


@pytest.mark.parametrize(
    ("tls", "certificate", "name"),
    [(None, None, "10.0.0.7"), (PINNED, "PEM", "10.0.0.7"), (NAMED, None, "bridge.internal")],
)
def test_the_function_reads_what_the_bridge_has_written(tls: Any, certificate: str | None, name: str) -> None:
    found = in_function.read_order(_event(tls))

    assert in_function.Order("10.0.0.7", 50052, TOKEN, tls is not None, certificate, name, 30.0, 10) == found


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    found = in_function.read_order(_event(address="[fd00::7]:50052"))

    assert ("fd00::7", 50052, "[fd00::7]:50052") == (found.host, found.port, found.address)


def test_a_function_that_does_not_know_it_answers_404() -> None:
    """To it, the event is a request to a path that nobody serves."""
    event = _event(PINNED)
    del event[KEY]
    server = LambdaServer()
    reply = server.handler(event, None)
    server.close()

    assert isinstance(reply, dict)
    assert 404 == reply["statusCode"]


def test_frameworks_find_verb_and_path_where_their_shape_has_them() -> None:
    """Functions for load balancers and REST APIs read other fields than those for function URLs."""
    event = _event()
    http = event["requestContext"]["http"]

    assert [("POST", PATH)] * 2 == [(event["httpMethod"], event["path"]), (http["method"], http["path"])]
    assert ("", False) == (event["body"], event["isBase64Encoded"])


def test_the_token_does_not_show_when_an_order_is_printed() -> None:
    order = Order(address="10.0.0.7:1", token=TOKEN, tls=None, attach_seconds=30.0, calls=10)

    assert TOKEN not in repr(order)
    assert TOKEN not in repr(in_function.read_order(_event()))
