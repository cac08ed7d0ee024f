"""Functions that know nothing of the bridge, in the local Lambda, each called by grpcio and grpcurl through its payload
and event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from bridge.services.descriptors import Descriptors, load_descriptors
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import trailers_of
from tests.support.clients import run, tool
from tests.support.programs import free_port

pytestmark = pytest.mark.slow

ORDERS = Path(__file__).parent / "orders"
FAILING_CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
DETAILS = b"\x08\x09\x12\x04rich"

PYTHON = {"target": "local:python", "payload": "json", "event": "raw"}
SERVICES: dict[str, dict[str, Any]] = {
    "Python": PYTHON,
    "PythonBare": PYTHON | {"json": {"names": "proto", "defaults": False}},
    "Node": {"target": "local:node", "payload": "json", "event": "raw"},
    "RestV1": {"target": "local:rest", "payload": "json", "event": "http-v1"},
    "RestV2": {"target": "local:rest", "payload": "json", "event": "http-v2"},
    "RestAlb": {"target": "local:rest", "payload": "json", "event": "alb"},
    "Envoy": {"target": "local:envoy", "payload": "protobuf", "event": "envoy"},
    "CoinbaseV1": {"target": "local:coinbase", "payload": "grpc", "event": "http-v1"},
    "CoinbaseV2": {"target": "local:coinbase", "payload": "grpc", "event": "http-v2"},
    "RawStreamed": PYTHON | {"invoke_mode": "response_stream"},
    "RestStreamed": {"target": "local:rest", "payload": "json", "invoke_mode": "response_stream"},
    "EnvoyStreamed": {
        "target": "local:envoy",
        "payload": "protobuf",
        "event": "envoy",
        "invoke_mode": "response_stream",
    },
    "UrlJson": {"target": "http://EMULATOR/lambda-url/rest", "payload": "json"},
    "UrlGrpc": {"target": "http://EMULATOR/lambda-url/coinbase", "payload": "grpc"},
    "Streamed": {
        "target": "local:coinbase",
        "payload": "grpc",
        "invoke_mode": "response_stream",
    },
}
"""One name for each crossing: orders.proto is copied with its service under all of them."""

PLAIN = ("Python", "Node")
REST = ("RestV1", "RestV2", "RestAlb", "RestStreamed", "UrlJson")
ENVOY = ("Envoy", "EnvoyStreamed")
COINBASE = ("CoinbaseV1", "CoinbaseV2", "Streamed", "UrlGrpc")


@dataclass
class Client:
    bridge: RunningBridge
    channel: grpc.Channel
    described: Descriptors

    def message(self, name: str, **fields: Any) -> Any:
        return GetMessageClass(self.described.message(f"orders.v1.{name}"))(**fields)

    def order(self, **fields: Any) -> Any:
        """From its JSON."""
        return json_format.ParseDict(fields, self.message("Order"))

    def call(self, service: str, method: str, request: Any, *metadata: tuple[str, Any]) -> Any:
        """The response, and the finished call."""
        invoke: Any = self.channel.unary_unary(
            f"/orders.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=type(self.message("Order")).FromString,
        )
        return invoke.with_call(request, metadata=metadata, timeout=20)

    def failure(
        self, service: str, method: str, request: Any, *metadata: tuple[str, Any]
    ) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as raised:
            self.call(service, method, request, *metadata)
        return raised.value.code(), str(raised.value.details())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("payloads")
    text = (ORDERS / "orders.proto").read_text()
    service = re.search(r"service Orders \{.*?\n\}\n", text, re.DOTALL)
    assert service is not None
    copies = "".join(service[0].replace("Orders", name) for name in SERVICES)
    (folder / "orders.proto").write_text(text.replace(service[0], copies))
    code = {"code": str(ORDERS), "timeout": "10s"}
    emulator = f"127.0.0.1:{free_port()}"
    config = {
        "emulator": emulator,
        "services": {
            f"orders.v1.{name}": {
                "descriptors": "orders.proto.d",
                **entry,
                "target": entry["target"].replace("EMULATOR", emulator),
            }
            for name, entry in SERVICES.items()
        },
        "functions": {
            "python": {"handler": "plain.handler", **code},
            "node": {"command": ["node", "bootstrap.js"], **code},
            "rest": {"handler": "shaped.rest", "url": {}, **code},
            "envoy": {"handler": "shaped.envoy", **code},
            "coinbase": {"handler": "shaped.coinbase", "url": {}, **code},
        },
    }
    (folder / "orders.proto.d").mkdir()
    (folder / "orders.proto").rename(folder / "orders.proto.d" / "orders.proto")
    described = load_descriptors(folder / "orders.proto.d")
    with (
        running_bridge(folder, config) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        yield Client(bridge, channel, described)


def needs_node(service: str) -> None:
    if service == "Node":
        tool("node")


# -- plain functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", PLAIN)
def test_a_plain_function_is_a_method(client: Client, service: str) -> None:
    """It takes and returns JSON; metadata comes to it in the client context, fields it invents are ignored."""
    needs_node(service)

    order, call = client.call(service, "Get", client.message("GetRequest", id="7"), ("x-tenant", "acme"))

    assert client.order(id="7", totalCents="1250", state="SHIPPED", note="acme") == order
    assert "x-amzn-requestid" in dict(call.trailing_metadata())


@pytest.mark.parametrize("service", PLAIN)
def test_a_raised_error_is_a_status(client: Client, service: str) -> None:
    """The class's name is the code, its text the message."""
    needs_node(service)

    failure = client.failure(service, "Get", client.message("GetRequest", id="8"))

    assert (grpc.StatusCode.NOT_FOUND, "no order 8") == failure


@pytest.mark.parametrize("code", FAILING_CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("service", PLAIN)
def test_every_code_can_be_raised(client: Client, service: str, code: grpc.StatusCode) -> None:
    """By its name in either spelling, with a message of any text."""
    needs_node(service)
    camel = code.name.title().replace("_", "")

    for name in (code.name, camel):
        request = client.message("FailRequest", type=name, message="näh: 100%")
        assert (code, "näh: 100%") == client.failure(service, "Fail", request)


@pytest.mark.parametrize("service", PLAIN)
def test_any_other_error_is_a_failure(client: Client, service: str) -> None:
    """A name that only resembles a code's is none."""
    needs_node(service)
    request = client.message("FailRequest", type="NotFoundError", message="oh")

    code, told = client.failure(service, "Fail", request)

    assert grpc.StatusCode.INTERNAL is code
    assert told.endswith("failed: NotFoundError: oh")


WHOLE = {
    "id": "1",
    "totalCents": "-9223372036854775808",
    "state": "OPEN",
    "signature": "AP8=",
    "createdAt": "2026-03-12T19:03:58.250Z",
    "leadTime": "1.500s",
    "itemCounts": {"a": 1},
    "parts": [{"id": "2"}],
    "note": "",
    "extra": {"a": [1, None, {"b": "ü"}]},
    "weight": 0.0,
    "changed": "id,createdAt",
    "ratio": "NaN",
    "voucher": "18446744073709551615",
    "attachment": {"@type": "type.googleapis.com/orders.v1.GetRequest", "id": "7"},
    "oddOne": "odd",
}


@pytest.mark.parametrize("service", [*PLAIN, "PythonBare", "RawStreamed", *REST])
def test_every_type_makes_the_round_trip(client: Client, service: str) -> None:
    """Numbers of 64 bits, enums, bytes, times, maps, presence, Struct, wrappers, masks, NaN, oneof, Any, own JSON
    names.
    """
    needs_node(service)
    sent = json_format.ParseDict(WHOLE, client.message("Order"), descriptor_pool=_pool(client))

    order, _ = client.call(service, "Echo", sent)

    assert sent.SerializeToString(deterministic=True) == order.SerializeToString(deterministic=True)


def _pool(client: Client) -> Any:
    return client.described.message("orders.v1.Order").file.pool


@pytest.mark.parametrize("service", PLAIN)
def test_nothing_is_the_empty_message(client: Client, service: str) -> None:
    """A function that returns nothing answers google.protobuf.Empty."""
    needs_node(service)

    empty, _ = client.call(service, "Ping", client.message("Order"))

    assert b"" == empty.SerializeToString()


@pytest.mark.clients
@pytest.mark.parametrize("service", PLAIN)
def test_grpcurl_calls_plain_functions(client: Client, service: str) -> None:
    """By reflection from the same descriptors."""
    needs_node(service)
    headers = ["-H", "x-tenant: acme", "-d", '{"id": "7"}']
    method = f"orders.v1.{service}/Get"
    called = run([tool("grpcurl"), "-plaintext", *headers, client.bridge.address, method])

    expected = {"id": "7", "totalCents": "1250", "state": "SHIPPED", "note": "acme"}
    assert expected == json.loads(called.stdout)


def test_metadata_that_does_not_fit_is_dropped(client: Client) -> None:
    """The call goes on, the method is still known, the log says so."""
    request = client.message("GetRequest", id="7")

    order, _ = client.call("Python", "Get", request, ("x-tenant", "t" * 3000))

    assert "" == order.note
    client.bridge.wait_for_line("too large for the client context")


# -- what unary formats refuse -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["Python", "RestV2", "Envoy"])
@pytest.mark.parametrize(("count", "told"), [(0, "no message"), (2, "several messages")])
def test_streams_are_refused(client: Client, service: str, count: int, told: str) -> None:
    talk: Any = client.channel.stream_stream(f"/orders.v1.{service}/Talk")

    with pytest.raises(grpc.RpcError) as raised:
        list(talk(iter([b""] * count), timeout=20))

    assert grpc.StatusCode.UNIMPLEMENTED is raised.value.code()
    assert f"is unary, and this call has {told}" in str(raised.value.details())


def test_an_unknown_method_is_told_by_its_descriptors(client: Client) -> None:
    failure = client.failure("Python", "NoSuch", client.message("Order"))

    assert (
        grpc.StatusCode.UNIMPLEMENTED,
        "orders.v1.Python/NoSuch is not in orders.proto.d, by which this target's JSON is read",
    ) == failure


# -- JSON over HTTP events ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", REST)
def test_json_apis_have_metadata_and_statuses(client: Client, service: str) -> None:
    """Headers go both ways; a grpc-status among them is the status."""
    sent = client.order(id="1")

    order, call = client.call(service, "Echo", sent, ("x-sent", "über".encode().hex()))

    assert sent == order
    assert ("x-seen", "über".encode().hex()) in [tuple(pair) for pair in call.initial_metadata()]
    assert (grpc.StatusCode.ABORTED, "as asked") == client.failure(service, "Echo", sent, ("x-status", "10"))


@pytest.mark.parametrize("service", REST)
def test_an_http_error_is_mapped(client: Client, service: str) -> None:
    """By gRPC's table, quoting what the function said."""
    code, told = client.failure(service, "Echo", client.order(id="1"), ("x-http", "403"))

    assert grpc.StatusCode.PERMISSION_DENIED is code
    assert 'the function answered HTTP 403: {"message": "out of order"}' == told


# -- Envoy's shape -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ENVOY)
def test_functions_for_envoy_move_over(client: Client, service: str) -> None:
    """The bare message each way in snake case, cookies included."""
    sent = client.order(id="1", totalCents="5")

    order, call = client.call(service, "Echo", sent, ("x-sent", "hi"))

    assert sent == order
    metadata = [tuple(pair) for pair in call.initial_metadata()]
    assert ("x-seen", f"POST /orders.v1.{service}/Echo hi") in metadata
    assert [("set-cookie", "a=1"), ("set-cookie", "b=2")] == metadata[-2:]


@pytest.mark.parametrize("code", FAILING_CODES, ids=lambda code: code.name)
def test_envoy_functions_may_tell_any_status(client: Client, code: grpc.StatusCode) -> None:
    """Which Envoy itself would not have passed on."""
    failure = client.failure("Envoy", "Echo", client.order(id="1"), ("x-status", str(code.value[0])))

    assert (code, "as asked") == failure


@pytest.mark.parametrize("service", ENVOY)
def test_envoy_functions_http_error_is_mapped(client: Client, service: str) -> None:
    code, told = client.failure(service, "Echo", client.order(id="1"), ("x-http", "503"))

    assert (grpc.StatusCode.UNAVAILABLE, "the function answered HTTP 503: out of order") == (code, told)


# -- gRPC's frames without trailers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", COINBASE)
def test_frames_without_trailers(client: Client, service: str) -> None:
    """The bridge supplies the trailers."""
    sent = client.order(id="1")

    order, call = client.call(service, "Echo", sent, ("x-sent", "hi"))

    assert sent == order
    assert ("x-seen", "hi") in [tuple(pair) for pair in call.initial_metadata()]


def test_listed_headers_keep_their_values_apart(client: Client) -> None:
    """Over Invoke; a function URL does not read multiValueHeaders."""
    _, call = client.call("CoinbaseV1", "Echo", client.order(id="1"))

    values = [value for name, value in call.initial_metadata() if name == "x-many"]
    assert ["1", "2, 3"] == values


@pytest.mark.parametrize("service", COINBASE)
def test_streams_of_frames(client: Client, service: str) -> None:
    """All that was sent comes back, message by message."""
    talk: Any = client.channel.stream_stream(f"/orders.v1.{service}/Talk")

    assert [b"a", b"", b"c" * 1000] == list(talk(iter([b"a", b"", b"c" * 1000]), timeout=20))


@pytest.mark.parametrize("code", FAILING_CODES, ids=lambda code: code.name)
def test_statuses_of_frames_stand_in_headers(client: Client, code: grpc.StatusCode) -> None:
    """Code, message and details."""
    with pytest.raises(grpc.RpcError) as raised:
        client.call(
            "CoinbaseV1", "Echo", client.order(id="1"), ("x-status", str(code.value[0])), ("x-details", "CAkSBHJpY2g")
        )

    assert (code, "as asked") == (raised.value.code(), str(raised.value.details()))
    assert DETAILS == trailers_of(raised.value)["grpc-status-details-bin"]


@pytest.mark.parametrize("service", COINBASE)
def test_a_missing_prefix_is_named(client: Client, service: str) -> None:
    """The error that clients report as a message of 1.7 GB."""
    code, told = client.failure(service, "Echo", client.order(id="1"), ("x-bare", "Hello, world"))

    assert grpc.StatusCode.INTERNAL is code
    assert 'lacks the 5-byte prefix of gRPC messages: it begins with "Hello, world"' in told
    assert "received message larger than max (1701604463 vs. 4194304)" in told
