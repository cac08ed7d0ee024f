"""The function connects to the bridge, and calls come in over that connection: everything that gRPC can do works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
import trustme

from lambda_fn import LambdaServer
from lambda_fn.duplex.order import KEY, Allowed
from lambda_fn.forwarding import forward
from tests.support.behaviours import ASYNC, SYNC, Method, add
from tests.support.byte_methods import stream_stream, unary_unary
from tests.support.lambda_channel import LambdaContextDouble, aio_server, grpcio_outcome, http_v2_event, sync_server
from tests.support.rendezvous import REQUEST, Attached, Rendezvous, attached, facts_of

METADATA = (("x-one", "1"), ("x-one", "2, 3"), ("x-data-bin", b"\x00\x01\xff"), ("x-empty", ""))


def _server(methods: Mapping[str, Method], **arguments: Any) -> LambdaServer:
    server = LambdaServer(**arguments)
    add(server, methods)
    return server


@contextmanager
def _attached(methods: Mapping[str, Method], *, folder: Path | None = None, **arguments: Any) -> Iterator[Attached]:
    server = _server(methods, **arguments)
    try:
        with attached(server.handler, LambdaContextDouble(remaining=60_000), folder=folder) as found:
            yield found
    finally:
        server.close()


def _compare(methods: Mapping[str, Method], plain: str, names: list[str]) -> None:
    for name in names:
        path = f"/test.Test/{name}"
        expected = grpcio_outcome(plain, path, metadata=METADATA)
        with _attached(methods) as found:
            outcome = grpcio_outcome(found.address, path, metadata=METADATA)
        assert expected == outcome, name


@pytest.mark.parametrize("name", [*SYNC, "Unknown"])
def test_a_sync_method_ends_as_under_grpc_server(name: str) -> None:
    """Status, message, metadata both ways and replies are those of `grpc.server`."""
    with sync_server(lambda server: add(server, SYNC)) as plain:
        _compare(SYNC, plain, [name])


@pytest.mark.parametrize("name", [*ASYNC, "Unknown"])
def test_an_async_method_ends_as_under_grpc_aio_server(name: str) -> None:
    with aio_server(lambda server: add(server, ASYNC)) as plain:
        _compare(ASYNC, plain, [name])


# -- full duplex -------------------------------------------------------------------------------------------------------


def _chat(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield b"re: " + request


async def _chat_async(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"re: " + request


CHAT: dict[str, Method] = {"Chat": ("stream_stream", _chat)}
ASYNC_CHAT: dict[str, Method] = {"Chat": ("stream_stream", _chat_async)}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("methods", [CHAT, ASYNC_CHAT, CHAT | ASYNC], ids=["sync", "async", "mixed"])
def test_each_answer_comes_before_the_next_question(methods: dict[str, Method], tls: bool, tmp_path: Path) -> None:
    """A client that waits for the answer before it asks again: what half duplex cannot do."""
    with _attached(methods, folder=tmp_path if tls else None) as found, grpc.insecure_channel(found.address) as channel:
        asked = _Asked()
        replies = stream_stream(channel, "/test.Test/Chat")(iter(asked), timeout=20)
        for number in range(20):
            asked.say(b"%d" % number)
            assert b"re: %d" % number == next(replies)
        asked.end()
        assert [] == list(replies)


class _Asked:
    """Requests that a test sends one by one."""

    def __init__(self) -> None:
        self._items: list[bytes | None] = []
        self._changed = threading.Condition()

    def say(self, item: bytes) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._items.append(None)
            self._changed.notify()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._items:
                    self._changed.wait()
                item = self._items.pop(0)
            if item is None:
                return
            yield item


def test_large_messages_pass_both_ways(tmp_path: Path) -> None:
    """Neither Lambda's 6 MiB nor anything else here bounds a message: the server's own option does."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    data = bytes(range(256)) * (32 << 12)
    server = _server({"Echo": SYNC["Echo"]}, options=options)
    with (
        attached(server.handler, LambdaContextDouble(remaining=60_000), folder=tmp_path) as found,
        grpc.insecure_channel(found.address, options) as channel,
    ):
        assert b"echo " + data == unary_unary(channel, "/test.Test/Echo")(data, timeout=60)
    server.close()


def test_a_cancellation_reaches_the_servicer() -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def wait(request: bytes, context: Any) -> bytes:
        context.add_callback(cancelled.set)
        begun.set()
        cancelled.wait(30)
        return b""

    with _attached({"Wait": ("unary_unary", wait)}) as found, grpc.insecure_channel(found.address) as channel:
        call = unary_unary(channel, "/test.Test/Wait").future(b"", timeout=30)
        assert begun.wait(30)
        call.cancel()
        assert cancelled.wait(30)


@pytest.mark.parametrize("with_async", [False, True], ids=["sync", "mixed"])
def test_each_call_of_an_order_has_a_thread(with_async: bool) -> None:
    """Calls that wait for one another: they end only if all of them run at the same time. The next order is larger."""
    server = _server({"Meet": ("unary_unary", _meet)} | (ASYNC_CHAT if with_async else {}))
    for calls in (10, 25):
        _meeting.append(threading.Barrier(calls))
        rendezvous = Rendezvous()
        found = Attached(
            server.handler, rendezvous, LambdaContextDouble(remaining=60_000), rendezvous.event(calls=calls)
        )
        assert rendezvous.attached.wait(30)
        with grpc.insecure_channel(found.address) as channel:
            waiting = [unary_unary(channel, "/test.Test/Meet").future(b"", timeout=30) for _ in range(calls)]
            assert [b"met"] * calls == [each.result() for each in waiting]
        rendezvous.drop()
        found.finish()
    server.close()


_meeting: list[threading.Barrier] = []


def _meet(request: bytes, context: Any) -> bytes:
    _meeting[-1].wait(20)
    return b"met"


# -- what the servicer's context tells ---------------------------------------------------------------------------------

FACTS = {
    "peer": "192.0.2.7",
    "authority": "shop.example:443",
    "cert": {"pem": "PEM", "subject": "CN=client,O=Acme", "issuer": "CN=ca", "serial": "07"},
}


def _told(request: bytes, context: Any) -> bytes:
    """All that a servicer can ask of its context."""
    found = {
        "peer": context.peer(),
        "key": context.peer_identity_key(),
        "identities": [each.decode() for each in context.peer_identities() or ()],
        "auth": sorted(context.auth_context()),
        "names": sorted(name for name, _ in context.invocation_metadata()),
        "request": context.lambda_context.aws_request_id,
        "path": context.lambda_event["rawPath"],
        "source": context.lambda_event["requestContext"]["http"]["sourceIp"],
        "subject": context.lambda_event["requestContext"]["authentication"]["clientCert"]["subjectDN"],
        "host": context.lambda_event["headers"]["host"],
        "header": context.lambda_event["headers"]["x-one"],
        "type": context.lambda_event["headers"]["content-type"],
        "timeout": context.lambda_event["headers"].get("grpc-timeout", ""),
        "time": context.lambda_event["requestContext"]["timeEpoch"],
        "remaining": context.time_remaining(),
        "is_sync": isinstance(context, grpc.ServicerContext),
    }
    return json.dumps(found).encode()


async def _told_async(request: bytes, context: Any) -> bytes:
    return _told(request, context)


@pytest.mark.parametrize("behaviour", [_told, _told_async], ids=["sync", "async"])
@pytest.mark.parametrize("with_async", [False, True], ids=["alone", "beside async methods"])
def test_the_context_tells_of_the_client_and_of_lambda(behaviour: Any, with_async: bool) -> None:
    """As over Invoke: the client's address and certificate, the event, Lambda's context, and what time is left."""
    methods: dict[str, Method] = {"Told": ("unary_unary", behaviour)} | (ASYNC_CHAT if with_async else {})
    before = time.time()  # noqa: TID251 - events tell the wall time
    with _attached(methods) as found, grpc.insecure_channel(found.address) as channel:
        metadata = (facts_of(FACTS), REQUEST, ("x-one", "1"), ("x-one", "2"))
        told = json.loads(unary_unary(channel, "/test.Test/Told")(b"", metadata=metadata, timeout=100))

    remaining, sent, timeout = told.pop("remaining"), told.pop("time") / 1000, told.pop("timeout")
    assert told == {
        "peer": "ipv4:192.0.2.7:0",
        "key": "x509_common_name",
        "identities": ["client"],
        "auth": ["transport_security_type", "x509_common_name", "x509_pem_cert", "x509_subject"],
        "names": ["user-agent", "x-one", "x-one"],
        "request": "request-1",
        "path": "/test.Test/Told",
        "source": "192.0.2.7",
        "subject": "CN=client,O=Acme",
        "host": "shop.example:443",
        "header": "1,2",
        "type": "application/grpc",
        "is_sync": True,
    }
    assert before <= sent + 0.001
    assert timeout.endswith("m")
    assert 60_000 < int(timeout[:-1]) <= 102_000  # grpc.server rounds up
    assert 0 < remaining <= 60  # the invocation has less left than the call


@pytest.mark.parametrize("behaviour", [_told, _told_async], ids=["sync", "async"])
def test_a_call_without_a_deadline_has_none_in_its_event(behaviour: Any) -> None:
    with (
        _attached({"Told": ("unary_unary", behaviour)}) as found,
        grpc.insecure_channel(found.address) as channel,
    ):
        metadata = (facts_of(FACTS), REQUEST, ("x-one", "1"))
        told = json.loads(unary_unary(channel, "/test.Test/Told")(b"", metadata=metadata))

    assert "" == told["timeout"]
    assert 0 < told["remaining"] <= 60


def test_interceptors_see_the_client_s_metadata_alone() -> None:
    seen: list[list[str]] = []

    class Looks(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            seen.append(sorted(name for name, _ in handler_call_details.invocation_metadata))
            return continuation(handler_call_details)

    with (
        _attached({"Echo": SYNC["Echo"]}, interceptors=[Looks()]) as found,
        grpc.insecure_channel(found.address) as channel,
    ):
        unary_unary(channel, "/test.Test/Echo")(b"", metadata=(facts_of(FACTS), ("x-one", "1")), timeout=20)

    assert [["user-agent", "x-one"]] == seen


# -- the end -----------------------------------------------------------------------------------------------------------


def test_the_function_returns_when_the_bridge_goes_away() -> None:
    """Nobody pays for an invocation that serves nobody. The connection is closed before the function returns."""
    server = _server(CHAT)
    with attached(server.handler, LambdaContextDouble(remaining=60_000)) as found:
        found.rendezvous.drop()
        assert {"statusCode": 200, "headers": {}, "body": "", "isBase64Encoded": False} == found.finish()
    server.close()


def test_the_function_ends_the_connection_before_its_own_time_is_over() -> None:
    """A frozen environment never holds a connection."""
    server = _server(CHAT)
    rendezvous = Rendezvous()
    context = LambdaContextDouble(remaining=900)
    found = Attached(server.handler, rendezvous, context, rendezvous.event())

    assert 200 == found.finish()["statusCode"]
    assert b"GLB1 %b request-1 900\n" % rendezvous.token.encode() == rendezvous.line
    rendezvous.drop()
    server.close()


def test_the_handler_still_answers_all_other_events() -> None:
    server = _server({"Echo": SYNC["Echo"]})
    with attached(server.handler, LambdaContextDouble(remaining=60_000)):
        reply = server.handler(http_v2_event("/test.Test/Echo", b"\0\0\0\0\1x"), None)

    assert isinstance(reply, dict)
    assert 200 == reply["statusCode"]
    server.close()


UNCLOSED = """
import os
from lambda_fn import LambdaServer
from tests.support.lambda_channel import LambdaContextDouble
from tests.support.rendezvous import attached

opened = attached(LambdaServer().handler, LambdaContextDouble(remaining=60_000))
opened.__enter__()
print(len(os.listdir(os.environ["TMPDIR"])))
"""


def test_a_process_that_closes_nothing_leaves_no_folder() -> None:
    """The folder of the server's socket is removed when the process exits."""
    root = Path(__file__).parents[2]
    with TemporaryDirectory() as short:  # the path of a socket has few bytes
        done = subprocess.run(
            [sys.executable, "-c", UNCLOSED],
            cwd=root,
            env={**os.environ, "TMPDIR": short, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )
        left = os.listdir(short)

    assert ("1\n", []) == (done.stdout, left), done.stderr


# -- what is refused ---------------------------------------------------------------------------------------------------


def _reason(handler: Any, event: dict[str, Any]) -> str:
    reply = handler(event, LambdaContextDouble(remaining=5_000))
    assert isinstance(reply, dict)
    assert 200 == reply["statusCode"]
    return str(reply["headers"]["grpc-lambda-bridge-duplex"])


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [
        (False, "off: "),
        (["10.0.0.0/8"], "forbidden: 127.0.0.1 is not among duplex="),
        (["10.0.0.0/8", "127.0.0.0/8"], "refused: nothing listens"),
        (True, "refused: nothing listens"),
    ],
)
def test_the_function_s_author_decides_where_it_connects(allowed: Allowed, reason: str) -> None:
    rendezvous = Rendezvous()
    rendezvous.close()
    server = _server(CHAT, duplex=allowed)

    assert _reason(server.handler, rendezvous.event()).startswith(reason)
    server.close()


@pytest.mark.parametrize("wrong", ["10.0.0.0/8", ["no network"], ["10.0.0.1/8"]])
def test_networks_that_are_none_are_refused_at_once(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        LambdaServer(duplex=wrong)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "update grpc-lambda-fn"),
        ({"address": "no port"}, "address"),
        ({"address": "host:0"}, "address"),
        ({"address": "host:99999"}, "address"),
        ({"address": 7}, "address"),
        ({"token": "short"}, "token"),
        ({"token": "x" * 42 + "\n"}, "token"),
        ({"tls": "yes"}, "tls"),
        ({"tls": {}}, "certificate"),
        ({"tls": {"certificate": "no PEM"}}, "tls: the order's certificate cannot be read"),
        ({"attachSeconds": 0}, "attachSeconds"),
        ({"attachSeconds": True}, "attachSeconds"),
        ({"attachSeconds": 1e9}, "attachSeconds"),
        ({"calls": -1}, "calls"),
        ({"address": "192.0.2.1:1", "tls": None}, "forbidden: 192.0.2.1 is not loopback"),
        ({"address": "nowhere.invalid:1"}, "no such host: nowhere.invalid"),
    ],
)
def test_an_order_that_cannot_be_followed_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    rendezvous = Rendezvous()
    server = _server(CHAT)
    found = _reason(server.handler, rendezvous.event(**changes))

    assert reason in found
    assert rendezvous.token not in found
    rendezvous.close()
    server.close()


def test_only_the_bridge_s_own_certificate_is_accepted(tmp_path: Path) -> None:
    """One of the same authority, with the same name, is not enough."""
    authority = trustme.CA()
    shown, expected = authority.issue_cert("bridge.internal"), authority.issue_cert("bridge.internal")
    rendezvous = Rendezvous(shown)
    threading.Thread(target=rendezvous.serve, daemon=True).start()
    server = _server(CHAT)
    tls = {"certificate": expected.cert_chain_pems[0].bytes().decode()}

    assert "tls: " in _reason(server.handler, rendezvous.event(tls=tls))
    assert b"" == rendezvous.line
    rendezvous.close()
    server.close()


def test_the_token_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    rendezvous = Rendezvous()
    rendezvous.close()
    server = _server(CHAT)
    with caplog.at_level("DEBUG"):
        _reason(server.handler, rendezvous.event())

    assert caplog.text
    assert rendezvous.token not in caplog.text
    server.close()


@pytest.mark.parametrize("where", ["headers", "body", "query"])
def test_a_caller_cannot_order_anything(where: str) -> None:
    """The key counts at the top of the event alone, where front doors put nothing that a caller sends."""
    rendezvous = Rendezvous()
    order = json.dumps(rendezvous.event()[KEY])
    event = http_v2_event("/test.Test/Chat", b"")
    if where == "headers":
        event["headers"] |= {KEY: order, KEY.lower(): order}
    elif where == "body":
        event |= {"body": json.dumps({KEY: json.loads(order)}), "isBase64Encoded": False}
    else:
        event |= {"rawQueryString": f"{KEY}={order}", "queryStringParameters": {KEY: order}}
    server = _server(CHAT)
    reply = server.handler(event, LambdaContextDouble())

    assert isinstance(reply, dict)
    assert "grpc-lambda-bridge-duplex" not in reply["headers"]
    assert not rendezvous.attached.is_set()
    rendezvous.close()
    server.close()


# -- forward -----------------------------------------------------------------------------------------------------------


def test_forward_passes_full_duplex_to_the_server_behind() -> None:
    with sync_server(lambda server: add(server, CHAT)) as address:
        handler = forward(address)
        with (
            attached(handler, LambdaContextDouble(remaining=60_000)) as found,
            grpc.insecure_channel(found.address) as channel,
        ):
            asked = _Asked()
            replies = stream_stream(channel, "/test.Test/Chat")(iter(asked), timeout=20)
            for number in range(5):
                asked.say(b"%d" % number)
                assert b"re: %d" % number == next(replies)
            asked.end()
        handler.close()


def test_forward_can_be_told_not_to_connect() -> None:
    with sync_server(lambda server: add(server, CHAT)) as address:
        handler = forward(address, duplex=False)
        rendezvous = Rendezvous()
        assert _reason(handler, rendezvous.event()).startswith("off: ")
        rendezvous.close()
        handler.close()
