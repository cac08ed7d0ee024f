"""Plays a scenario on a crossing as a grpcio client, and tells all that the client has of it."""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf import wrappers_pb2
from google.rpc import status_pb2

from lambda_fn.examples import echo_pb2 as pb
from tests.crossing.matrix.crossings import Field, Outcome, Scenario

_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")

KINDS = {
    "unary": "unary_unary",
    "server stream": "unary_stream",
    "client stream": "stream_unary",
    "bidi": "stream_stream",
}


def play(
    scenario: Scenario,
    service: str,
    channel: grpc.Channel,
    *,
    comes_one_by_one: bool,
    wait_until_under_way: Callable[[], None],
) -> Outcome:
    """`comes_one_by_one`: whether messages come as the function gives them. `wait_until_under_way`: until the bridge
    has the call.
    """
    has_stream = scenario.kind in ("server stream", "bidi")
    answered: queue.Queue[None] = queue.Queue()
    invoke: Any = getattr(channel, KINDS[scenario.kind])(
        f"/{service}/{scenario.method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=pb.EchoReply.FromString,
    )
    start = invoke if has_stream else invoke.future
    requests: Any = _sent(scenario, answered)
    if scenario.kind in ("unary", "server stream"):
        (requests,) = scenario.requests
    call = start(
        requests,
        metadata=scenario.metadata,
        timeout=scenario.timeout,
        compression=grpc.Compression.Gzip if scenario.is_compressed else None,
    )
    if scenario.cancelled and not (has_stream and comes_one_by_one):
        wait_until_under_way()
        call.cancel()
    replies: list[pb.EchoReply] = []
    try:
        for reply in call if has_stream else _only(call):
            replies.append(reply)
            answered.put(None)
            if scenario.cancelled:
                call.cancel()
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass  # the call tells what it was
    finally:
        answered.put(None)
    trailing = tuple((name, value) for name, value in call.trailing_metadata() or ())
    return Outcome(
        code=call.code().name,
        message=_ADDRESS.sub("ADDRESS", call.details()),
        messages=tuple((reply.text, reply.index) for reply in replies),
        details=_details(dict(trailing), call.code()),
        initial=_own(call.initial_metadata()),
        trailing=_own(trailing),
        seen=_own(_seen(replies[0])) if replies else (),
    )


def _sent(scenario: Scenario, answered: queue.Queue[None]) -> Iterator[Any]:
    for index, request in enumerate(scenario.requests):
        if scenario.waits and index:
            answered.get()
        yield request
    if scenario.waits:
        answered.get()


def _only(call: Any) -> Iterator[pb.EchoReply]:
    yield call.result()


def _seen(reply: pb.EchoReply) -> list[Field]:
    return [(datum.name, datum.binary if datum.name.endswith("-bin") else datum.text) for datum in reply.metadata]


def _own(metadata: Any) -> tuple[Field, ...]:
    """Names in alphabetical order, which metadata does not promise; values of a name as they came, which it does."""
    pairs = [(name, value) for name, value in metadata or () if name.startswith("echo-")]
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def _details(trailing: dict[str, Any], code: grpc.StatusCode) -> tuple[str, ...]:
    """Texts of the details; that their code is the call's is stated here."""
    encoded = trailing.get("grpc-status-details-bin")
    if encoded is None:
        return ()
    rich = status_pb2.Status.FromString(encoded)
    assert code.value[0] == rich.code
    found = []
    for detail in rich.details:
        text = wrappers_pb2.StringValue()
        assert detail.Unpack(text)
        found.append(text.value)
    return tuple(found)
