"""LambdaServer at its border: which events it answers, and with what."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import grpc
import pytest

from lambda_fn.events.shape import LAMBDA_MAX_REPLY, UnknownEvent
from lambda_fn.protocols.grpc_web import GrpcWebResponder
from lambda_fn.rpc import WholeReply
from lambda_fn.status import Status
from tests.support.behaviours import SYNC
from tests.support.lambda_channel import (
    LambdaContextDouble,
    Outcome,
    Serve,
    body_of,
    frame,
    http_v2_event,
    outcome_of,
)

OK = grpc.StatusCode.OK
ECHO = {"Echo": SYNC["Echo"]}


def test_the_least_event_is_answered(serve: Serve) -> None:
    """Path, HTTP method, content type and body are all it takes."""
    event = {
        "rawPath": "/test.Test/Echo",
        "requestContext": {"http": {"method": "POST"}},
        "headers": {"content-type": "application/grpc-web+proto"},
        "body": b64encode(frame(b"hi")).decode(),
        "isBase64Encoded": True,
    }

    assert Outcome(OK, messages=(b"echo hi",)) == serve(ECHO).send(event)


def test_the_reply_has_the_form_of_a_function_url(serve: Serve) -> None:
    """Status 200, the content type that came, the body in base64: messages, then trailers without a space after the
    colon.
    """
    channel = serve(ECHO)
    channel.call("/test.Test/Echo", (b"warm up",))
    channel.call("/test.Test/Echo", (b"hi",))

    assert channel.reply == {
        "statusCode": 200,
        "headers": {"content-type": "application/grpc-web+proto"},
        "body": b64encode(frame(b"echo hi") + frame(b"grpc-status:0\r\n", flags=0x80)).decode(),
        "isBase64Encoded": True,
    }


def test_a_call_that_fails_at_once_is_trailers_only(serve: Serve) -> None:
    """Status, message and trailing metadata stand in the headers; the body is empty."""
    channel = serve({"Aborts": SYNC["Aborts"]})
    channel.call("/test.Test/Aborts")
    channel.call("/test.Test/Aborts")

    assert (200, "") == (channel.reply["statusCode"], channel.reply["body"])
    assert {
        "content-type": "application/grpc-web+proto",
        "grpc-status": "10",
        "grpc-message": "as asked",
        "trailing": "v",
        "trailing-bin": "AQ,Ag",
    } == channel.reply["headers"]


def test_repeated_metadata_is_joined_and_listed(serve: Serve) -> None:
    """`headers` join repeats with commas, as AWS wants; `multiValueHeaders` then list all, in order."""
    channel = serve({"Metadata": SYNC["Metadata"]})
    channel.call("/test.Test/Metadata")

    assert "1,2, 3" == channel.reply["headers"]["initial"]
    assert ["1", "2, 3"] == channel.reply["multiValueHeaders"]["initial"]
    assert set(channel.reply["headers"]) == set(channel.reply["multiValueHeaders"])


def test_only_the_first_reply_of_an_instance_tells_of_the_cold_start(serve: Serve) -> None:
    """The header counts cold starts; it is there once."""
    channel = serve(ECHO)
    marks = []
    for _ in range(2):
        channel.call("/test.Test/Echo")
        marks.append(channel.reply["headers"].get("x-lambda-fn-cold-start"))

    assert ["1", None] == marks


@pytest.mark.parametrize("content_type", ["application/grpc", "text/plain"])
def test_another_content_type_gets_415(serve: Serve, content_type: str) -> None:
    """A request in no protocol of ours learns what to send."""
    event = http_v2_event("/test.Test/Echo", b"{}", {"content-type": content_type})
    reply: Any = serve(ECHO).server.handler(event, None)

    assert 415 == reply["statusCode"]
    assert "application/grpc-web+proto" in reply["body"]
    assert content_type in reply["body"]


def test_another_http_method_gets_405(serve: Serve) -> None:
    """A call is a POST."""
    event = http_v2_event("/test.Test/Echo", b"")
    event["requestContext"]["http"]["method"] = "GET"
    reply: Any = serve(ECHO).server.handler(event, None)

    assert (405, "POST") == (reply["statusCode"], reply["headers"]["allow"])


def test_a_body_that_is_not_base64_gets_400(serve: Serve) -> None:
    """The event contradicts itself: no gRPC status can be trusted to reach anyone."""
    event = http_v2_event("/test.Test/Echo", b"") | {"body": "no base64!"}
    reply: Any = serve(ECHO).server.handler(event, None)

    assert 400 == reply["statusCode"]


@pytest.mark.parametrize("event", [{}, {"Records": []}, {"requestContext": {}}, [], "text", None])
def test_an_event_that_is_no_http_request_is_an_error(serve: Serve, event: Any) -> None:
    """Whoever invoked the function with it sees a function error that names the event."""
    with pytest.raises(UnknownEvent, match="this handler answers HTTP events"):
        serve(ECHO).server.handler(event, None)


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (b"\x00\x00\x00", "the request ends in the middle of a message"),
        (b"\x00\x00\x00\x00\x05abc", "the request ends in the middle of a message"),
        (b"\x80\x00\x00\x00\x00", "a request message begins with flag byte 0x80"),
        (
            b"\x01\x00\x00\x00\x01a",
            "a message is flagged as compressed, and grpc-encoding names no compression",
        ),
    ],
)
def test_a_malformed_body_is_internal(serve: Serve, body: bytes, details: str) -> None:
    """The caller's framing is broken: INTERNAL, before the servicer is bothered."""
    outcome = serve(ECHO).send(http_v2_event("/test.Test/Echo", body))

    assert Outcome(grpc.StatusCode.INTERNAL, details) == outcome


@pytest.mark.parametrize("prefix", ["", "/prod", "/a/b"])
def test_a_path_may_have_a_prefix(serve: Serve, prefix: str) -> None:
    """Stages and base paths of API Gateway stand before the method."""
    assert OK is serve(ECHO).call(f"{prefix}/test.Test/Echo").code


@pytest.mark.parametrize("path", ["/", "", "/test.Test", "/test.Test/", "Echo", "/test.Test/echo"])
def test_a_path_that_names_no_method_is_unimplemented(serve: Serve, path: str) -> None:
    """As with any method that is not there."""
    assert Outcome(grpc.StatusCode.UNIMPLEMENTED, "Method not found!") == serve(ECHO).call(path)


# -- text --


def test_grpc_web_text_is_answered_in_text(serve: Serve) -> None:
    """Base64 in, its padding also in the middle; base64 out, as the text that it is."""
    one, other = b64encode(frame(b"a")), b64encode(frame(b"bc"))
    event = http_v2_event(
        "/test.Test/Gather",
        one + other,
        {"content-type": "application/grpc-web-text", "accept": "application/grpc-web-text"},
    )
    reply: Any = serve({"Gather": SYNC["Gather"]}).server.handler(event, None)

    assert "application/grpc-web-text+proto" == reply["headers"]["content-type"]
    assert reply["isBase64Encoded"] is False
    assert reply["body"].encode().startswith(b64encode(frame(b"a+bc")))
    trailers = reply["body"].encode()[len(b64encode(frame(b"a+bc"))) :]
    assert frame(b"grpc-status:0\r\n", flags=0x80) == b64decode(trailers)


def test_text_that_is_not_base64_is_internal(serve: Serve) -> None:
    """The body is not what the content type says."""
    event = http_v2_event("/test.Test/Echo", b"%%%", {"content-type": "application/grpc-web-text"})

    assert Outcome(grpc.StatusCode.INTERNAL, "the body is not base64, as grpc-web-text asks") == serve(ECHO).send(event)


@pytest.mark.parametrize(
    ("content_type", "accept", "expected"),
    [
        ("application/grpc-web", "", "application/grpc-web+proto"),
        ("application/grpc-web+foo", "*/*", "application/grpc-web+foo"),
        ("Application/GRPC-Web+proto; charset=utf-8", "", "application/grpc-web+proto"),
        ("application/grpc-web-text", "", "application/grpc-web-text+proto"),
        ("application/grpc-web-text", "application/grpc-web", "application/grpc-web+proto"),
        ("application/grpc-web", "application/grpc-web-text", "application/grpc-web-text+proto"),
    ],
)
def test_accept_chooses_the_form_of_the_reply(serve: Serve, content_type: str, accept: str, expected: str) -> None:
    """Binary or text as asked for; unasked, the form of the request. The message format stays."""
    is_text = "-text" in content_type
    body = b64encode(frame(b"a")) if is_text else frame(b"a")
    headers = {"content-type": content_type, "accept": accept}
    reply: Any = serve(ECHO).server.handler(http_v2_event("/test.Test/Echo", body, headers), None)

    assert expected == reply["headers"]["content-type"]


# -- compression --


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress(b"hi", mtime=0)), ("deflate", zlib.compress(b"hi"))],
)
def test_a_compressed_request_is_inflated(serve: Serve, encoding: str, packed: bytes) -> None:
    """By message: those without the flag are plain."""
    body = frame(packed, flags=1) + frame(b"plain")
    event = http_v2_event("/test.Test/Gather", body, {"grpc-encoding": encoding})

    assert (b"hi+plain",) == serve({"Gather": SYNC["Gather"]}).send(event).messages


def test_an_unknown_compression_is_unimplemented_and_told_what_is_known(serve: Serve) -> None:
    """compression.md: the reply lists in grpc-accept-encoding what can be read."""
    channel = serve(ECHO)
    outcome = channel.call("/test.Test/Echo", headers={"grpc-encoding": "br"})

    assert grpc.StatusCode.UNIMPLEMENTED is outcome.code
    assert (("grpc-accept-encoding", "identity, deflate, gzip"),) == outcome.trailing


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (gzip.compress(bytes(5 << 20)), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (gzip.compress(b"hi")[:-4], grpc.StatusCode.INTERNAL),
        (b"no gzip", grpc.StatusCode.INTERNAL),
    ],
    ids=["bomb", "cut", "garbage"],
)
@pytest.mark.parametrize("method", ["Echo", "Gather"])
def test_a_message_that_does_not_inflate_fails_the_call(
    serve: Serve, method: str, packed: bytes, code: grpc.StatusCode
) -> None:
    """Too large when inflated, cut off, no such compression: the servicer's result does not count."""
    event = http_v2_event(f"/test.Test/{method}", frame(packed, flags=1), {"grpc-encoding": "gzip"})

    assert code is serve({method: SYNC[method]}).send(event).code


def _compresses(request: bytes, context: grpc.ServicerContext) -> Any:
    context.set_compression(grpc.Compression.Gzip)
    yield bytes(1000)
    context.disable_next_message_compression()
    yield bytes(1000)
    yield b"short"


def test_set_compression_compresses_what_gets_smaller(serve: Serve) -> None:
    """Each message for itself; disable_next_message_compression spares one."""
    channel = serve({"Compresses": ("unary_stream", _compresses)})
    outcome = channel.call("/test.Test/Compresses", headers={"grpc-accept-encoding": "identity,gzip"})
    flags = body_of(channel.reply)[0]

    assert (("grpc-encoding", "gzip"),) == outcome.initial
    assert 1 == flags
    assert bytes(1000) == gzip.decompress(outcome.messages[0])
    assert (bytes(1000), b"short") == outcome.messages[1:]


@pytest.mark.parametrize("accept", [None, "identity", "deflate"])
def test_a_caller_that_does_not_read_a_compression_gets_none(serve: Serve, accept: str | None) -> None:
    """compression.md: never an encoding that the caller did not list."""
    headers = {} if accept is None else {"grpc-accept-encoding": accept}
    outcome = serve({"Compresses": ("unary_stream", _compresses)}).call("/test.Test/Compresses", headers=headers)

    assert Outcome(OK, messages=(bytes(1000), bytes(1000), b"short")) == outcome


def test_the_server_may_compress_by_default(serve: Serve) -> None:
    """`compression=` of the constructor."""
    channel = serve(ECHO, compression=grpc.Compression.Deflate)
    outcome = channel.call("/test.Test/Echo", (bytes(500),), headers={"grpc-accept-encoding": "deflate"})

    assert (("grpc-encoding", "deflate"),) == outcome.initial
    assert b"echo " + bytes(500) == zlib.decompress(outcome.messages[0])


# -- sizes --


def test_the_limit_on_requests_is_grpcios_option(serve: Serve) -> None:
    """`grpc.max_receive_message_length`, and -1 for none."""
    small = serve(ECHO, options=[("grpc.max_receive_message_length", 10)])
    boundless = serve(ECHO, options=[("grpc.max_receive_message_length", -1)])
    message = bytes(4_300_000)

    assert OK is small.call("/test.Test/Echo", (bytes(10),)).code
    assert Outcome(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SERVER: Received message larger than max (11 vs. 10)",
    ) == small.call("/test.Test/Echo", (bytes(11),))
    assert OK is boundless.call("/test.Test/Echo", (message,)).code


def _sized(request: bytes, context: grpc.ServicerContext) -> bytes:
    return bytes(int(request))


def test_a_reply_larger_than_lambda_takes_is_resource_exhausted(serve: Serve) -> None:
    """Up to the last byte it is sent; above, the caller learns both numbers in place of a failed invocation."""
    channel = serve({"Sized": ("unary_unary", _sized)})
    channel.call("/test.Test/Sized", (b"1",))
    envelope = len(json.dumps(channel.reply | {"body": ""})) - len('"x-lambda-fn-cold-start": "1", ')
    largest = (LAMBDA_MAX_REPLY - envelope) // 4 * 3 - len(frame(b"") + frame(b"grpc-status:0\r\n"))

    outcome = channel.call("/test.Test/Sized", (str(largest - 3).encode(),))
    assert (OK, largest - 3) == (outcome.code, len(outcome.messages[0]))
    assert LAMBDA_MAX_REPLY - 10 < len(json.dumps(channel.reply)) <= LAMBDA_MAX_REPLY

    refused = channel.call("/test.Test/Sized", (str(largest + 3).encode(),))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.code
    assert f"limit of this invocation {LAMBDA_MAX_REPLY}" in refused.details


def _floods(request: bytes, context: grpc.ServicerContext) -> Any:
    while True:
        yield bytes(1 << 20)


def test_an_endless_stream_is_stopped_at_the_limit(serve: Serve) -> None:
    """What a buffered reply holds is bounded while it grows."""
    outcome = serve({"Floods": ("unary_stream", _floods)}).call("/test.Test/Floods")

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, ()) == (outcome.code, outcome.messages)


# -- metadata --


def _shows(request: bytes, context: Any) -> bytes:
    return repr([tuple(pair) for pair in context.invocation_metadata()]).encode()


SHOWS = {"Shows": ("unary_unary", _shows)}


def test_the_servicer_sees_what_the_caller_sent(serve: Serve) -> None:
    """HTTP's, gRPC's and the front end's own headers stay out, except those that gRPC passes on."""
    headers = {
        "user-agent": "test",
        "grpc-timeout": "5S",
        "grpc-accept-encoding": "gzip",
        "grpc-trace-bin": "AQ",
        "grpc-previous-rpc-attempts": "1",
        "grpc-foo": "dropped",
        "content-length": "5",
        "x-amzn-trace-id": "Root=1",
        "x-forwarded-for": "192.0.2.1",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    outcome = serve(SHOWS).call("/test.Test/Shows", headers=headers)

    assert (
        repr(
            [
                ("user-agent", "test"),
                ("grpc-trace-bin", b"\x01"),
                ("grpc-previous-rpc-attempts", "1"),
                ("x-amzn-trace-id", "Root=1"),
            ]
        ).encode()
        == outcome.messages[0]
    )


@pytest.mark.parametrize("value", ["AAE,/w", "AAE=,/w==", "AAE= , /w"])
def test_binary_values_are_split_then_decoded(serve: Serve, value: str) -> None:
    """Joined by commas on the way, padded or not."""
    outcome = serve(SHOWS).call("/test.Test/Shows", headers={"x-bin": value})

    assert repr([("x-bin", b"\x00\x01"), ("x-bin", b"\xff")]).encode() == outcome.messages[0]


def test_a_binary_value_that_is_not_base64_fails_the_call(serve: Serve) -> None:
    """INTERNAL, naming the metadata and not its value."""
    outcome = serve(SHOWS).call("/test.Test/Shows", headers={"x-bin": "!secret!"})

    assert Outcome(grpc.StatusCode.INTERNAL, "the value of metadata 'x-bin' is not base64") == outcome


def test_ascii_values_are_never_split(serve: Serve) -> None:
    """A comma in a value cannot be told from a joined repeat: without multiValueHeaders it stays."""
    outcome = serve(SHOWS).call("/test.Test/Shows", headers={"x-name": "a, b"})

    assert repr([("x-name", "a, b")]).encode() == outcome.messages[0]


def test_the_callers_authorization_is_restored(serve: Serve) -> None:
    """With IAM the Authorization header is AWS's signature; the caller's own comes as x-forwarded-authorization."""
    headers = {"authorization": "AWS4-HMAC-SHA256 …", "x-forwarded-authorization": "Bearer token"}
    outcome = serve(SHOWS).call("/test.Test/Shows", headers=headers)

    assert repr([("authorization", "Bearer token")]).encode() == outcome.messages[0]


def _knows(request: bytes, context: Any) -> bytes:
    return repr(
        (
            context.peer(),
            context.auth_context(),
            context.peer_identity_key(),
            context.peer_identities(),
            context.lambda_event["requestContext"]["apiId"],
            context.lambda_context.aws_request_id,
        )
    ).encode()


def test_the_context_knows_the_peer_and_its_certificate(serve: Serve) -> None:
    """In grpcio's words, as if the client had come directly with mutual TLS; and Lambda's own objects beside."""
    certificate = {"clientCertPem": "PEM", "subjectDN": "O=Shop,CN=web\\,1,C=DE"}
    event = http_v2_event("/test.Test/Knows", frame(b""), authentication={"clientCert": certificate})
    channel = serve({"Knows": ("unary_unary", _knows)}, context=LambdaContextDouble())

    assert (
        repr(
            (
                "ipv4:192.0.2.7:0",
                {
                    "transport_security_type": [b"ssl"],
                    "x509_pem_cert": [b"PEM"],
                    "x509_subject": [b"O=Shop,CN=web\\,1,C=DE"],
                    "x509_common_name": [b"web,1"],
                },
                "x509_common_name",
                [b"web,1"],
                "bridge",
                "request-1",
            )
        ).encode()
        == channel.send(event).messages[0]
    )


def test_without_a_certificate_nobody_is_authenticated(serve: Serve) -> None:
    """The same questions, answered with nothing."""
    event = http_v2_event("/test.Test/Knows", frame(b""))
    event["requestContext"]["http"]["sourceIp"] = "2001:db8::1"
    channel = serve({"Knows": ("unary_unary", _knows)}, context=LambdaContextDouble())

    assert (
        repr(("ipv6:[2001:db8::1]:0", {}, None, None, "bridge", "request-1")).encode()
        == channel.send(event).messages[0]
    )


def _hijacks(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.send_initial_metadata((("content-type", "text/html"), ("grpc-encoding", "gzip")))
    context.set_trailing_metadata((("grpc-status", "7"), ("grpc-retry-pushback-ms", "100")))
    return b"reply"


def test_a_servicer_cannot_set_what_is_grpcs_own(serve: Serve) -> None:
    """Its status, message, compression and content type stay; other grpc-* trailers pass."""
    outcome = serve({"Hijacks": ("unary_unary", _hijacks)}).call("/test.Test/Hijacks")

    assert Outcome(OK, messages=(b"reply",), trailing=(("grpc-retry-pushback-ms", "100"),)) == outcome


def _no_bytes(request: bytes, context: Any) -> Any:
    return 5


def _one_no_bytes(request: bytes, context: Any) -> Any:
    return iter((b"one", "two"))


@pytest.mark.parametrize(("kind", "behaviour"), [("unary_unary", _no_bytes), ("unary_stream", _one_no_bytes)])
def test_what_is_no_message_fails_the_call_alone(serve: Serve, kind: str, behaviour: Any) -> None:
    """A method without a serializer may return anything; it failed the invocation. grpcio leaves such a caller without
    an answer.
    """
    channel = serve({})
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)
    channel.server.add_registered_method_handlers("test.Test", {"Odd": handler})
    outcome = channel.call("/test.Test/Odd")

    assert (grpc.StatusCode.INTERNAL, "Failed to serialize response!") == (
        outcome.code,
        outcome.details,
    )


class _Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


async def _mute(request: bytes, context: Any) -> bytes:
    raise _Mute


class _MuteInterceptor(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        raise _Mute


@pytest.mark.parametrize("interceptors", [(), (_MuteInterceptor(),)])
def test_an_exception_without_a_text_fails_the_call_alone(serve: Serve, interceptors: tuple[Any, ...]) -> None:
    """Its `__str__` raises, in an async servicer and in an interceptor; plain servicers have grpcio's own words
    for it.
    """
    channel = serve({"Mute": ("unary_unary", _mute)}, interceptors=interceptors)
    outcome = channel.call("/test.Test/Mute")

    assert grpc.StatusCode.UNKNOWN is outcome.code
    assert outcome.details.startswith("Unexpected <class")


def _exits(request: bytes, context: Any) -> bytes:
    raise SystemExit(7)


async def _exits_async(request: bytes, context: Any) -> bytes:
    raise SystemExit(7)


@pytest.mark.parametrize("behaviour", [_exits, _exits_async])
def test_system_exit_reaches_lambdas_own_thread(serve: Serve, behaviour: Any) -> None:
    """A servicer that ends the process ends it, as it would in a plain handler."""
    channel = serve({"Exits": ("unary_unary", behaviour)})

    with pytest.raises(SystemExit, match="7"):
        channel.call("/test.Test/Exits")


def test_several_threads_may_call_the_handler_at_once(serve: Serve) -> None:
    """As under Lambda Managed Instances: each call has its own metadata, messages and reply."""
    everyone_is_here = Barrier(8)

    def meets(request: bytes, context: Any) -> bytes:
        everyone_is_here.wait(10)
        found = dict(context.invocation_metadata())["x-number"]
        context.set_trailing_metadata((("number", found),))
        return request

    channel = serve({"Meets": ("unary_unary", meets)})

    def call(number: int) -> Outcome:
        event = http_v2_event("/test.Test/Meets", frame(b"%d" % number), {"x-number": str(number)})
        reply: Any = channel.server.handler(event, None)
        return outcome_of(reply, body_of(reply))

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(call, range(8)))

    assert [
        Outcome(OK, messages=(b"%d" % number,), trailing=(("number", str(number)),)) for number in range(8)
    ] == outcomes


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bytes_behind_a_compressed_message_are_refused(serve: Serve, encoding: str) -> None:
    """INTERNAL, as with grpcio; a second member and a message that ends early too."""
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    packed = compress(b"hi")
    channel = serve(ECHO)

    for body in (packed + b"x", packed + packed, packed + bytes(8), packed[:-1], packed[:1]):
        event = http_v2_event("/test.Test/Echo", frame(body, flags=1), {"grpc-encoding": encoding})

        assert grpc.StatusCode.INTERNAL is channel.send(event).code


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (" a b ", "%20a b%20"),
        ("  a", "%20%20a"),
        ("a  ", "a%20%20"),
        (" ", "%20"),
        ("   ", "%20%20%20"),
        ("a b", "a b"),
        ("\n a \t", "%0A a %09"),
        ("100%", "100%25"),
        (" \u00e9 ", "%20%C3%A9%20"),
    ],
)
def test_spaces_at_the_ends_of_a_message_survive(serve: Serve, message: str, sent: str) -> None:
    """HTTP takes them off a header's value; in the headers and in the trailers' frame."""

    def fail(request: bytes, context: Any) -> None:
        if request == b"later":
            context.send_initial_metadata(())
        context.abort(grpc.StatusCode.ABORTED, message)

    channel = serve({"Fail": ("unary_unary", fail)})
    channel.call("/test.Test/Fail", (b"",))
    at_once: Any = channel.reply
    outcome = channel.call("/test.Test/Fail", (b"later",))

    assert sent == at_once["headers"]["grpc-message"]
    assert f"grpc-message:{sent}\r\n".encode() in b64decode(channel.reply["body"])
    assert message == outcome.details


def test_many_spaces_in_a_message_take_no_longer_than_others() -> None:
    """Nothing goes over them twice."""
    text = ("a" + " " * 50_000) * 20 + "a"
    reply = GrpcWebResponder("", is_text=False).whole(WholeReply(Status(10, text)))

    assert text == dict(reply.headers)["grpc-message"]
