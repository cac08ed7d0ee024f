"""Connect: unary and streaming calls, in protobuf and JSON, as its clients send them."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from lambda_fn import LambdaServer
from lambda_fn.protocols.http_status import HTTP_STATUS
from tests.support import library
from tests.support.behaviours import SYNC
from tests.support.http_events import FRONT_ENDS, Answer, HttpCaller, Request, rest_api
from tests.support.lambda_channel import LambdaContextDouble, Serve, frame
from tests.support.library import message

PATH = f"/{library.SERVICE}"
PROTO = {"content-type": "application/proto", "connect-protocol-version": "1"}
JSON = {"content-type": "application/json", "connect-protocol-version": "1"}
STREAM = {"content-type": "application/connect+json", "connect-protocol-version": "1"}


@pytest.fixture(scope="module")
def server() -> Iterator[LambdaServer]:
    server = LambdaServer()
    library.add(server)
    yield server
    server.close()


@pytest.fixture
def http(server: LambdaServer) -> HttpCaller:
    return HttpCaller(server.handler)


def envelopes(answer: Answer) -> list[tuple[int, Any]]:
    """Flags and JSON of each envelope of a stream."""
    found, body = [], answer.body
    while body:
        end = 5 + int.from_bytes(body[1:5], "big")
        found.append((body[0], json.loads(body[5:end])))
        body = body[end:]
    return found


def test_a_unary_call_in_protobuf(http: HttpCaller) -> None:
    """The body is the message; metadata in headers, trailing metadata under `trailer-`."""
    book = message("Book", title="T", pages=3)
    http.send("POST", f"{PATH}/Plain", headers=PROTO)
    answer = http.send("POST", f"{PATH}/Plain", book.SerializeToString(), headers=PROTO)

    assert (200, book.SerializeToString()) == (answer.status, answer.body)
    assert {
        "content-type": "application/proto",
        "initial": "i",
        "trailer-trailing": "t",
        "trailer-trailing-bin": "AP8",
    } == answer.headers


def test_a_unary_call_in_json(http: HttpCaller) -> None:
    """By protobuf's mapping; fields without a value are left out, unknown ones are passed over."""
    answer = http.send("POST", f"{PATH}/Plain", b'{"title": "T", "pages": "3", "x": 1}', headers=JSON)

    assert (200, {"title": "T", "pages": "3"}) == (answer.status, answer.json)
    assert "application/json" == answer.headers["content-type"]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
@pytest.mark.parametrize("headers", [PROTO, JSON], ids=["proto", "json"])
def test_a_failed_call_is_a_json_error(http: HttpCaller, code: grpc.StatusCode, headers: dict[str, str]) -> None:
    """Under the HTTP status of its code, whatever the message format."""
    request = message("GetBookRequest", name=code.name)
    body = request.SerializeToString() if headers is PROTO else json.dumps({"name": code.name}).encode()
    answer = http.send("POST", f"{PATH}/Fail", body, headers=headers)
    spelled = "canceled" if code is grpc.StatusCode.CANCELLED else code.name.lower()

    assert (HTTP_STATUS[code.value[0]], "application/json") == (
        answer.status,
        answer.headers["content-type"],
    )
    assert {"code": spelled, "message": "as asked"} == answer.json
    assert "t" == answer.headers["trailer-trailing"]


def test_rich_details_are_in_the_error(http: HttpCaller) -> None:
    """Type name and bytes of each."""
    answer = http.send("POST", f"{PATH}/Fail", b'{"name": "detailed"}', headers=JSON)

    assert {
        "code": "failed_precondition",
        "message": "café",
        "details": [
            {"type": "google.protobuf.StringValue", "value": "CgN3aHk"},
            {"type": "no.such.Type", "value": "CAE"},
        ],
    } == answer.json
    assert "trailer-grpc-status-details-bin" not in answer.headers


@pytest.mark.parametrize("streams", [False, True], ids=["buffered", "streamed"])
def test_a_server_stream(server: LambdaServer, streams: bool) -> None:
    """Always 200: messages in envelopes, the last of which has the trailing metadata."""
    http = HttpCaller(server.handler, context=LambdaContextDouble(can_stream_replies=streams))
    answer = http.send("POST", f"{PATH}/WatchBooks", frame(b'{"shelf": "s", "pageSize": 2}'), headers=STREAM)

    assert (200, "application/connect+json") == (answer.status, answer.headers["content-type"])
    assert [
        (0, {"title": "s 0"}),
        (0, {"title": "s 1"}),
        (2, {"metadata": {"trailing": ["t"], "trailing-bin": ["AP8"]}}),
    ] == envelopes(answer)


def test_a_stream_that_fails_midway(http: HttpCaller) -> None:
    """What was sent stands; the end says the error."""
    body = frame(b'{"pageSize": 1, "tags": ["fail"]}')
    found = envelopes(http.send("POST", f"{PATH}/WatchBooks", body, headers=STREAM))

    assert (0, {"title": " 0"}) == found[0]
    assert {"code": "aborted", "message": "as asked"} == found[1][1]["error"]


def test_streams_of_requests(http: HttpCaller) -> None:
    """Gathered by the front end, read one by one; compressed ones inflated."""
    body = frame(b'{"title": "a"}') + frame(gzip.compress(b'{"title": "b"}'), flags=1)
    headers = STREAM | {"connect-content-encoding": "gzip"}

    assert {"title": "a+b"} == envelopes(http.send("POST", f"{PATH}/Upload", body, headers=headers))[0][1]
    assert [{"title": "a"}, {"title": "b"}] == [
        found for _, found in envelopes(http.send("POST", f"{PATH}/Chat", body, headers=headers))
    ][:2]


def test_a_stream_in_protobuf(http: HttpCaller) -> None:
    """The same envelopes around protobuf."""
    headers = STREAM | {"content-type": "application/connect+proto"}
    book = message("Book", title="T").SerializeToString()
    answer = http.send("POST", f"{PATH}/Chat", frame(book), headers=headers)

    assert answer.body.startswith(frame(book))
    assert frame(b"{}", flags=2) == answer.body[len(frame(book)) :]


# -- GET --


@pytest.mark.parametrize(
    "query",
    [
        "connect=v1&encoding=json&message=%7B%22name%22%3A%22x%22%7D",
        "connect=v1&encoding=json&base64=1&message=eyJuYW1lIjoieCJ9",
        "connect=v1&encoding=json&base64=1&compression=gzip&message="
        + urlsafe_b64encode(gzip.compress(b'{"name":"x"}')).decode().rstrip("="),
    ],
    ids=["plain", "base64", "compressed"],
)
@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
def test_a_method_without_side_effects_answers_get(server: LambdaServer, front_end: Any, query: str) -> None:
    """The message in the query."""
    answer = HttpCaller(server.handler, front_end).send("GET", f"{PATH}/GetBook?{query}")

    assert (200, {"name": "x"}) == (answer.status, answer.json)


@pytest.mark.parametrize(
    "text", ["eyJuYW1lIjoiPz8_Pj4-In0", "eyJuYW1lIjoiPz8%2FPj4%2BIn0%3D"], ids=["URL-safe", "usual"]
)
def test_base64_is_taken_in_either_alphabet(http: HttpCaller, text: str) -> None:
    """Python's URL-safe function, which takes both, warns from 3.15 on that it will not for ever."""
    answer = http.send("GET", f"{PATH}/GetBook?encoding=json&base64=1&message={text}")

    assert (200, {"name": "???>>>"}) == (answer.status, answer.json)


def test_other_methods_do_not_answer_get(http: HttpCaller) -> None:
    """A link must not change anything."""
    answer = http.send("GET", f"{PATH}/Plain?connect=v1&encoding=json&message={{}}")

    assert (405, "POST") == (answer.status, answer.headers["allow"])


# -- what does not fit --


@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        ("WatchBooks", "application/json"),
        ("WatchBooks", "application/proto"),
        ("Plain", "application/connect+proto"),
        ("WatchBooks", "application/connect+thrift"),
    ],
)
def test_the_wrong_content_type_gets_415(http: HttpCaller, method: str, content_type: str) -> None:
    """Unary ones for streams, the reverse, and formats that nobody knows."""
    headers = {"content-type": content_type}

    assert 415 == http.send("POST", f"{PATH}/{method}", b"{}", headers=headers).status


def test_another_verb_gets_405(http: HttpCaller) -> None:
    """A call is a POST."""
    answer = http.send("PUT", f"{PATH}/Plain", b"{}", headers=JSON)

    assert (405, "POST") == (answer.status, answer.headers["allow"])


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", {}, "invalid_argument"),
        (b'{"pages": "x"}', {}, "invalid_argument"),
        (b"{}", {"connect-protocol-version": "2"}, "invalid_argument"),
        (b"{}", {"connect-timeout-ms": "soon"}, "invalid_argument"),
        (b"{}", {"connect-timeout-ms": "12345678901"}, "invalid_argument"),
        (b"{}", {"content-encoding": "br"}, "unimplemented"),
        (
            gzip.compress(bytes(5 << 20), mtime=0),
            {"content-encoding": "gzip"},
            "resource_exhausted",
        ),
        (bytes(5 << 20), {}, "resource_exhausted"),
    ],
)
def test_a_request_that_cannot_be_read(http: HttpCaller, body: bytes, headers: dict[str, str], code: str) -> None:
    """The caller learns what, as of any failed call."""
    answer = http.send("POST", f"{PATH}/Plain", body, headers=JSON | headers)

    assert code == answer.json["code"]


def test_a_method_that_is_not_there_is_unimplemented(http: HttpCaller) -> None:
    """Of a service that is."""
    answer = http.send("POST", f"{PATH}/Nowhere", b"{}", headers=JSON)

    assert (501, "unimplemented") == (answer.status, answer.json["code"])


def test_without_descriptors_protobuf_still_works(serve: Serve) -> None:
    """Methods over plain bytes: JSON is what takes the descriptor."""
    http = HttpCaller(serve({"Echo": SYNC["Echo"]}).server.handler)

    assert b"echo hi" == http.send("POST", "/test.Test/Echo", b"hi", headers=PROTO).body
    assert 501 == http.send("POST", "/test.Test/Echo", b"{}", headers=JSON).status


# -- deadline, metadata, compression --


def _shows(request: bytes, context: Any) -> bytes:
    names = [name for name, _ in context.invocation_metadata()]
    return f"{sorted(names)} {context.time_remaining() <= 5}".encode()


def test_timeout_and_metadata_reach_the_servicer(serve: Serve) -> None:
    """connect-timeout-ms is the deadline; the protocol's own headers are not metadata."""
    http = HttpCaller(serve({"Shows": ("unary_unary", _shows)}).server.handler)
    headers = PROTO | {"connect-timeout-ms": "5000", "x-name": "v", "content-encoding": "identity"}

    assert b"['x-name'] True" == http.send("POST", "/test.Test/Shows", b"", headers=headers).body


def _compresses(request: bytes, context: Any) -> bytes:
    context.set_compression(grpc.Compression.Gzip)
    if request == b"secret":
        context.disable_next_message_compression()
    return bytes(1000)


def test_a_reply_is_compressed_where_the_method_says_so(serve: Serve) -> None:
    """And where the caller reads it; content-encoding says so."""
    http = HttpCaller(serve({"Compresses": ("unary_unary", _compresses)}).server.handler)
    headers = PROTO | {"accept-encoding": "br, gzip;q=0.8"}
    packed = http.send("POST", "/test.Test/Compresses", b"", headers=headers)
    secret = http.send("POST", "/test.Test/Compresses", b"secret", headers=headers)
    plain = http.send("POST", "/test.Test/Compresses", b"", headers=PROTO)

    assert ("gzip", bytes(1000)) == (
        packed.headers["content-encoding"],
        gzip.decompress(packed.body),
    )
    assert (None, bytes(1000)) == (secret.headers.get("content-encoding"), secret.body)
    assert (None, bytes(1000)) == (plain.headers.get("content-encoding"), plain.body)


def test_json_travels_as_text(server: LambdaServer) -> None:
    """An API without binary media types would hand out base64 as it is."""
    event = rest_api(Request("POST", f"{PATH}/Plain", '{"title": "é"}'.encode(), JSON))
    reply: Any = server.handler(event, None)

    assert (False, {"title": "é"}) == (reply["isBase64Encoded"], json.loads(reply["body"]))


def test_a_text_request_body_is_read(server: LambdaServer) -> None:
    """API Gateway hands JSON on as text."""
    event = rest_api(Request("POST", f"{PATH}/Plain", b"", JSON))
    reply: Any = server.handler(event | {"body": '{"title": "é"}', "isBase64Encoded": False}, None)

    assert {"title": "é"} == json.loads(reply["body"])


def test_grpc_web_may_carry_json_too(server: LambdaServer) -> None:
    """application/grpc-web+json, as Connect's clients can send it; a method without a descriptor gets what was sent."""
    headers = {"content-type": "application/grpc-web+json"}
    body = frame(b'{"title": "T"}')
    answer = HttpCaller(server.handler).send("POST", f"{PATH}/Plain", body, headers=headers)

    assert "application/grpc-web+json" == answer.headers["content-type"]
    assert answer.body.startswith(frame(b'{"title":"T"}'))


# -- what would be something else --


def test_the_bytes_of_a_get_need_no_base64(http: HttpCaller) -> None:
    """Percent-encoding holds any byte; what it decodes to is the message."""
    data = message("GetBookRequest", name="é" * 100).SerializeToString()
    answer = http.send("GET", f"{PATH}/GetBook?encoding=proto&message={quote(data, safe='')}")

    assert b"\xc8\x01" in data  # a length of 200: no UTF-8
    assert (200, data) == (answer.status, answer.body)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("connect=v2&encoding=json&message={}", "connect"),
        ("connect=&encoding=json&message={}", "connect"),
        ("connect=v1&encoding=json", "no message"),
        ("connect=v1&message={}", "no encoding"),
        ("encoding=json&message={}&message={}", "two values"),
        ("encoding=json&encoding=proto&message={}", "two values"),
        ("encoding=json&message={}&base64=yes", "base64"),
        ("encoding=json&message=e!30&base64=1", "base64"),
        ("encoding=json&message=e&base64=1", "base64"),
        ("encoding=json&message=%ff", "UTF-8"),
        ("encoding=json&message=%zz", "percent sign"),
        ("encoding=json&message=null", "null"),
        ("encoding=json&message=", "JSON"),
        ("encoding=proto&message=%ff", "deserializing"),
        ("encoding=json&message={}&compression=gzip", "gzip"),
        ("encoding=json&message=%1f%8b&compression=gzip", "gzip"),
    ],
)
def test_a_get_that_cannot_be_read_is_a_bad_request(http: HttpCaller, query: str, reason: str) -> None:
    answer = http.send("GET", f"{PATH}/GetBook?{query}")

    assert (400, "invalid_argument") == (answer.status, answer.json["code"])
    assert reason in answer.json["message"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("encoding=thrift&message={}", 415), ("encoding=json&message={}&compression=br", 501)],
)
def test_a_get_in_what_nobody_reads(http: HttpCaller, query: str, status: int) -> None:
    assert status == http.send("GET", f"{PATH}/GetBook?{query}").status


@pytest.mark.parametrize("content_type", ["application/proto", "application/connect+json", "application/connect+proto"])
def test_a_service_that_is_not_there_is_not_found(http: HttpCaller, content_type: str) -> None:
    """404, which Connect's clients read as unimplemented."""
    headers = {"content-type": content_type}

    assert 404 == http.send("POST", "/no.such.Service/Method", b"", headers=headers).status


@pytest.mark.parametrize("flavour", ["sync", "async"])
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\xff", b"\x0a\x01"])
def test_bad_protobuf_is_a_bad_request(caplog: pytest.LogCaptureFixture, flavour: str, body: bytes) -> None:
    """The mistake is the caller's: nothing is in the log."""

    async def answer(request: Any, context: Any) -> Any:
        return request

    server = LambdaServer()
    library.add(server, **({"Plain": answer} if flavour == "async" else {}))
    reply = HttpCaller(server.handler).send("POST", f"{PATH}/Plain", body, headers=PROTO)
    server.close()

    assert (400, "invalid_argument") == (reply.status, reply.json["code"])
    assert [] == caplog.records


@pytest.mark.parametrize("method", ["Upload", "Chat", "WatchBooks"])
@pytest.mark.parametrize(
    "body",
    [
        frame(b"\xff"),
        frame(b"")[:-1],
        frame(b"{}")[:-1],
        frame(b"") + b"\x00",
        frame(b"", flags=2),
        frame(b"", flags=1),
        frame(gzip.compress(b"", mtime=0) + b"x", flags=1),
        frame(gzip.compress(b"", mtime=0) * 2, flags=1),
        frame(gzip.compress(b"", mtime=0)[:-1], flags=1),
        frame(b"no gzip", flags=1),
        frame(b"", flags=4),
    ],
)
def test_a_stream_that_cannot_be_read(http: HttpCaller, method: str, body: bytes) -> None:
    """Bad protobuf, envelopes cut off or flagged as what a client does not send, compression that does not decode or
    does not end.
    """
    headers = STREAM | {
        "content-type": "application/connect+proto",
        "connect-content-encoding": "gzip",
    }
    answer = http.send("POST", f"{PATH}/{method}", body, headers=headers)
    flags, last = envelopes(answer)[-1]

    assert (200, 2) == (answer.status, flags)
    assert "invalid_argument" == last["error"]["code"]


def test_a_compressed_message_without_a_compression_is_internal(http: HttpCaller) -> None:
    """As in gRPC, and as connectrpc's suite has it."""
    answer = http.send("POST", f"{PATH}/Chat", frame(gzip.compress(b"{}"), flags=1), headers=STREAM)

    assert "internal" == envelopes(answer)[-1][1]["error"]["code"]


@pytest.mark.parametrize("body", [b"", frame(b"{}") * 2])
def test_a_server_stream_has_one_request(http: HttpCaller, body: bytes) -> None:
    """None and several are unimplemented, as in gRPC."""
    answer = http.send("POST", f"{PATH}/WatchBooks", body, headers=STREAM)
    (flags, last), *others = envelopes(answer)

    assert (2, []) == (flags, others)
    assert "unimplemented" == last["error"]["code"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(b"{}", mtime=0) + b"x", {"content-encoding": "gzip"}),
        (gzip.compress(b"{}", mtime=0) * 2, {"content-encoding": "gzip"}),
        (gzip.compress(b"{}", mtime=0)[:-1], {"content-encoding": "gzip"}),
        (zlib.compress(b"{}") + b"x", {"content-encoding": "deflate"}),
        (b"{}", {"content-encoding": "gzip"}),
        (b"{}", {"x-data-bin": "!"}),
        (b"{}", {"connect-timeout-ms": "-1"}),
        (b"{}", {"connect-timeout-ms": ""}),
        (b"{}", {"connect-timeout-ms": "1.5"}),
        (b"[" * 100_000, {}),
        (b"null", {}),
        (b"[]", {}),
        (b'"x"', {}),
        (b"", {}),
        (b'{"title": "a", "title": "b"}', {}),
        (b'{"cover": "Y!Q"}', {}),
        (b'{"pages": 9007199254740992.5}', {}),
        (b'{"title": "\xff"}', {}),
    ],
)
def test_a_unary_call_that_cannot_be_read_is_a_bad_request(
    http: HttpCaller, caplog: pytest.LogCaptureFixture, body: bytes, headers: dict[str, str]
) -> None:
    """400 with the reason, and nothing in the log."""
    answer = http.send("POST", f"{PATH}/Plain", body, headers=JSON | headers)

    assert (400, "invalid_argument") == (answer.status, answer.json["code"])
    assert [] == caplog.records


def test_the_largest_float(http: HttpCaller) -> None:
    """As every language prints it."""
    answer = http.send("POST", f"{PATH}/Choose", b'{"weight": 3.4028235e+38}', headers=JSON)

    assert (200, {"weight": 3.4028235e38}) == (answer.status, answer.json)
